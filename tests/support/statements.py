"""Counts what a database is asked to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, event

from tidegate.database.connection import Database, Within
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

    def ask_all(prepared: Prepared[T], values: Mapping[str, Any], *, within: Within | None = None) -> list[T]:
        seen.statements.append(" ".join(str(prepared.statement).split()))
        return ask_the_database(prepared, values, within=within)

    engine, ask_the_database = database.engine, database.ask_all
    database.ask_all = ask_all  # type: ignore[method-assign] # these go to the driver without an event; only within it
    event.listen(engine, "before_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    try:
        yield seen
    finally:
        del database.ask_all
        event.remove(engine, "before_cursor_execute", executed)
        event.remove(engine, "commit", committed)
