"""SQLAlchemy engines for PostgreSQL and SQLite: pools, timeouts, pragmas, transactions, translated errors."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event

from tidegate import clock
from tidegate.database.driver_errors import is_read_only, translated
from tidegate.database.sessions import (
    Sessions,
    begin_with,
    complete_sessions,
    milliseconds,
    replace_dead_connections,
    wanted_options,
)
from tidegate.errors import DatabaseUnreachableError

EACH_ALONE = "tidegate_each_statement_alone"
"""Execution option of a connection on which no transaction is to be begun."""

TAKES_LONG = "tidegate_takes_long"
"""Execution option of a connection whose statements have a time limit of their own."""

_BUSY_LOOK_SECONDS = 0.001
_CONNECT_TIMEOUT_SECONDS = 2
_DROP_SECONDS = 1.0
_STEPS_BETWEEN_LOOKS = 10_000


def sqlite_engine(url: str, pool_size: int, busy_timeout_seconds: float) -> Engine:
    """Makes an engine for SQLite: WAL, synchronous=FULL, and BEGIN IMMEDIATE, which waits at most so long."""
    engine = create_engine(
        url,
        connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False, "isolation_level": None},
        pool_size=pool_size,
        max_overflow=pool_size * 2,
        pool_use_lifo=True,  # what was used last is warm: caches, plans, the server's process
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
        if not connection.get_execution_options().get(EACH_ALONE):
            _begin(connection, busy_timeout_seconds)

    event.listen(engine, "handle_error", _translated)
    return engine


def _begin(connection: Connection, timeout_seconds: float) -> None:
    """Takes SQLite's write lock (BEGIN IMMEDIATE); raises OperationalError when it is not free for so long.

    SQLite's own waiting sleeps ever longer, up to 100 ms a try: between several processes that write often, one of them
    starves for a second (measured). Tries of even distance share the lock fairly.
    """
    until = clock.monotonic() + timeout_seconds
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"only SQLite's own driver is known here, not {type(driver).__name__}")
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock.monotonic() >= until:
                    raise (translated(error, sql="BEGIN IMMEDIATE") or error) from error
            else:
                return
            clock.sleep(_BUSY_LOOK_SECONDS)
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(1000 * timeout_seconds)}")


class ReadOnly:
    """Decides when to drop the pooled connections of a server that became read-only.

    They are alive, but behind the one name there may be another server by now. Once a second at the most, or each
    refused write would cost a connection.
    """

    def __init__(self) -> None:
        self._dropped_at = float("-inf")

    def drops(self, error: BaseException) -> bool:
        """Whether the pool is to be dropped because of this error."""
        now = clock.monotonic()
        if not is_read_only(error) or now - self._dropped_at < _DROP_SECONDS:
            return False
        self._dropped_at = now
        return True


@contextmanager
def stopped_after(connection: Connection, limit: timedelta, options: Mapping[str, str]) -> Iterator[None]:
    """Sets a time limit for the statement within it.

    On PostgreSQL that is in a transaction of its own with these `options`: the limit ends with it, whoever has the
    session next.
    """
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        until = clock.monotonic() + limit.total_seconds()
        driver.set_progress_handler(lambda: clock.monotonic() >= until, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)
    else:
        with connection.begin():
            # At once, in one round trip: the engine begins no transaction where each statement stands alone.
            connection.exec_driver_sql(begin_with({**options, "statement_timeout": str(milliseconds(limit))}))
            yield


def takes_writes(connection: Connection) -> bool:
    """Whether the database takes writes, as far as that can be known without writing."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        # "on" for a standby, too.
        return bool(connection.exec_driver_sql("SELECT current_setting('transaction_read_only') = 'off'").scalar_one())
    (patience,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        driver.execute("BEGIN IMMEDIATE")
        try:
            driver.execute("PRAGMA user_version = 0")  # BEGIN alone succeeds on a read-only file
        finally:
            driver.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY  # somebody writes at this moment
    finally:
        driver.execute(f"PRAGMA busy_timeout = {patience}")
    return True


def postgresql_engine(
    url: str, pool_size: int, patience: timedelta | None = None, sessions: Sessions | None = None
) -> Engine:
    """Makes an engine for PostgreSQL whose connections time out: none is silent for ever or idles with a lock.

    `patience`: how long its user waits for an answer. `sessions`: what lies between; left out: nothing.
    """
    sessions = sessions or Sessions()
    once, each_time = sessions.share(wanted_options(patience))
    size, beyond = sessions.pool(pool_size)
    engine = create_engine(
        url,
        pool_size=size,
        max_overflow=beyond,
        pool_use_lifo=True,  # what was used last is warm: caches, plans, the server's process
        pool_timeout=_CONNECT_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "tidegate",
            # The driver begins no transaction by itself: a statement that stands alone is one round trip.
            "autocommit": True,
            "prepare_threshold": sessions.prepare_threshold,
            # Some poolers refuse the word alone.
            **({"options": " ".join(f"-c {name}={value}" for name, value in once.items())} if once else {}),
            # A machine that is gone closes no connection: without keepalives callers would wait a quarter of an hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # milliseconds; only Linux has it, others ignore it
        },
    )
    replace_dead_connections(engine)
    if once:
        complete_sessions(engine, once)
    first = begin_with(each_time)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(EACH_ALONE):
            connection.exec_driver_sql(first)

    read_only = ReadOnly()

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> BaseException | None:
        error = _translated(context)
        if isinstance(error, DatabaseUnreachableError):
            context.is_disconnect = error.connection_lost or read_only.drops(context.original_exception)
        return error

    return engine


def _translated(context: ExceptionContext) -> BaseException | None:
    options = context.connection.get_execution_options() if context.connection else {}
    # Without a statement it was the COMMIT; without a connection there was nothing to send.
    sql = None if context.connection is None else context.statement or "COMMIT"
    return translated(
        context.original_exception,
        sql=sql,
        # A query with a time limit only reads: its COMMIT can't leave anything half known.
        commits=(context.statement is None or bool(options.get(EACH_ALONE))) and not options.get(TAKES_LONG),
        takes_long=bool(options.get(TAKES_LONG)),
    )
