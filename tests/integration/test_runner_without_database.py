"""An attempt while the database is away: nothing is let go before it has said what became of the job."""

import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.support.jobs import LANE, LEASE, open_lane, outcomes_of, release_one, row_of, submit
from tests.support.waiting import wait_until
from tidegate.database import Database
from tidegate.handover import SilentHandover
from tidegate.operations import Attempt, Registry
from tidegate.prepared import Prepared
from tidegate.python_operation import operation
from tidegate.runner import Runner
from tidegate.store import Store
from tidegate.wake import SilentBell


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
        bell=SilentBell(),
        handover=SilentHandover(),
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


def test_an_outcome_survives_the_loss_of_every_connection(postgresql_url: str) -> None:
    store = Store(Database(postgresql_url))

    def made(params: JsonValue) -> int:
        with store.database.reading() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        # The pool gives this one out again, so it must be dead as well.
        with Database(postgresql_url, pool_size=1).reading() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
            other.detach()
        return 1

    job_id = run_one(store, made)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("succeeded", ["succeeded"])
    store.database.close()


def test_a_claim_that_was_committed_unheard_is_handed_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection dies between the commit and its answer. Nobody works on the job, and its worker lives."""
    dialect = store.database.engine.dialect
    commit, armed = dialect.do_commit, []
    driver: Any = dialect.dbapi

    def commit_unheard(connection: Any) -> None:
        commit(connection)
        if armed:
            armed.clear()
            raise driver.OperationalError("the answer never came")

    ask = store.database.ask

    def ask_unheard(prepared: Prepared[Any], values: Mapping[str, Any]) -> Any:
        answer = ask(prepared, values)
        if armed and "its_worker" in values:
            armed.clear()
            raise OperationalError("", None, driver.OperationalError("the answer never came"))
        return answer

    if store.database.is_sqlite:
        monkeypatch.setattr(dialect, "do_commit", commit_unheard)
    else:  # where a claim is one statement that commits itself
        monkeypatch.setattr(store.database, "ask", ask_unheard)

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
        bell=SilentBell(),
        handover=SilentHandover(),
    )
    armed.append(True)

    assert not runner.run(job_id, released.fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, row.slot_at, row.lease_until) == ("queued", 0, None, None)
    assert outcomes_of(store, job_id) == ["handed back"]
    assert release_one(store).job_id == job_id
