"""Brings a database to the newest schema. `python -m migrations.upgrade` does it for the configured one."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from config import logs
from config.database import check_sessions, sessions_of
from config.settings import settings
from migrations import tables_in_use
from tidegate import clock
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.sessions import NOT_BY_INDEX, Sessions
from tidegate.errors import ConfigurationError, DatabaseUnreachableError

log = logging.getLogger(__name__)

# Any constant will do; it is the same in every process that migrates.
ADVISORY_LOCK = 0x7469646567617465
_LOOK_SECONDS = 0.2
_AGAIN_SECONDS = (1.0, 2.0, 4.0, 8.0)


def upgrade(url: str, revision: str = "head", *, sessions: Sessions | None = None) -> None:
    """Runs what is missing; nothing when all is there, or more than this version knows.

    However many processes call it at once, one migrates and the others wait for it. On SQLite it is one transaction,
    which begins with the write lock. On PostgreSQL each migration has its own, so that nothing that one of them locked
    waits for the next; a migration that finds a table in use is tried again until it gets its moment.
    """
    backend = make_url(url)
    if backend.get_backend_name() == "sqlite" and backend.database:
        Path(backend.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = Config()
    # A percent sign begins an interpolation there.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    database = Database(url, pool_size=2, sessions=sessions)
    try:
        if database.is_sqlite:
            with database.transaction() as connection:
                _run(config, connection, revision)
        else:
            with _nobody_else(database):
                for each in _missing(config, database, revision):
                    _until_it_gets_its_locks(config, database, each)
    finally:
        database.close()


def _run(config: Config, connection: Connection, revision: str) -> None:
    if newer := _newer_than_ours(config, connection):
        log.warning("the schema is of a newer version (%s) and stays as it is: migrations only add", newer)
        return
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _missing(config: Config, database: Database, wanted: str) -> Sequence[str]:
    """The migrations that are to be run, the first one first; of a newer schema just what is wanted, which says so."""
    with database.transaction() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if _newer_than_ours(config, connection):
            return [wanted]
    scripts = ScriptDirectory.from_config(config)
    if current:
        scripts.get_revision(current)  # raises CommandError for one that is none of ours
    return [script.revision for script in scripts.iterate_revisions(wanted, current or "base")][::-1]


def _until_it_gets_its_locks(config: Config, database: Database, revision: str) -> None:
    waits = iter(_AGAIN_SECONDS)
    while True:
        try:
            with database.transaction() as connection:
                for setting in NOT_BY_INDEX:  # a migration may go over all rows
                    connection.exec_driver_sql(f"SET LOCAL {setting} = on")
                tables_in_use.begin(connection)
                _run(config, connection, revision)
        except DatabaseUnreachableError as error:
            if not (error.was_in_the_way or isinstance(error.__cause__, psycopg.errors.LockNotAvailable)):
                raise
            log.info("migration %s: a table is in use (by a backup?) and goes on being; trying again", revision)
            clock.sleep(next(waits, _AGAIN_SECONDS[-1]))
        else:
            return


@contextmanager
def _nobody_else(database: Database) -> Iterator[None]:
    """Holds the lock of who migrates. It is asked for again and again, and not waited for: a statement that waits holds
    a snapshot, and so does a transaction that goes on after one; an index that is built meanwhile would wait for it."""
    ask = text("SELECT pg_try_advisory_xact_lock(:lock)")
    has_waited = False
    while True:
        with database.transaction() as connection:
            if connection.execute(ask, {"lock": ADVISORY_LOCK}).scalar_one():
                # After the question: it also lets go of that one's snapshot.
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield
                return
        if not has_waited:
            log.info("another process migrates; waiting for it")
        has_waited = True
        clock.sleep(_LOOK_SECONDS)


def _newer_than_ours(config: Config, connection: Connection) -> str | None:
    """The schema's revision, when it comes after all that this version has: somebody went back to it."""
    current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(config).get_current_head()
    return current if current and newest and current.isdecimal() and int(current) > int(newest) else None


def main() -> int:
    """Brings the configured database to the newest schema; says which migrations ran."""
    try:
        current = settings()
        check_sessions(current)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        return 2
    logs.configure(current, "migrate")
    try:
        upgrade(current.database, sessions=sessions_of(current))
    except UNREACHABLE as error:
        log.error("the database can't be reached: %s", getattr(error, "orig", error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
