"""Prepared statements: hot SQLAlchemy statements, compiled once and given straight to the driver.

Building and wrapping such a statement each time costs more than the database needs to answer it.
A `Prepared` is written in SQLAlchemy's language like any other statement, compiled once for each kind of database, and
then given to the driver as it is. `Database.fetch_one` runs it; what that saves stands in docs/decisions.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import BindParameter, Connection, Dialect, Engine, PoolProxiedConnection, SelectBase, UpdateBase
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from tidegate.database.driver_errors import translated
from tidegate.database.engines import ReadOnly
from tidegate.errors import DatabaseUnreachableError

T = TypeVar("T")
R = TypeVar("R")
_Convert = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Prepared(Generic[T]):
    """A statement to compile once. `read` makes a value of each row, whose columns it gets by name.

    The columns are converted as SQLAlchemy would. Run alone, it is its own transaction. `on_sqlite`: another wording
    for SQLite, where SQLAlchemy can't translate it.
    """

    statement: SelectBase | UpdateBase
    read: Callable[[Mapping[str, Any]], T]
    on_sqlite: SelectBase | UpdateBase | None = None

    def for_dialect(self, dialect: Dialect) -> SelectBase | UpdateBase:
        """The wording of the statement for this dialect."""
        return self.statement if self.on_sqlite is None or dialect.name != "sqlite" else self.on_sqlite

    @property
    def writes_on_sqlite(self) -> bool:
        """Whether it needs SQLite's write lock: there a SELECT can't hold an INSERT."""
        return isinstance(self.statement if self.on_sqlite is None else self.on_sqlite, UpdateBase)


def sql_of(prepared: Prepared[Any], dialect: Dialect) -> str:
    """The statement's text for this dialect, as the driver gets it."""
    return str(_with_literals(prepared.for_dialect(dialect), dialect))


def required(answer: T | None) -> T:
    """The row of a statement that always returns one; LookupError when it returned none."""
    if answer is None:
        raise LookupError("the database did what it was asked and said nothing")
    return answer


def replace_pooled(engine: Engine, lost: PoolProxiedConnection) -> None:
    """Marks every pooled connection that is as old as a lost one for replacement at its next checkout.

    They are of the same server. SQLAlchemy's own connections do it so; `Engine.dispose` would leave those that are
    checked out to nobody.
    """
    engine.pool._invalidate(lost, _checkin=False)  # noqa: SLF001


class PreparedRunner:
    """Runs prepared statements on an engine's pooled connections. `watching`: a watchdog's context around each."""

    def __init__(self, engine: Engine, watching: Callable[[object], AbstractContextManager[None]]) -> None:
        self._engine = engine
        self._watching = watching
        self._driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._compiled: dict[Prepared[Any], _Compiled[Any]] = {}
        self._read_only = ReadOnly()

    def fetch(self, prepared: Prepared[T], values: Mapping[str, Any], within: Connection | None) -> list[T]:
        """Runs the statement, in this transaction or one of its own; returns its rows. Raises what SQLAlchemy would."""
        compiled = self._of(prepared)
        return self._run(compiled, compiled.answers, values, within)

    def execute(self, prepared: Prepared[Any], values: Mapping[str, Any], within: Connection | None) -> int:
        """As `fetch`; returns how many rows it wrote."""
        compiled = self._of(prepared)
        return self._run(compiled, compiled.written, values, within)

    def _run(
        self,
        compiled: "_Compiled[Any]",
        read: Callable[[DBAPICursor], R],
        values: Mapping[str, Any],
        within: Connection | None,
    ) -> R:
        if within is not None:
            return self._execute(within.connection, compiled.sql, compiled.values(values), read)
        try:
            pooled = self._engine.raw_connection()
        except self._driver_error as error:
            raise translated(error) or self._wrapped(error, None, is_lost=False) from error
        try:
            with self._watching(pooled.driver_connection):
                return self._execute(pooled, compiled.sql, compiled.values(values), read, commits=True)
        finally:
            pooled.close()

    def _execute(
        self,
        pooled: PoolProxiedConnection,
        sql: str,
        values: Any,
        read: Callable[[DBAPICursor], R],
        *,
        commits: bool = False,
    ) -> R:
        cursor = pooled.cursor()
        try:
            cursor.execute(sql, values)
            return read(cursor)
        except self._driver_error as error:
            raise self._failed(pooled, error, sql, commits=commits) from error
        finally:
            cursor.close()

    def _failed(self, pooled: PoolProxiedConnection, error: Exception, sql: str, *, commits: bool) -> BaseException:
        known = translated(error, sql=sql, commits=commits)
        is_lost = isinstance(known, DatabaseUnreachableError) and known.connection_lost
        if is_lost or self._read_only.drops(error):
            replace_pooled(self._engine, pooled)
            pooled.invalidate(error)
        return known or self._wrapped(error, sql, is_lost=is_lost)

    def _wrapped(self, error: Exception, sql: str | None, *, is_lost: bool) -> BaseException:
        return DBAPIError.instance(
            sql,
            None,
            error,
            self._driver_error,
            hide_parameters=True,
            connection_invalidated=is_lost,
            dialect=self._engine.dialect,
        )

    def _of(self, prepared: Prepared[T]) -> "_Compiled[T]":
        compiled: _Compiled[T] | None = self._compiled.get(prepared)
        if compiled is None:
            compiled = self._compiled[prepared] = _Compiled(prepared, self._engine.dialect)
        return compiled


class _Compiled(Generic[T]):
    """A prepared statement compiled for one dialect."""

    def __init__(self, prepared: Prepared[T], dialect: Dialect) -> None:
        statement = prepared.for_dialect(dialect)
        compiled = _with_literals(statement, dialect)
        self._read = prepared.read
        self.sql = str(compiled)
        self._constants = dict(compiled.params)
        self._order: Sequence[str] | None = compiled.positiontup
        binds = {name: bind.type.dialect_impl(dialect) for bind, name in compiled.bind_names.items()}
        self._binds = _only({name: kind.bind_processor(dialect) for name, kind in binds.items()})
        columns = statement.exported_columns
        self._names = [str(column.key) for column in columns]
        results = {str(column.key): column.type.dialect_impl(dialect) for column in columns}
        self._results = _only({name: kind.result_processor(dialect, None) for name, kind in results.items()})

    def values(self, given: Mapping[str, Any]) -> Any:
        """The parameters for the driver, converted and in its order."""
        values = {**self._constants, **given}
        for name, convert in self._binds.items():
            values[name] = convert(values[name])
        return values if self._order is None else tuple(values[name] for name in self._order)

    def answers(self, cursor: DBAPICursor) -> list[T]:
        """The cursor's rows, each through the statement's `read`."""
        return [self._answer(row) for row in cursor.fetchall()] if self._names else []

    def written(self, cursor: DBAPICursor) -> int:
        """How many rows were written; SQLite counts them while what is returned is fetched."""
        if self._names:
            cursor.fetchall()
        return cursor.rowcount

    def _answer(self, row: Sequence[Any]) -> T:
        values = dict(zip(self._names, row, strict=True))
        for name, convert in self._results.items():
            values[name] = convert(values[name])
        return self._read(values)


def _with_literals(statement: SelectBase | UpdateBase, dialect: Dialect) -> SQLCompiler:
    """Compiles the statement with its constants as literals: only what is given at each call stays a parameter.

    As a parameter a constant is not known when PostgreSQL makes a plan that serves every call. Then no partial index
    fits ("state = 'queued'"), such a plan looks dear, and each call is planned anew, which takes longer than to run it.
    """

    class Compiler(dialect.statement_compiler):  # type: ignore[misc,name-defined] # each dialect has its own
        def visit_bindparam(self, bindparam: BindParameter[Any], **kw: Any) -> str:
            if bindparam.value is not None:
                kw["literal_binds"] = True
            return str(super().visit_bindparam(bindparam, **kw))

    return Compiler(dialect, statement)


def _only(converts: Mapping[str, _Convert | None]) -> dict[str, _Convert]:
    return {name: convert for name, convert in converts.items() if convert}
