"""Migrations of a database that is read and written meanwhile: nobody waits for them, also behind a backup."""

import ast
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from migrations import tables_in_use
from migrations.upgrade import upgrade
from tests.support.processes import REPOSITORY
from tidegate.database.connection import Database

VERSIONS = sorted((REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))
# A statement of a migration waits so long for its lock, and all who come later with it; the rest is this machine.
_MOMENT_SECONDS = tables_in_use.LOCK_SECONDS + 1.0
_WATCHED_SECONDS = 1.5
_JOB = "00000000-0000-0000-0000-000000000001"


def _revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def _is_several_transactions(revision: str) -> bool:
    return any(f"    {name}(" in _source(revision) for name in ("create_index", "replace_index", "widen_check"))


def _source(revision: str) -> str:
    (file,) = (file for file in VERSIONS if file.name.startswith(revision))
    return file.read_text(encoding="utf-8")


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    parts = make_url(url)
    with psycopg.connect(
        host=parts.host, port=parts.port, user=parts.username, dbname=parts.database, autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
def empty_url(postgresql_url: str) -> str:
    with connected(postgresql_url) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return postgresql_url


def read_and_write(connection: psycopg.Connection) -> None:
    """As the gateway does all the time, in the first schema's words."""
    connection.execute("SELECT state FROM jobs WHERE id = %s", (_JOB,))
    connection.execute(
        "INSERT INTO jobs (id, client_id, operation, downstream, queue, created_at, run_at, deadline, max_attempts) "
        "VALUES (gen_random_uuid(), 'local', 'echo', 'lane', 'io', 1, 1, 2, 1)"
    )
    connection.execute("UPDATE jobs SET version = version + 1 WHERE id = %s", (_JOB,))
    connection.execute(
        "INSERT INTO attempts (job_id, fence, downstream, queue, released_at, slot_at, place_until) "
        "VALUES (gen_random_uuid(), 1, 'lane', 'io', 1, 1, 1)"
    )
    connection.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL")


@pytest.mark.parametrize(("before", "revision"), list(zip(_revisions(), _revisions()[1:], strict=False)))
def test_readers_and_writers_go_on_during_each_migration_while_a_backup_reads(
    empty_url: str, before: str, revision: str
) -> None:
    upgrade(empty_url, before)
    migrating = threading.Thread(target=upgrade, args=(empty_url, revision))
    longest = 0.0
    with connected(empty_url) as backup, connected(empty_url) as other:
        backup.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        for table in ("jobs", "attempts", "clients", "bodies"):
            backup.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608 - a name of ours
        migrating.start()
        until = time.monotonic() + _WATCHED_SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            read_and_write(other)
            longest = max(longest, time.monotonic() - began)
        backup.execute("COMMIT")
        migrating.join(timeout=60)
        assert not migrating.is_alive()
        assert longest < _MOMENT_SECONDS
        (version,) = other.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        assert version == revision
        assert other.execute("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid").fetchall() == []


def test_what_a_stopped_migration_left_is_taken_away(empty_url: str) -> None:
    """An index whose building was stopped stays in the catalogue, invalid; a column may be there already."""
    upgrade(empty_url, "0007")
    name = "ix_jobs_unsuccessful"
    with connected(empty_url) as connection:
        connection.execute(f"CREATE INDEX {name} ON jobs (state)")
        connection.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")  # noqa: S608 - a name of ours
    upgrade(empty_url, "0008")
    with connected(empty_url) as connection:
        ((definition,),) = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", (name,)
        ).fetchall()
    assert "(state, id) WHERE" in definition


@pytest.mark.parametrize("revision", [revision for revision in _revisions() if _is_several_transactions(revision)])
def test_a_migration_that_was_stopped_before_its_end_is_begun_again(empty_url: str, revision: str) -> None:
    """All is done but for its last transaction, which has its new tables and the number of the schema."""
    before = _revisions()[_revisions().index(revision) - 1]
    upgrade(empty_url, revision)
    with connected(empty_url) as connection:
        for table in re.findall(r'create_table\(\s*"(\w+)"', _source(revision)):
            connection.execute(f"DROP TABLE {table} CASCADE")
        connection.execute("UPDATE alembic_version SET version_num = %s", (before,))
    upgrade(empty_url)


def test_the_schema_is_whole_after_a_run_over_the_old_one(empty_url: str) -> None:
    upgrade(empty_url, "0001")
    upgrade(empty_url)
    database = Database(empty_url)
    with database.transaction() as connection:
        names = set(connection.exec_driver_sql("SELECT indexname FROM pg_indexes WHERE tablename = 'jobs'").scalars())
    database.close()
    assert {"ix_jobs_deadline", "ix_jobs_lease", "ix_jobs_unsuccessful"} <= names
    assert not [name for name in names if name.endswith("_new")]


_SHUTS_THE_TABLE = {"create_index", "drop_index", "add_column", "drop_column", "alter_column"}
_SHUTS_THE_TABLE |= {"create_foreign_key", "create_check_constraint", "create_unique_constraint", "batch_alter_table"}


@pytest.mark.parametrize("file", VERSIONS, ids=lambda file: file.stem)
def test_no_migration_shuts_a_table_that_was_there_before(file: Path) -> None:
    """Of those there are `tables_in_use`; Alembic's own are for tables that the migration makes itself."""
    assert _shut(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        'op.create_index("ix", "jobs", ["state"])',
        'op.create_index("ix", table_name="jobs", columns=["state"])',
        'op.add_column("jobs", sa.Column("x", sa.Integer()))',
        'op.drop_index("ix", table_name="jobs")',
        'op.alter_column("jobs", "state", nullable=True)',
        'with op.batch_alter_table("jobs") as batch:\n    batch.drop_column("x")',
        'op.execute("CREATE INDEX ix ON jobs (state)")',
        'op.execute("ALTER TABLE jobs ADD COLUMN x int")',
        "op.create_index(name, table, columns)",
    ],
)
def test_what_that_test_refuses(line: str) -> None:
    assert _shut(f'op.create_table("new")\n{line}') != []
    assert _shut('op.create_table("new")\nop.create_index("ix", "new", ["state"])') == []


def _shut(source: str) -> list[str]:
    """The lines that change tables which the migration does not make itself."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    ]
    named = [(each, each.func.attr) for each in calls if isinstance(each.func, ast.Attribute)]
    made = {_text(each.args[0]) for each, name in named if name == "create_table"}
    found = []
    for each, name in named:
        if name in _SHUTS_THE_TABLE and not made & {
            _text(arg) for arg in [*each.args, *(k.value for k in each.keywords)]
        }:
            found.append(ast.unparse(each))
        said = _text(each.args[0]).upper() if name == "execute" else ""
        if said.lstrip().startswith(("CREATE INDEX", "CREATE UNIQUE INDEX", "ALTER TABLE", "DROP INDEX", "REINDEX")):
            found.append(ast.unparse(each))
    return found


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
