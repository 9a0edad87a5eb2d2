"""How each kind of database is connected to."""

import sqlite3
from contextlib import suppress

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import OperationalError

from tidegate import clock
from tidegate.errors import DatabaseUnreachableError

EACH_ALONE = "tidegate_each_statement_alone"
"""Execution option of a connection on which no transaction is to be begun."""

NOT_BY_INDEX = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
"""Settings of PostgreSQL, off for us. All that we ask has an index to go by, and PostgreSQL does not know it: its
statistics of a queue are of a time when other rows were there, and a plan that it keeps is of that time, too."""

STOOD_STILL = "this process stood still and the database went on without it"

_BUSY_LOOK_SECONDS = 0.001
_CONNECT_TIMEOUT_SECONDS = 2
_LONGEST_PAUSE_SECONDS = 5
_FIRST_WITH_CLIENT_CHECKS = 140_000


def sqlite_engine(url: str, pool_size: int, busy_timeout_seconds: float) -> Engine:
    """Writers take the lock at the beginning of a transaction and wait for it at most so long."""
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

    return engine


def _begin(connection: Connection, timeout_seconds: float) -> None:
    """Takes SQLite's write lock, as soon as it is free; raises OperationalError when it is not for so long.

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
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from error
            else:
                return
            clock.sleep(_BUSY_LOOK_SECONDS)
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(1000 * timeout_seconds)}")


def stood_still(error: BaseException) -> bool:
    """Whether PostgreSQL ended a transaction that said nothing for too long. The driver counts that as an internal
    error; it is a connection that was lost, and another try may do."""
    return isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout)


def postgresql_engine(url: str, pool_size: int) -> Engine:
    """No connection stays silent for ever, and none holds a lock while it stands still."""
    # A process that stands still in the middle of a transaction must not hold its lane or job for long.
    pause = f"idle_in_transaction_session_timeout={_LONGEST_PAUSE_SECONDS}s"
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size * 2,
        pool_use_lifo=True,  # what was used last is warm: caches, plans, the server's process
        pool_timeout=_CONNECT_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "tidegate",
            # The driver begins no transaction by itself: a statement that stands alone is one round trip.
            "autocommit": True,
            "options": " ".join(f"-c {setting}" for setting in (pause, *(f"{name}=off" for name in NOT_BY_INDEX))),
            # A server whose machine is gone never says so: without these its callers would wait a quarter of an hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # milliseconds; only Linux has it, others ignore it
        },
    )

    @event.listens_for(engine, "connect")
    def stop_for_nobody(connection: psycopg.Connection, _record: object) -> None:
        if connection.info.server_version >= _FIRST_WITH_CLIENT_CHECKS:
            # Not as one of the options, which an older server, or one on a system without it, would refuse.
            with suppress(psycopg.Error):
                connection.execute("SET client_connection_check_interval = '1s'")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(EACH_ALONE):
            connection.exec_driver_sql("BEGIN")

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        if stood_still(context.original_exception):
            context.is_disconnect = True
            raise DatabaseUnreachableError(STOOD_STILL)

    return engine
