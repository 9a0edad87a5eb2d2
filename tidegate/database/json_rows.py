"""Several rows as one parameter of a statement, on PostgreSQL: as a JSON text, which of all ways costs least.

`given_rows` is the table that the text stands for, `as_parameter` makes the text.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import ARRAY, JSON, ColumnElement, Text, any_, bindparam, cast, column, func, literal, select
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

MOST_ROWS = 32
"""As many as threads share one statement for."""
SMALL = 65_536
"""The most bytes that are worth a place in a shared statement: nobody waits while another's megabytes are sent."""
PARAMETER = "given_rows"
"""The name of the parameter."""


def given_rows(columns: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """The rows that the parameter holds, with these columns."""
    text = cast(bindparam(PARAMETER, type_=Text()), JSON)
    rows = func.json_to_recordset(text).table_valued(*(column(name, kind) for name, kind in columns.items()))
    return rows.render_derived("given", with_types=True)


def is_one_of(key: ColumnElement[Any], wanted: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a key is among those of some other rows. To be said beside the join with them.

    A join alone may be made from either side, and PostgreSQL begins at the table when it takes that for small: its
    plan was made when it was, and then each claim reads a backlog. With the keys in its hand it looks them up.
    """
    return key == any_(func.array(select(wanted).scalar_subquery(), type_=ARRAY(key.type)))


def as_text(content: bytes) -> str:
    """Bytes, as one of the values; `as_bytes` reads them in the statement."""
    return base64.b64encode(content).decode()


def as_bytes(text: ColumnElement[str]) -> ColumnElement[bytes]:
    """What `as_text` made a text of."""
    return func.decode(text, literal("base64"))


def as_parameter(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The rows as the statement takes them. Their values are what JSON knows: numbers, texts, truth, nothing."""
    return {PARAMETER: orjson.dumps(list(rows)).decode()}
