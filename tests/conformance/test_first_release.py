"""From the first release's schema to the newest: every row stays, jobs go on, and the old code still writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Inspector, inspect, select, text

from migrations.upgrade import upgrade
from tests.support import first_release
from tests.support.databases import BOTH
from tests.support.web import Web
from tidegate.database.connection import Database


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    database = Database(url, pool_size=1)
    with database.transaction() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.close()
    return url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    """The same, opened."""
    database = Database(empty_url, pool_size=2)
    yield database
    database.close()


def stored(database: Database, content: dict[str, list[dict[str, Any]]]) -> dict[str, list[tuple[Any, ...]]]:
    """What stands in the columns that the first release wrote, row by row."""
    found = {}
    for name, rows in content.items():
        columns = sorted({column for row in rows for column in row})
        table = first_release.table(name, columns)
        found[name] = sorted((tuple(row) for row in database.fetch_all(select(table))), key=repr)
    return found


def columns_of(inspector: Inspector) -> dict[tuple[str, str], tuple[str, bool, bool]]:
    """Type, whether it may be null, and whether it has a default, of each column of each table."""
    return {
        (table, column["name"]): (repr(column["type"]), column["nullable"], column["default"] is not None)
        for table in inspector.get_table_names()
        if table != "alembic_version"
        for column in inspector.get_columns(table)
    }


def test_every_row_stays_as_it_was(empty: Database, empty_url: str) -> None:
    content = first_release.make(empty_url, operation="echo", downstream="echo")
    before = stored(empty, content)
    assert len(before["jobs"]) == len(first_release.STATUSES)

    upgrade(empty_url)

    assert stored(empty, content) == before


def test_its_jobs_are_told_as_they_were_and_those_that_wait_are_run(empty_url: str, tmp_path: Path) -> None:
    first_release.make(empty_url, operation="echo", downstream="echo")
    upgrade(empty_url)
    face = Web(tmp_path, empty_url, auth="keys")
    face.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {first_release.SECRET}"

    assert {job_id: face.read(job_id).status_code for job_id in first_release.STATUSES} == first_release.STATUSES
    assert face.client.get(f"/v1/jobs/{first_release.SUCCEEDED}/result").data == first_release.RESULT
    waiting = face.read(first_release.WAITING).get_json()
    assert (waiting["progress"]["percent"], waiting["attempt"]) == (40, 1)
    # One look of the gate releases both; the second claim of `face` would find nothing left to release.
    face.succeed(first_release.QUEUED, first_release.RESULT, is_json=True)
    assert face.read(first_release.QUEUED).get_json()["result"] == {"total": 954.84}
    face.close()


def test_what_the_first_release_writes_the_newest_schema_takes(empty: Database, empty_url: str) -> None:
    """During a rolling upgrade the old code runs on the new schema."""
    upgrade(empty_url)
    content = first_release.rows("echo", "echo")

    first_release.insert(empty, content)

    assert {name: len(rows) for name, rows in stored(empty, content).items() if name != "clients"} == {
        name: len(rows) for name, rows in content.items() if name != "clients"
    }


def test_migrations_only_add(empty: Database, empty_url: str) -> None:
    """No column of an older release goes or changes, and a new one in an old table may be left out of an INSERT."""
    upgrade(empty_url, first_release.FIRST)
    before = columns_of(inspect(empty.engine))
    upgrade(empty_url)
    after = columns_of(inspect(empty.engine))

    assert {place: after.get(place) for place in before} == before
    old_tables = {table for table, _ in before}
    added = {place: shape for place, shape in after.items() if place not in before and place[0] in old_tables}
    assert not [place for place, (_, may_be_null, has_default) in added.items() if not (may_be_null or has_default)]
