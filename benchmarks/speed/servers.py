"""Database servers as durable as in earnest, empty databases on them, and the statements that a server was sent."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
from sqlalchemy.engine import make_url

from tests.support import postgresql, sqlite

_COUNTING = "pg_stat_statements"
_CONTROL = ("BEGIN%", "COMMIT%", "ROLLBACK%", "SAVEPOINT%", "RELEASE%")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a server has executed in one database: statements, and the begins and ends of transactions beside them."""

    statements: int
    control: int

    def since(self, before: "Sent") -> "Sent":
        """What came between two counts."""
        return Sent(statements=self.statements - before.statements, control=self.control - before.control)


class Databases(Protocol):
    """A server of empty, migrated databases."""

    def make(self) -> str:
        """URL of a new one."""
        ...

    def sent(self, url: str) -> Sent | None:
        """What was executed in it so far; None where that can't be counted."""
        ...

    @property
    def pid(self) -> int | None:
        """Of the server's main process."""
        ...


class _PostgreSQL:
    """Its settings are its own defaults: every commit is synced."""

    def __init__(self, folder: Path, *, counts: bool) -> None:
        self._counts = counts and _can_count()
        settings = {**postgresql.LOOPBACK, "max_connections": "300"}
        if self._counts:
            settings |= {"shared_preload_libraries": _COUNTING}
        self._server = postgresql.Server(folder, settings=settings)
        self._server.start()

    @property
    def pid(self) -> int | None:
        return self._server.process.pid

    def make(self) -> str:
        url = self._server.make_database()
        if self._counts:
            self._execute(url, f"CREATE EXTENSION {_COUNTING}")
        return url

    def sent(self, url: str) -> Sent | None:
        if not self._counts:
            return None
        is_control = " OR ".join(["query ILIKE %s"] * len(_CONTROL))
        rows = self._execute(
            url,
            f"SELECT coalesce(sum(calls), 0), coalesce(sum(calls) FILTER (WHERE {is_control}), 0) FROM {_COUNTING}"  # noqa: S608 - nothing from outside
            " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
            *_CONTROL,
        )
        everything, control = map(int, rows[0])
        return Sent(statements=everything - control, control=control)

    def stop(self) -> None:
        self._server.kill()

    def _execute(self, url: str, statement: str, *parameters: str) -> list[tuple[int, ...]]:
        where = make_url(url)
        with psycopg.connect(
            host=where.host, port=where.port, user=where.username, dbname=where.database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


class _SQLite:
    """Files in a folder; Tidegate opens them with synchronous=FULL."""

    pid = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def make(self) -> str:
        self._made += 1
        folder = self._folder / f"database-{self._made}"
        folder.mkdir()
        return sqlite.fresh_database(folder)

    def sent(self, url: str) -> Sent | None:  # noqa: ARG002 - nobody counts there
        return None

    def stop(self) -> None:
        pass


@contextmanager
def databases(kind: str, folder: Path, *, counts: bool = False) -> Iterator[Databases]:
    """A server of this kind with its files in the folder, ended afterwards. `counts`: it counts its statements."""
    server = _PostgreSQL(folder, counts=counts) if kind == "postgresql" else _SQLite(folder)
    try:
        yield server
    finally:
        server.stop()


def _can_count() -> bool:
    """Whether PostgreSQL's contributed modules are installed."""
    binaries = postgresql.find_binaries()
    try:
        asked = subprocess.run(
            [str(binaries / "pg_config"), "--pkglibdir"] if binaries else ["pg_config", "--pkglibdir"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return (Path(asked.stdout.strip()) / f"{_COUNTING}.so").exists()
