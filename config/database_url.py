"""URLs of databases that can be used: SQLite and PostgreSQL, each with the driver that is installed."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError


def check_database_url(url: str) -> str:
    """Returns the URL; raises ValueError that says how one is written. Empty is the embedded default."""
    try:
        parts = make_url(url or "sqlite://")
        kind = (parts.get_backend_name(), parts.get_driver_name())
    except (ArgumentError, NoSuchModuleError):
        kind = ("none", "none")
    if kind not in {("sqlite", "pysqlite"), ("postgresql", "psycopg")}:
        raise ValueError("write sqlite:////path/to/file.db or postgresql+psycopg://user:password@host/name")
    return url
