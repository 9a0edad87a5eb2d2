"""Databases of both kinds, and what a server was asked and what it touched for that."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.support import postgresql

_COUNTING = "pg_stat_statements"
_CONTROL = ("BEGIN%", "COMMIT%", "ROLLBACK%", "SAVEPOINT%", "RELEASE%", "SET %")
_SENT = f"""
SELECT coalesce(sum(calls) FILTER (WHERE NOT query ILIKE ANY(%s)), 0),
coalesce(sum(shared_blks_hit + shared_blks_read), 0)
FROM {_COUNTING} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = %s)
"""  # noqa: S608 - nothing from outside


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Of one database: statements without the ends of transactions, and shared buffers that they touched."""

    statements: int
    buffers: int


class PriceServer:
    """Empty databases without tables: each side makes its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._server: postgresql.Server | None = None
        if kind == "postgresql":
            # What waits for the disk costs no processor time.
            settings = {**postgresql.LOOPBACK, "fsync": "off", "max_connections": "300"}
            settings |= {"shared_preload_libraries": _COUNTING}
            self._server = postgresql.Server(folder, settings=settings)
            self._server.start()
            self._ask("postgres", sql.SQL("CREATE EXTENSION pg_stat_statements"))

    def make(self) -> str:
        """URL of a new one."""
        self._made += 1
        name = f"price_{self._made}"
        if self._server is None:
            folder = self._folder / name
            folder.mkdir()
            return f"sqlite:///{folder}/tidegate.db"
        self._ask("postgres", sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._server.port}/{name}"

    def sent(self, url: str) -> Sent | None:
        """What was asked of it so far; None for SQLite, where the processes count themselves."""
        if self._server is None:
            return None
        rows = self._ask("postgres", sql.SQL(_SENT), [list(_CONTROL), make_url(url).database])
        statements, buffers = map(int, rows[0])
        return Sent(statements=statements, buffers=buffers)

    def stop(self) -> None:
        """Ends the server, whose files nobody needs."""
        if self._server:
            self._server.kill()

    def _ask(
        self, database: str, statement: sql.Composed | sql.SQL, values: list[object] | None = None
    ) -> list[tuple[int, ...]]:
        assert self._server is not None
        with psycopg.connect(
            host="127.0.0.1", port=self._server.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def price_server(kind: str, folder: Path) -> Iterator[PriceServer]:
    """A server of this kind with its files in the folder."""
    server = PriceServer(kind, folder)
    try:
        yield server
    finally:
        server.stop()
