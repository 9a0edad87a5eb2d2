"""Prints every prepared statement as plain SQL, with its module and name: `make sql`, `python -m tidegate.database`.

Where SQLite is asked otherwise than PostgreSQL, both are shown. What is given many rows as one JSON text is for
PostgreSQL alone.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

import tidegate
from tidegate.database.json_rows import PARAMETER
from tidegate.database.readable_sql import readable
from tidegate.database.statement import Prepared, sql_of

# Named: a parameter is `:name` on both.
_POSTGRESQL: Dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call] # it has no types
_SQLITE: Dialect = SQLiteDialect_pysqlite(paramstyle="named")


def prepared_statements() -> Iterator[tuple[str, Prepared[Any]]]:
    """Every prepared statement that a module of tidegate holds, once, with the name that it has where it was made.

    Of a table of statements that differ in size alone, the first.
    """
    for found in pkgutil.walk_packages(tidegate.__path__, "tidegate."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            yield from ((f"{found.name}.{name}", prepared) for name, prepared in _made_in(module))


def as_page() -> str:
    """All of them, one below the other."""
    return "\n\n".join(f"-- {name}\n{_wordings(prepared)}" for name, prepared in prepared_statements())


def _made_in(module: ModuleType) -> Iterator[tuple[str, Prepared[Any]]]:
    for name in _assigned(module):
        value = getattr(module, name)
        first = next(iter(value.values()), None) if isinstance(value, Mapping) else value
        if isinstance(first, Prepared):
            yield name, first


def _assigned(module: ModuleType) -> Iterator[str]:
    """The names that the module gives itself, and does not import."""
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def _wordings(prepared: Prepared[Any]) -> str:
    postgresql = _sql(prepared, _POSTGRESQL)
    if f":{PARAMETER}" in postgresql:
        return f"-- PostgreSQL\n{postgresql};"
    sqlite = _sql(prepared, _SQLITE)
    if sqlite == postgresql:
        return f"{postgresql};"
    return f"-- PostgreSQL\n{postgresql};\n-- SQLite\n{sqlite};"


def _sql(prepared: Prepared[Any], dialect: Dialect) -> str:
    return readable(sql_of(prepared, dialect))


if __name__ == "__main__":
    sys.stdout.write(as_page() + "\n")
