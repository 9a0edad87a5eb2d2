"""Many rows as one JSON parameter of a PostgreSQL statement (json_to_recordset): the cheapest way that was measured.

`given_rows` is the table that the text stands for, `as_parameter` makes the text.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from sqlalchemy import ARRAY, JSON, ColumnElement, Text, any_, bindparam, cast, column, func, literal, select
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

T = TypeVar("T")

MOST_ROWS = 32
"""As many as threads share one statement for."""
_AT_ONCE = 100
"""As many as are given to one statement that joins with them, where there may be a thousand."""
SMALL = 65_536
"""The most bytes that are worth a place in a batched statement: nobody waits while another's megabytes are sent."""
PARAMETER = "given_rows"
"""The name of the parameter."""


def given_rows(
    columns: Mapping[str, TypeEngine[Any]], parameter: str = PARAMETER, name: str = "given"
) -> TableValuedAlias:
    """The parameter's rows as a table of this name with these columns, to join with."""
    text = cast(bindparam(parameter, type_=Text()), JSON)
    rows = func.json_to_recordset(text).table_valued(*(column(name, kind) for name, kind in columns.items()))
    return rows.render_derived(name, with_types=True)


def is_one_of(key: ColumnElement[Any], wanted: ColumnElement[Any]) -> ColumnElement[bool]:
    """key = ANY (array of the wanted ones): a condition to add beside a join with those rows.

    A join alone may be made from either side, and PostgreSQL begins at the table when it takes that for small: its
    plan was made when it was, and then each claim reads a backlog. With the keys in its hand it looks them up.
    """
    return key == any_(func.array(select(wanted).scalar_subquery(), type_=ARRAY(key.type)))


def in_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many of these at a time as one statement should be given.

    PostgreSQL takes the parameter's rows for few, and compares each of them with each row that it finds for them: the
    time of a thousand at once would be that of their square.
    """
    for first in range(0, len(rows), _AT_ONCE):
        yield rows[first : first + _AT_ONCE]


def as_text(content: bytes) -> str:
    """Encodes bytes as base64, for a value of a row; `as_bytes` decodes it in the statement."""
    return base64.b64encode(content).decode()


def as_bytes(text: ColumnElement[str]) -> ColumnElement[bytes]:
    """Decodes in SQL what `as_text` encoded."""
    return func.decode(text, literal("base64"))


def as_parameter(rows: Iterable[Mapping[str, Any]], parameter: str = PARAMETER) -> dict[str, str]:
    """Encodes the rows as the statement's JSON parameter.

    Their values are what JSON knows: numbers, texts, booleans, null.
    """
    return {parameter: orjson.dumps(list(rows)).decode()}
