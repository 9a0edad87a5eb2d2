"""An attempt while the database is away: nothing is let go before it has said what became of the job."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import make_url, text

from tests.support.databases import BOTH
from tests.support.jobs import (
    LANE,
    LEASE,
    attempts_of,
    open_lane,
    outcomes_of,
    release_one,
    row_of,
    submit,
)
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.database.json_rows import PARAMETER
from tidegate.errors import DatabaseUnreachableError
from tidegate.execution.handoff import SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.operations.registry import Registry
from tidegate.stores import Store


def run_one(store: Store, function: Any) -> str:
    made = operation(name="made", downstream=LANE)(function)
    open_lane(store)
    job_id = submit(store, operation="made")
    released = release_one(store)
    runner = Runner(
        store,
        Registry.of([made]),
        worker="mine",
        lease=LEASE,
        max_result=10_000,
        notifier=SilentNotifier(),
        handoff=SilentHandoff(),
    )
    runner.run(job_id, released.fence)
    return job_id


@pytest.fixture
def impatient_store(sqlite_url: str) -> Iterator[Store]:
    """A store on SQLite that waits 20 ms for a lock and not ten seconds."""
    database = Database(sqlite_url, busy_timeout=timedelta(milliseconds=20))
    yield Store(database)
    database.close()


def test_an_outcome_is_offered_until_the_locked_database_takes_it(
    impatient_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = impatient_store.database.engine.url.database
    assert file is not None
    locker = sqlite3.connect(file, isolation_level=None, check_same_thread=False)

    def unlock_after_two_refusals() -> None:
        wait_until(lambda: caplog.text.count("trying on") >= 2, description="the outcome was offered twice in vain")
        locker.execute("ROLLBACK")

    unlocking = threading.Thread(target=unlock_after_two_refusals)

    def made(params: JsonValue, attempt: Attempt) -> int:
        locker.execute("BEGIN IMMEDIATE")
        unlocking.start()
        attempt.progress(1, 2)
        return 1

    job_id = run_one(impatient_store, made)

    unlocking.join()
    locker.close()
    assert "progress not written" in caplog.text, "a progress that can't be written does not end the attempt"
    assert row_of(impatient_store, job_id).state == "succeeded"
    assert outcomes_of(impatient_store, job_id) == ["succeeded"]


@dataclass(frozen=True, kw_only=True)
class Breakable:
    """A store, and what takes its database away and gives it back."""

    store: Store
    take_away: Callable[[], object]
    give_back: Callable[[], object]


@pytest.fixture
def breakable_sqlite(impatient_store: Store) -> Iterator[Breakable]:
    locker = sqlite3.connect(
        str(impatient_store.database.engine.url.database), isolation_level=None, check_same_thread=False
    )
    yield Breakable(
        store=impatient_store,
        take_away=lambda: locker.execute("BEGIN IMMEDIATE"),
        give_back=lambda: locker.execute("ROLLBACK"),
    )
    locker.close()


@pytest.fixture
def breakable_postgresql(postgresql_url: str) -> Iterator[Breakable]:
    url = make_url(postgresql_url)
    with Proxy(url.port or 5432) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        database = Database(through)
        yield Breakable(store=Store(database), take_away=proxy.refuse, give_back=proxy.forward)
        database.close()


@pytest.fixture(params=BOTH)
def breakable(request: pytest.FixtureRequest) -> Breakable:
    given: Breakable = request.getfixturevalue(f"breakable_{request.param}")
    return given


@pytest.mark.parametrize("outcome", ["succeeded", "error"])
def test_an_outage_while_the_outcome_is_recorded_does_not_move_the_start_of_the_call(
    breakable: Breakable, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    called_at: list[datetime] = []

    def give_back_after_two_refusals() -> None:  # 0.6 s lie between those and the next try
        wait_until(lambda: caplog.text.count("trying on") >= 2, description="the outcome was offered twice in vain")
        breakable.give_back()

    giving_back = threading.Thread(target=give_back_after_two_refusals)

    def made(params: JsonValue) -> int:
        called_at.append(datetime.now(UTC))
        breakable.take_away()
        giving_back.start()
        if outcome == "error":
            raise RuntimeError("no luck")
        return 1

    job_id = run_one(breakable.store, made)

    giving_back.join()
    (attempt,) = attempts_of(breakable.store, job_id)
    assert attempt.outcome == outcome
    # The last try's own wait for a lock counts, but not the 0.6 s before it.
    assert attempt.call_started_at < called_at[0] + timedelta(seconds=0.5)
    assert attempt.ended_at > called_at[0] + timedelta(seconds=0.6)


def test_an_outcome_survives_the_loss_of_every_connection(postgresql_url: str) -> None:
    store = Store(Database(postgresql_url))

    def made(params: JsonValue) -> int:
        with store.database.transaction() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        # The pool gives this one out again, so it must be dead as well.
        with closing(Database(postgresql_url, pool_size=1)) as another, another.transaction() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
            other.detach()
        return 1

    job_id = run_one(store, made)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("succeeded", ["succeeded"])
    store.database.close()


def test_a_claim_that_was_committed_unheard_is_handed_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection dies between the commit and its answer. Nobody works on the job, and its worker lives."""
    dialect = store.database.engine.dialect
    commit, armed = dialect.do_commit, list[bool]()
    driver: Any = dialect.dbapi

    def commit_unheard(connection: Any) -> None:
        commit(connection)
        if armed:
            armed.clear()
            raise driver.OperationalError("the answer never came")

    fetch_all = store.database.fetch_all

    def fetch_unheard(statement: Any, values: Mapping[str, Any] | None = None, **rest: Any) -> Any:
        answer = fetch_all(statement, values, **rest)
        if armed and "worker" in (values or {}).get(PARAMETER, ""):
            armed.clear()
            raise DatabaseUnreachableError("the answer never came", connection_lost=True, may_be_done=True)
        return answer

    if store.database.is_sqlite:
        monkeypatch.setattr(dialect, "do_commit", commit_unheard)
    else:  # where a claim is one statement that commits itself
        monkeypatch.setattr(store.database, "fetch_all", fetch_unheard)

    def made(params: JsonValue) -> int:
        raise AssertionError("it was not claimed")

    open_lane(store)
    job_id = submit(store, operation="made")
    released = release_one(store)
    runner = Runner(
        store,
        Registry.of([operation(name="made", downstream=LANE)(made)]),
        worker="mine",
        lease=LEASE,
        max_result=10_000,
        notifier=SilentNotifier(),
        handoff=SilentHandoff(),
    )
    armed.append(True)

    assert not runner.run(job_id, released.fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, row.slot_at, row.lease_until) == ("queued", 0, None, None)
    assert outcomes_of(store, job_id) == ["handed back"]
    assert release_one(store).job_id == job_id
