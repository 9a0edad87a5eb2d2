"""One question that takes long is no outage: it has a time limit and an answer of its own, and nobody else notices."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import make_url, text

from benchmarks.backlog.rows import fill
from tasks.scheduler import process
from tasks.scheduler.sampler import Sampler
from tasks.scheduler.work_signal import WorkSignal
from tests.support.databases import BOTH
from tests.support.jobs import change_lane, open_lane, release, submit
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.statement import required
from tidegate.dispatch import samples
from tidegate.errors import DatabaseTooSlowError, DatabaseUnreachableError
from tidegate.stores import Store

_PATIENCE = timedelta(seconds=0.6)
_SLEEP = "SELECT pg_sleep(5)"
_FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    opened = Database(postgresql_url, patience=_PATIENCE)
    yield opened
    opened.close()


def answers(database: Database) -> bool:
    return bool(database.fetch_all(text("SELECT 1")) == [(1,)])


def test_a_statement_that_takes_too_long_is_stopped_by_the_server_and_shuts_nobody_out(database: Database) -> None:
    with pytest.raises(UNREACHABLE) as raised, database.transaction() as connection:
        connection.exec_driver_sql(_SLEEP)
    assert isinstance(raised.value, DatabaseUnreachableError)
    assert not raised.value.connection_lost
    assert answers(database)


def test_a_connection_that_was_cut_shuts_nobody_out_while_the_database_answers_others(database: Database) -> None:
    """Behind a pooler that drops the server's own time limit, the watchdog cuts."""
    with pytest.raises(UNREACHABLE) as raised, database.transaction() as connection:
        connection.exec_driver_sql(f"SET statement_timeout = 0; {_SLEEP}")
    assert isinstance(raised.value, DatabaseUnreachableError)
    assert raised.value.connection_lost
    assert answers(database)


def test_connections_that_are_all_busy_shut_nobody_out(postgresql_url: str) -> None:
    database = Database(postgresql_url, pool_size=1, patience=timedelta(seconds=5))
    held = [database.engine.raw_connection() for _ in range(3)]
    with pytest.raises(UNREACHABLE):
        answers(database)
    for connection in held:
        connection.close()
    assert answers(database)
    database.close()


def test_who_is_not_answered_at_all_is_refused_at_once_from_then_on(postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    with Proxy(url.port or 5432) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        database = Database(through, patience=_PATIENCE)
        assert answers(database)
        proxy.stall()
        with pytest.raises(UNREACHABLE):
            answers(database)
        began = time.monotonic()
        with pytest.raises(UNREACHABLE):
            answers(database)
        assert time.monotonic() - began < 0.1
        proxy.forward()
        wait_until(lambda: _answers_again(database), description="it is found again")
        database.close()


def _answers_again(database: Database) -> bool:
    try:
        return answers(database)
    except UNREACHABLE:
        return False


@pytest.mark.parametrize("kind", BOTH)
def test_a_long_question_has_more_time_than_others_and_then_an_error_of_its_own(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database = Database(request.getfixturevalue(f"{kind}_url"), patience=timedelta(seconds=0.3))
    some_time = text("SELECT 1" if database.is_sqlite else "SELECT 1 FROM pg_sleep(0.6)")
    assert database.fetch_all(some_time, limit=timedelta(seconds=5)) == [(1,)]
    for _ in range(2):
        with pytest.raises(DatabaseTooSlowError):
            database.fetch_all(text(_FOREVER), limit=timedelta(seconds=0.2))
    assert answers(database)
    limit = "0" if database.is_sqlite else required(database.fetch_one(text("SHOW statement_timeout")))[0]
    assert limit in {"0", "270ms"}, "who has the connection next has the usual one"
    database.close()


@pytest.mark.parametrize("kind", BOTH)
def test_a_sample_that_takes_too_long_stops_neither_the_gate_nor_the_next_sample(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """They share a process, its connections and its breaker."""
    monkeypatch.setattr(samples, "LIMIT", timedelta(milliseconds=5))
    monkeypatch.setattr(process, "TOO_SLOW_SECONDS", 0.01)
    database = Database(request.getfixturevalue(f"{kind}_url"), pool_size=3, patience=timedelta(seconds=20))
    store = Store(database)
    open_lane(store, "deep")
    change_lane(store, "deep", paused=True)
    open_lane(store)
    fill(database, queued=60_000, final=0)
    stopped = threading.Event()
    sampler = Sampler(store.samples, store.scale, WorkSignal())
    thread = threading.Thread(target=process.run, args=(sampler.run_once, sampler.wait, stopped), name="sampler")
    thread.start()
    try:
        wait_until(lambda: caplog.text.count("took longer than it may") >= 2, description="samples were stopped")
        submit(store)
        assert len(release(store)) == 1
        monkeypatch.setattr(samples, "LIMIT", timedelta(seconds=30))
        wait_until(
            lambda: 60_000 in [sample.backlog for sample in store.samples.latest()],
            description="it is sampled when there is time",
        )
    finally:
        stopped.set()
        thread.join()
    assert "can't be reached" not in caplog.text
    database.close()
