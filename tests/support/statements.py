"""Counts what a database is asked to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, event

from tidegate.database.connection import Database
from tidegate.database.statement import Prepared

T = TypeVar("T")
# How a transaction of SQLite's begins here, and what goes before and after that.
_CONTROL = ("BEGIN", "PRAGMA busy_timeout")


@dataclass
class Asked:
    """`statements`: as the server counts them, one for each set of parameters. `transactions`: those that were begun,
    on PostgreSQL two round trips more each."""

    statements: list[str] = field(default_factory=list)
    transactions: int = 0

    def __str__(self) -> str:
        """For the message of a test that fails: what it was."""
        return f"{len(self.statements)} statements in {self.transactions} transactions:\n" + "\n".join(self.statements)

    @property
    def counts(self) -> tuple[int, int]:
        """Statements and transactions."""
        return len(self.statements), self.transactions


@contextmanager
def asked(database: Database) -> Iterator[Asked]:
    """What the database is asked within it, by any thread of this process."""
    seen = Asked()

    def executed(_: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if not statement.startswith(_CONTROL):
            seen.statements += [" ".join(statement.split())] * (len(parameters) if executemany else 1)

    def committed(_: Connection) -> None:
        seen.transactions += 1

    def counted(run: Callable[..., T]) -> Callable[..., T]:
        def counted_run(prepared: Prepared[Any], *rest: Any) -> T:
            seen.statements.append(" ".join(str(prepared.statement).split()))
            return run(prepared, *rest)

        return counted_run

    engine, runner = database.engine, database._prepared
    # These go to the driver without an event; only within it.
    runner.fetch, runner.execute = counted(runner.fetch), counted(runner.execute)  # type: ignore[method-assign]
    event.listen(engine, "before_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    try:
        yield seen
    finally:
        del runner.fetch, runner.execute
        event.remove(engine, "before_cursor_execute", executed)
        event.remove(engine, "commit", committed)
