"""PostgreSQL behind a pooler that gives each transaction another server session."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from config.database import sessions_of
from config.settings import Settings
from migrations.upgrade import upgrade
from tests.support import pgbouncer
from tests.support.jobs import LANE, claim, submit
from tests.support.processes import REPOSITORY
from tidegate.database.connection import Database
from tidegate.database.sessions import NOT_BY_INDEX, OptionsBy, Sessions
from tidegate.dispatch.gate import Gate
from tidegate.errors import DatabaseSessionError
from tidegate.operations.limits import Limits
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

_PROCESSES = 4
_JOBS = 100
_PATIENCE = timedelta(seconds=5)
_BY_TRANSACTION = Settings(_env_file=None, database_options="transaction")
IGNORED = "ignore_startup_parameters = options"


@pytest.fixture(params=["", IGNORED], ids=["its defaults", "options ignored"])
def pooled_url(request: pytest.FixtureRequest, postgresql_url: str, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh database through PgBouncer."""
    with pgbouncer.before(postgresql_url, tmp_path / "pgbouncer.log", request.param) as url:
        yield url


@pytest.fixture
def stores(pooled_url: str) -> Iterator[list[Store]]:
    """As several processes have them, with the settings that docs/operating.md names."""
    sessions = sessions_of(_BY_TRANSACTION)
    databases = [Database(pooled_url, pool_size=2, patience=_PATIENCE, sessions=sessions) for _ in range(_PROCESSES)]
    yield [Store(database) for database in databases]
    for database in databases:
        database.close()


def test_jobs_run_and_no_option_of_a_session_is_lost(stores: list[Store]) -> None:
    """The same lane by several processes, whose transactions meet in four sessions of the server."""
    stores[0].limits.declare([Limits(name=LANE)])
    stores[0].heartbeats.beat("worker-1", queue="io", size=50, until=timedelta(minutes=5))

    def one(number: int) -> str:
        store = stores[number % _PROCESSES]
        job_id = submit(store)
        for released in Gate(store.lanes).run_once().released:
            mine = claim(store, released)
            if mine:
                result = Succeeded(content=b"1", content_type="application/json", is_json=True)
                assert store.workers.succeed(mine, result, call_seconds=0.0)
        return job_id

    with ThreadPoolExecutor(2 * _PROCESSES) as pool:
        ids = list(pool.map(one, range(_JOBS)))
    for store in stores:
        while released := Gate(store.lanes).run_once().released:
            for each in released:
                assert claim(store, each)
        assert all(options_seen(store.database))
    jobs = [stores[0].callers.get(job_id, None) for job_id in ids]
    assert {job and job.state for job in jobs} <= {State.SUCCEEDED, State.RUNNING}


def options_seen(database: Database) -> Iterator[bool]:
    """Whether each way to run statements has our options."""
    expected = dict.fromkeys(NOT_BY_INDEX, "off")
    expected |= {"idle_in_transaction_session_timeout": "5s", "statement_timeout": "4500ms"}
    for name, value in expected.items():
        show = text(f"SELECT current_setting('{name}') AS value")
        with database.transaction() as connection:
            yield connection.execute(show).scalar_one() == value
        alone, limited = database.fetch_one(show), database.fetch_one(show, limit=timedelta(seconds=3))
        assert alone
        assert limited
        yield alone.value == value
        yield limited.value == ("3s" if name == "statement_timeout" else value)


def test_nothing_of_a_transaction_stays_in_a_session_of_the_server(stores: list[Store], postgresql_url: str) -> None:
    for store in stores:
        assert all(options_seen(store.database))
    pooled = make_url(stores[0].database.engine.url)
    with psycopg.connect(host=pooled.host, port=pooled.port, user=pooled.username, dbname=pooled.database) as stranger:
        stranger.prepare_threshold = None
        for name in (*NOT_BY_INDEX, "statement_timeout"):
            row = stranger.execute("SELECT setting = boot_val FROM pg_settings WHERE name = %s", (name,)).fetchone()
            assert row == (True,)


def test_a_schema_is_made_through_the_pooler(pooled_url: str) -> None:
    with closing(Database(pooled_url, pool_size=1, sessions=sessions_of(_BY_TRANSACTION))) as database:
        database.execute(text("DROP SCHEMA public CASCADE"))
        database.execute(text("CREATE SCHEMA public"))
    upgrade(pooled_url, sessions=sessions_of(_BY_TRANSACTION))
    with closing(Database(pooled_url, pool_size=1, sessions=sessions_of(_BY_TRANSACTION))) as database:
        store = Store(database)
        store.limits.declare([Limits(name=LANE)])
        submit(store)


def test_options_of_a_session_are_missed_at_each_new_connection(pooled_url: str) -> None:
    with closing(Database(pooled_url, pool_size=1)) as database:
        with pytest.raises(DatabaseSessionError, match="TIDEGATE_DATABASE_OPTIONS=transaction"):
            database.fetch_one(text("SELECT 1"))
        with pytest.raises(DatabaseSessionError), database.transaction():
            pass
        with pytest.raises(DatabaseSessionError):
            Store(database).lanes.due()


WORKER = ["-m", "celery", "--quiet", "--app=tasks.app", "worker", "--pool=threads", "--concurrency=2", "--queues=io"]


@pytest.mark.parametrize(
    "command",
    [["-m", "migrations.upgrade"], ["-m", "webapp"], ["-m", "tasks.scheduler"], [*WORKER, "--hostname=io@%h"]],
    ids=["migrate", "web", "scheduler", "worker"],
)
def test_no_process_starts_where_options_of_a_session_are_lost(
    pooled_url: str, tmp_path: Path, command: list[str]
) -> None:
    ended = start(command, tmp_path, DATABASE_URL=pooled_url)

    assert ended.returncode == 2, ended.stderr
    assert "TIDEGATE_DATABASE_URL: " in ended.stderr
    assert "set TIDEGATE_DATABASE_OPTIONS=transaction" in ended.stderr
    assert "Traceback" not in ended.stderr


def start(command: list[str], folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs it until it ends, with these settings."""
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")},
        **{f"TIDEGATE_{name}": value for name, value in settings.items()},
        "TIDEGATE_DATA": str(folder / "data"),
        "TIDEGATE_BROKER_URL": "redis://127.0.0.1:9/0",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_with_options_by_transaction_the_start_finds_no_fault(pooled_url: str, tmp_path: Path) -> None:
    ended = start(["-m", "migrations.upgrade"], tmp_path, DATABASE_URL=pooled_url, DATABASE_OPTIONS="transaction")
    assert ended.returncode == 0, ended.stderr


def test_what_the_settings_say_of_sessions() -> None:
    def said(**settings: Any) -> Sessions:
        return sessions_of(Settings(_env_file=None, **settings))

    assert said() == Sessions(options_by=OptionsBy.SESSION, prepare_threshold=5, most=None)
    assert said(database_options="transaction").prepare_threshold is None
    assert said(database_options="transaction", database_prepare_threshold="3").prepare_threshold == 3
    assert said(database_prepare_threshold="off").prepare_threshold is None
    assert said(database_prepare_threshold="").prepare_threshold == 5
    assert said(database_connections="").pool(10) == (10, 20)
    assert said(database_connections="40").pool(10) == (10, 20)
    assert said(database_connections="12").pool(10) == (10, 2)
    assert said(database_connections="4").pool(10) == (4, 0)


def test_sessions_that_the_server_ended_behind_the_pooler_are_nobodys_trouble(
    stores: list[Store], postgresql_url: str
) -> None:
    stores[0].limits.declare([Limits(name=LANE)])
    url = make_url(postgresql_url)
    for _ in range(3):
        with ThreadPoolExecutor(_PROCESSES) as pool:
            list(pool.map(submit, stores))
        with psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
            assert ended
    with ThreadPoolExecutor(_PROCESSES) as pool:
        list(pool.map(submit, stores))
