"""Instants as a column type, and the database's clock as SQL expressions. PostgreSQL and SQLite alike."""

from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import BigInteger, Dialect, select, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

from tidegate import clock
from tidegate.clock import MICROSECOND
from tidegate.database.statement import Prepared


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole microseconds since 1970.

    One number on both databases: the same arithmetic, indexes and exactness everywhere, where SQLite
    has no type for time at all.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else clock.to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else clock.from_microseconds(value)


class _DatabaseNow(GenericFunction[int]):
    type = BigInteger()
    name = "tidegate_now"
    inherit_cache = True


@compiles(_DatabaseNow, "postgresql")
def _postgresql_now(element: _DatabaseNow, compiler: Any, **kw: Any) -> str:  # noqa: ARG001 - SQLAlchemy's signature
    # clock_timestamp() and never now(): now() is the transaction's beginning, before it waited for its locks.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


class _StatementNow(GenericFunction[int]):
    type = BigInteger()
    name = "tidegate_statement_now"
    inherit_cache = True


@compiles(_StatementNow)
def _any_now(element: _StatementNow, compiler: Any, **kw: Any) -> Any:  # noqa: ARG001 - SQLAlchemy's signature
    return compiler.process(_DatabaseNow(), **kw)


@compiles(_StatementNow, "postgresql")
def _postgresql_statement_now(element: _StatementNow, compiler: Any, **kw: Any) -> str:  # noqa: ARG001 - SQLAlchemy's signature
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)"


def database_now(later_by: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's clock at this moment of the statement (clock_timestamp()), as an SQL expression."""
    return _instant(_DatabaseNow(), later_by)


def statement_now(later_by: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's clock at the beginning of the statement (statement_timestamp()): the bound of an index search.

    An index can be searched up to it. `database_now` is another at each row, so that every entry would be read.
    """
    return _instant(_StatementNow(), later_by)


def _instant(now: ColumnElement[int], later_by: timedelta) -> ColumnElement[datetime]:
    microseconds = later_by // MICROSECOND
    return type_coerce(now + microseconds if microseconds else now, Instant())


CLOCK = Prepared(select(database_now().label("now")), lambda row: cast("datetime", row["now"]))
"""Reads the database's clock."""
