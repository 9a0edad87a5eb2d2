"""The migrations against the models, and against each other when many processes start at once."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import inspect, text

from migrations.upgrade import ADVISORY_LOCK, upgrade
from tests.support.databases import BOTH
from tests.support.processes import REPOSITORY, ChildProcess, free_port
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, metadata


def test_the_newest_schema_is_that_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})

        assert compare_metadata(context, metadata) == []


def test_the_checks_are_those_of_the_models(database: Database) -> None:
    """Alembic compares no CHECK constraints."""
    made = inspect(database.engine)
    for table in metadata.tables.values():
        names = {constraint["name"] for constraint in made.get_check_constraints(table.name)}
        declared = {str(check.name) for check in table.constraints if type(check).__name__ == "CheckConstraint"}
        assert names == declared, table.name


def test_the_indexes_cover_what_the_models_say(database: Database) -> None:
    """Alembic compares no conditions of partial indexes."""
    made = inspect(database.engine)
    for table in metadata.tables.values():
        partial = {index["name"] for index in made.get_indexes(table.name) if index.get("dialect_options")}
        kind = database.engine.dialect.name
        declared = {index.name for index in table.indexes if index.dialect_options[kind].get("where") is not None}
        assert {name for name in partial if name in {index.name for index in table.indexes}} >= declared, table.name


def test_tables_that_change_with_every_job_are_cleaned_up_long_before_a_fifth_has_changed(postgresql_url: str) -> None:
    """PostgreSQL's default is a fifth of all rows: the work of hours in a database with a million final jobs."""
    rarely_written = {"oauth_tokens", "clients", "keys", "sessions", "webhook_secrets"}
    database = Database(postgresql_url)
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT relname, coalesce(reloptions, '{}') FROM pg_class WHERE relkind = 'r'"))
        parameters = {name: dict(option.split("=") for option in options) for name, options in rows}
    database.close()

    for table in metadata.tables.keys() - rarely_written:
        assert float(parameters[table].get("autovacuum_vacuum_scale_factor", 1)) <= 0.02, table


def test_a_second_time_does_nothing(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)


def test_a_version_that_was_gone_back_to_leaves_the_newer_schema_as_it_is(
    database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def revision(new: str | None = None) -> str:
        with database.transaction() as connection:
            if new:
                connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": new})
            return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())

    revision("9999")
    upgrade(database_url)
    assert revision() == "9999"
    assert "the schema is of a newer version (9999)" in caplog.text


def test_a_schema_that_is_none_of_ours_is_not_touched(database: Database, database_url: str) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'a1b2c3'"))
    with pytest.raises(CommandError, match="a1b2c3"):
        upgrade(database_url)


def test_the_one_client_of_an_open_gateway_is_there(database: Database) -> None:
    with database.transaction() as connection:
        assert list(connection.execute(text("SELECT id FROM clients")).scalars()) == [IMPLICIT_CLIENT]


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'new' / 'folder' / 'tidegate.db'}")

    assert (tmp_path / "new" / "folder" / "tidegate.db").exists()


@pytest.mark.postgresql
def test_on_postgresql_it_waits_for_the_advisory_lock_before_it_looks(postgresql_url: str, tmp_path: Path) -> None:
    database = Database(postgresql_url, pool_size=1)
    command = [sys.executable, "-m", "migrations.upgrade"]
    process = ChildProcess(command, log=tmp_path / "log", environment={"TIDEGATE_DATABASE_URL": postgresql_url})
    with database.transaction() as connection, process:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        process.wait_for_log("another process migrates; waiting for it")
        assert "alembic.runtime" not in process.logs()
        connection.rollback()
        process.wait_for_log("transactional DDL")
    database.close()


def test_a_database_that_can_not_be_reached_is_told_in_a_line(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://u:hidden@127.0.0.1:{free_port()}/db"
    command = [sys.executable, "-m", "migrations.upgrade"]
    with ChildProcess(command, log=tmp_path / "log", environment={"TIDEGATE_DATABASE_URL": url}) as process:
        wait_until(lambda: process.exit_code is not None, description="it ends", timeout_seconds=30)
        assert process.exit_code == 1
    assert "the database can't be reached" in process.logs()
    assert "Traceback" not in process.logs()
    assert "hidden" not in process.logs()


@pytest.mark.parametrize("kind", BOTH)
def test_of_many_processes_at_once_one_migrates_and_none_fails(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'tidegate.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
        emptied = Database(url, pool_size=1)
        with emptied.transaction() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        emptied.close()
    command = [sys.executable, "-m", "migrations.upgrade"]
    environment = {"TIDEGATE_DATABASE_URL": url}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(ChildProcess(command, log=tmp_path / f"{number}.log", environment=environment))
            for number in range(4)
        ]
        for process in processes:
            assert process._process is not None
            assert process._process.wait(timeout=60) == 0, process.logs()
        ran = [line for process in processes for line in process.logs().splitlines() if "Running upgrade" in line]
        assert len(ran) == len(list((REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))), ran

    database = Database(url, pool_size=1)
    assert len(database.fetch_all(text("SELECT version_num FROM alembic_version"))) == 1
    database.close()
