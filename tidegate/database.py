"""Connections to the database, its clock, and the two kinds of transaction. PostgreSQL and SQLite alike."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    select,
    type_coerce,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

from tidegate import clock
from tidegate.errors import DatabaseUnreachableError
from tidegate.patience import Breaker, Watchdog

UNREACHABLE = (OperationalError, InterfaceError, PoolTimeoutError, DatabaseUnreachableError)
"""What statements raise while the database can't be reached, is locked or full: another try may do."""

_MICROSECOND = timedelta(microseconds=1)
_BUSY_TIMEOUT_SECONDS = 10
_CONNECT_TIMEOUT_SECONDS = 2
_LONGEST_PAUSE_SECONDS = 5
_EACH_ALONE = "tidegate_each_statement_alone"


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


def database_now(later_by: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's clock at this moment of the statement, as an SQL expression."""
    microseconds = later_by // _MICROSECOND
    return type_coerce(_DatabaseNow() + microseconds if microseconds else _DatabaseNow(), Instant())


def later_of(instant: ColumnElement[Any], delta: timedelta) -> ColumnElement[datetime]:
    """`instant + delta` as an SQL expression."""
    return type_coerce(type_coerce(instant, BigInteger) + delta // _MICROSECOND, Instant())


class Database:
    """An engine with the transactions that Tidegate uses.

    SQLite has one writer at a time. A writer that waits inside SQLite polls and may starve, so the threads of
    a process queue for a lock of ours first, and only processes meet at SQLite's own.
    """

    def __init__(self, url: str, *, pool_size: int = 10, patience: timedelta | None = None) -> None:
        """`patience`: for callers who must have an answer. A PostgreSQL server that says nothing for so long is
        given up, and then refused at once until it is back. Without it a statement waits as long as it takes."""
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url, pool_size) if self.is_sqlite else _postgresql_engine(url, pool_size)
        self._single = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = threading.RLock() if self.is_sqlite else None
        impatient = patience is not None and not self.is_sqlite
        self._watchdog = Watchdog(patience.total_seconds()) if patience and impatient else None
        if self._watchdog:
            watchdog = self._watchdog
            event.listen(self.engine, "before_cursor_execute", lambda connection, *_: watchdog.touch(connection))
            event.listen(self.engine, "commit", watchdog.touch)
        self._breaker = Breaker(self._probe, _is_lost_connection) if impatient else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single SELECTs, each its own snapshot."""
        with self._guarded(), self._single.connect() as connection, self._watched(connection):
            yield connection.execution_options(**{_EACH_ALONE: True})

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that may write: committed at the end, rolled back on an exception.

        On SQLite it has the write lock from its beginning (BEGIN IMMEDIATE): a transaction that reads first and
        asks for the lock later fails at once when another writer was faster, whatever the busy timeout.
        """
        with (
            self._guarded(),
            self._writer or nullcontext(),
            self.engine.connect() as connection,
            self._watched(connection),
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def single_write(self) -> Iterator[Connection]:
        """A connection for writes that are each a transaction of their own: half the round trips of `writing`."""
        with self._writer or nullcontext(), self.reading() as connection:
            yield connection

    def _guarded(self) -> AbstractContextManager[None]:
        return self._breaker.guarding() if self._breaker else nullcontext()

    def _watched(self, connection: Connection) -> AbstractContextManager[None]:
        return self._watchdog.watching(connection) if self._watchdog else nullcontext()

    def _probe(self) -> None:
        with self._single.connect() as connection, self._watched(connection):
            connection.execute(select(1))

    def close(self) -> None:
        """Closes every pooled connection."""
        if self._breaker:
            self._breaker.close()
        self.engine.dispose()


def _is_lost_connection(error: Exception) -> bool:
    """Whether the connection, and not the statement, failed."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or error.statement is None
    return isinstance(error, PoolTimeoutError)


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT_SECONDS, "check_same_thread": False, "isolation_level": None},
        pool_size=pool_size,
        max_overflow=pool_size * 2,
        hide_parameters=True,  # else callers' bodies and headers would stand in the log of every error
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.create_function("tidegate_now", 0, lambda: clock.to_microseconds(clock.now()))
        # FULL, not NORMAL: a 202 must survive a power failure, and NORMAL may lose the last commits.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_EACH_ALONE):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size * 2,
        pool_timeout=_CONNECT_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "tidegate",
            # A process that stands still in the middle of a transaction must not hold its lane or job for long.
            "options": f"-c idle_in_transaction_session_timeout={_LONGEST_PAUSE_SECONDS}s",
            # A server whose machine is gone never says so: without these its callers would wait a quarter of an hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # milliseconds; only Linux has it, others ignore it
        },
    )

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        # psycopg counts it as an internal error; it is a connection that was lost, and another try may do.
        if isinstance(context.original_exception, psycopg.errors.IdleInTransactionSessionTimeout):
            context.is_disconnect = True
            raise DatabaseUnreachableError("this process stood still and the database went on without it")

    return engine
