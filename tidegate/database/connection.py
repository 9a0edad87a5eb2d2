"""The three ways to run statements, PostgreSQL and SQLite alike: one statement, a transaction, batched."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, overload

from sqlalchemy import Connection, Executable, Row, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.selectable import TypedReturnsRows

from tidegate.database.circuit_breaker import CircuitBreaker, Watchdog
from tidegate.database.engines import (
    EACH_ALONE,
    TAKES_LONG,
    postgresql_engine,
    sqlite_engine,
    stopped_after,
    takes_writes,
)
from tidegate.database.group_commit import GroupCommit
from tidegate.database.sessions import BY_INDEX_ORDER, Sessions, wanted_options
from tidegate.database.statement import Prepared, PreparedRunner, replace_pooled
from tidegate.errors import DatabaseUnreachableError

UNREACHABLE = (DatabaseUnreachableError, PoolTimeoutError)
"""What statements raise while the database can't be reached, is locked, full or read-only: another try may do. Which
errors of a driver these are is said in `driver_errors`."""

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
AnyRow: TypeAlias = Row[*tuple[Any, ...]]
_Values: TypeAlias = Mapping[str, Any]
_BUSY_TIMEOUT = timedelta(seconds=10)
_TRIES = 3


class Database:
    """An SQLAlchemy engine with the three ways to run statements, a watchdog and a circuit breaker.

    `fetch_one`, `fetch_all` and `execute` run one statement, `transaction` holds several together, `batched` shares a
    transaction with other threads.

    SQLite has one writer at a time. A writer that waits inside SQLite polls and may starve, so the threads of
    a process queue for a lock of ours first, and only processes meet at SQLite's own.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        patience: timedelta | None = None,
        busy_timeout: timedelta = _BUSY_TIMEOUT,
        sessions: Sessions | None = None,
    ) -> None:
        """Makes the engine and its pool; connects at the first use.

        `busy_timeout`: how long a writer waits for SQLite's lock before it is refused.
        `patience`: for callers who must have an answer. A PostgreSQL server that says nothing for so long is given up,
        and then refused at once until it is back. Without it a statement waits as long as it takes.
        `sessions`: how connections to PostgreSQL are made, where something lies between.
        """
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = (
            sqlite_engine(url, pool_size, busy_timeout.total_seconds())
            if self.is_sqlite
            else postgresql_engine(url, pool_size, patience, sessions)
        )
        # Where there are some a statement that stands alone is a transaction, too: it would not have them.
        self._options = {} if self.is_sqlite else (sessions or Sessions()).share(wanted_options(patience))[1]
        self._single = self.engine.execution_options(**{EACH_ALONE: True})
        self._long = self.engine.execution_options(**{TAKES_LONG: True, EACH_ALONE: True})
        self._writer = threading.RLock() if self.is_sqlite else None
        self._group = GroupCommit(self.transaction, self._writer) if self._writer else None
        impatient = patience is not None and not self.is_sqlite
        self._watchdog = Watchdog(patience.total_seconds()) if patience and impatient else None
        if self._watchdog:
            watchdog = self._watchdog
            touch = lambda connection, *_: watchdog.touch(_driver(connection))  # noqa: E731 - for events of two signatures
            event.listen(self.engine, "before_cursor_execute", touch)
            event.listen(self.engine, "commit", touch)
        self._prepared = PreparedRunner(self.engine, self._watched)
        self._breaker = CircuitBreaker(self._probe, _is_lost_connection) if impatient else None

    @overload
    def fetch_one(
        self, statement: Prepared[T], values: _Values | None = None, *, within: Connection | None = None
    ) -> T | None: ...
    @overload
    def fetch_one(
        self, statement: TypedReturnsRows[*Ts], values: _Values | None = None, *, limit: timedelta | None = None
    ) -> Row[*Ts] | None: ...
    @overload
    def fetch_one(
        self, statement: Executable, values: _Values | None = None, *, limit: timedelta | None = None
    ) -> AnyRow | None: ...
    def fetch_one(
        self,
        statement: Prepared[T] | Executable,
        values: _Values | None = None,
        *,
        within: Connection | None = None,
        limit: timedelta | None = None,
    ) -> T | AnyRow | None:
        """As `fetch_all`, for a statement that returns one row at the most; None: there is none."""
        if isinstance(statement, Prepared):
            return next(iter(self._run(self._prepared.fetch, statement, values, within)), None)
        return next(iter(self.fetch_all(statement, values, limit=limit)), None)

    @overload
    def fetch_all(
        self, statement: Prepared[T], values: _Values | None = None, *, within: Connection | None = None
    ) -> list[T]: ...
    @overload
    def fetch_all(
        self, statement: TypedReturnsRows[*Ts], values: _Values | None = None, *, limit: timedelta | None = None
    ) -> Sequence[Row[*Ts]]: ...
    @overload
    def fetch_all(
        self, statement: Executable, values: _Values | None = None, *, limit: timedelta | None = None
    ) -> Sequence[AnyRow]: ...
    def fetch_all(
        self,
        statement: Prepared[T] | Executable,
        values: _Values | None = None,
        *,
        within: Connection | None = None,
        limit: timedelta | None = None,
    ) -> list[T] | Sequence[AnyRow]:
        """Runs one statement and returns its rows: of a prepared one what its `read` makes of each.

        It is its own transaction and, on PostgreSQL without a pooler, one round trip; on SQLite one that is no SELECT
        takes the write lock first. A prepared one may be part of a transaction instead: `within`. `limit`: for a query
        that may take long (a list, a sample, a count); at the limit the database stops it and DatabaseTooSlowError is
        raised, which says nothing of other queries.
        """
        if isinstance(statement, Prepared):
            return self._run(self._prepared.fetch, statement, values, within)
        with self._alone(statement, limit) as connection:
            return connection.execute(statement, values).all()

    def fetch_in_order(self, statement: Executable, *, limit: timedelta) -> Sequence[AnyRow]:
        """As `fetch_all` with a limit, for a query whose rows come in the order of an index: none is read to be sorted.

        By its statistics PostgreSQL may take them for a few that are sorted at once, when they are many by now.
        """
        with self._alone(statement, limit, in_order=True) as connection:
            return connection.execute(statement).all()

    def execute(
        self, statement: Prepared[Any] | Executable, values: _Values | None = None, *, within: Connection | None = None
    ) -> int:
        """As `fetch_all`, for a statement of which only the number of rows that it wrote is wanted."""
        if isinstance(statement, Prepared):
            return self._run(self._prepared.execute, statement, values, within)
        with self._alone(statement) as connection:
            return connection.execute(statement, values).rowcount

    def _run(
        self,
        run: Callable[[Prepared[T], _Values, Connection | None], R],
        prepared: Prepared[T],
        values: _Values | None,
        within: Connection | None,
    ) -> R:
        if within is not None:
            return run(prepared, values or {}, within)

        def in_a_transaction() -> R:
            with self.transaction() as connection:
                return run(prepared, values or {}, connection)

        if self.is_sqlite and prepared.writes_on_sqlite:
            return in_a_transaction()
        if self._options:
            return _repeated(in_a_transaction)
        with self._guarded():
            return _repeated(lambda: run(prepared, values or {}, None))

    @contextmanager
    def _alone(
        self, statement: Executable, limit: timedelta | None = None, *, in_order: bool = False
    ) -> Iterator[Connection]:
        """A connection for this statement alone."""
        if limit is not None:
            with (
                self._guarded(),
                self._long.connect() as connection,
                self._watched(_driver(connection), limit),
                stopped_after(connection, limit, {**self._options, **(BY_INDEX_ORDER if in_order else {})}),
            ):
                yield connection
        elif self._options or (self.is_sqlite and not statement.is_select):
            with self.transaction() as connection:
                yield connection
        else:
            with self._guarded(), self._single.connect() as connection, self._watched(_driver(connection)):
                yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction that may write: committed at the end, rolled back on an exception.

        On SQLite it has the write lock from its beginning (BEGIN IMMEDIATE): a transaction that reads first and
        asks for the lock later fails at once when another writer was faster, whatever the busy timeout.
        """
        with (
            self._guarded(),
            self._writer or nullcontext(),
            self.engine.connect() as connection,
            self._watched(_driver(connection)),
            connection.begin(),
        ):
            yield connection

    def batched(self, write: Callable[[Connection], T]) -> T:
        """Runs `write` in a transaction that other threads may share; returns its answer once that is committed.

        What it raises undoes what it did.
        `write` may be called again: on SQLite, where threads that meet share the transaction, when another of them
        failed; on PostgreSQL when it was in the way of another transaction.
        """
        if self._group:
            return self._group.run(write)

        def run() -> T:
            with self.transaction() as connection:
                return write(connection)

        return _repeated(run)

    def check_writable(self) -> None:
        """Raises DatabaseUnreachableError when the database takes no writes; nothing is written.

        A server that became read-only goes on answering on connections that are open: they are dropped, for behind its
        name there may be another by now.
        """
        with self._guarded(), self._single.connect() as connection, self._watched(_driver(connection)):
            if not takes_writes(connection):
                replace_pooled(self.engine, connection.connection)
                connection.invalidate()
                raise DatabaseUnreachableError("the database is read-only")

    def _guarded(self) -> AbstractContextManager[None]:
        return self._breaker.guarding() if self._breaker else nullcontext()

    def _watched(self, driver: object, more: timedelta = timedelta(0)) -> AbstractContextManager[None]:
        return self._watchdog.watching(driver, more.total_seconds()) if self._watchdog else nullcontext()

    def _probe(self) -> None:
        """Runs SELECT 1 on a new connection: those of the pool may all be busy, or lost."""
        pool = self.engine.pool.recreate()
        connection = pool.connect()
        try:
            with self._watched(connection.driver_connection):
                connection.cursor().execute("SELECT 1")
        finally:
            connection.close()
            pool.dispose()

    def close(self) -> None:
        """Closes every pooled connection."""
        if self._breaker:
            self._breaker.close()
        self.engine.dispose()


@contextmanager
def after_a_write() -> Iterator[None]:
    """Within it a lost database raises an error that says `may_be_done`: part of the request is written already."""
    try:
        yield
    except UNREACHABLE as error:
        raise DatabaseUnreachableError(str(error), may_be_done=True) from error


def _driver(connection: Connection) -> object:
    return connection.connection.driver_connection


def _is_lost_connection(error: Exception) -> bool:
    """Whether the connection failed, and not the statement: only then may the whole database be out of reach."""
    return isinstance(error, PoolTimeoutError) or (
        isinstance(error, DatabaseUnreachableError) and error.connection_lost
    )


def _repeated(run: Callable[[], T]) -> T:
    """Runs again, a few times, what was the victim of a deadlock or a serialization conflict."""
    for _ in range(_TRIES - 1):
        try:
            return run()
        except DatabaseUnreachableError as error:
            if not error.was_in_the_way:
                raise
    return run()
