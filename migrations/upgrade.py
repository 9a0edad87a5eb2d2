"""Brings a database to the newest schema. `python -m migrations.upgrade` does it for the configured one."""

import logging
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from config import logs
from config.settings import settings
from tidegate.database import UNREACHABLE, Database
from tidegate.engines import NOT_BY_INDEX
from tidegate.errors import ConfigurationError

log = logging.getLogger(__name__)

# Any constant will do; it is the same in every process that migrates.
ADVISORY_LOCK = 0x7469646567617465


def upgrade(url: str, revision: str = "head") -> None:
    """Runs what is missing, in one transaction; nothing when all is there, or more than this version knows.

    However many processes call it at once, one migrates and the others wait for it: PostgreSQL by an advisory
    lock, SQLite because the transaction begins with the write lock.
    """
    backend = make_url(url)
    if backend.get_backend_name() == "sqlite" and backend.database:
        Path(backend.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(url, pool_size=1)
    try:
        with database.writing() as connection:
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
                for setting in NOT_BY_INDEX:  # a migration may go over all rows
                    connection.exec_driver_sql(f"SET LOCAL {setting} = on")
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent))
            config.attributes["connection"] = connection
            if newer := _newer_than_ours(config, connection):
                log.warning("the schema is of a newer version (%s) and stays as it is: migrations only add", newer)
            else:
                command.upgrade(config, revision)
    finally:
        database.close()


def _newer_than_ours(config: Config, connection: Connection) -> str | None:
    """The schema's revision, when it comes after all that this version has: somebody went back to it."""
    current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(config).get_current_head()
    return current if current and newest and current.isdecimal() and int(current) > int(newest) else None


def main() -> int:
    """Brings the configured database to the newest schema; says which migrations ran."""
    try:
        current = settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        return 2
    logs.configure(current, "migrate")
    try:
        upgrade(current.database)
    except UNREACHABLE as error:
        log.error("the database can't be reached: %s", getattr(error, "orig", error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
