"""A job that is erased while its release or its call is still out: its place is not held for ever, no row is left."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import delete

from tests.support.jobs import (
    attempts_of,
    change_attempts,
    change_job,
    claim,
    open_lane,
    pass_deadline,
    release,
    release_one,
    running,
    submit,
    time_at,
)
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim
from tidegate.maintenance.sweep import sweep
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

OVER = database_now(-timedelta(seconds=1))
NOTHING = timedelta(0)
RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)


def erase(store: Store, job_id: str) -> None:
    """By its owner, after he cancelled it or its deadline passed."""
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    assert store.callers.delete(job_id, IMPLICIT_CLIENT)


def prune(store: Store, job_id: str) -> None:
    """By the sweep, long after."""
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    change_job(
        store, job_id, finished_at=database_now(-timedelta(hours=3)), created_at=database_now(-timedelta(hours=4))
    )
    assert sweep(store.upkeep, retention=timedelta(hours=1)).pruned == 1


@pytest.mark.parametrize("erase_it", [erase, prune])
def test_a_release_whose_message_is_lost_holds_no_place(store: Store, erase_it: Callable[[Store, str], None]) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    first = release_one(store)

    erase_it(store, first.job_id)

    assert attempts_of(store, first.job_id) == []
    following = submit(store)
    assert release_one(store).job_id == following


def test_a_message_that_comes_after_all_leaves_no_row(store: Store) -> None:
    open_lane(store)
    submit(store)
    released = release_one(store)
    erase(store, released.job_id)

    assert claim(store, released) is None

    assert attempts_of(store, released.job_id) == []


def test_a_place_that_an_earlier_version_left_is_freed(store: Store) -> None:
    """The sweep of that version passed it over each second."""
    open_lane(store, concurrency=1)
    submit(store)
    first = release_one(store)
    with store.database.transaction() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == first.job_id))
    change_attempts(store, first.job_id, place_until=OVER)

    assert sweep(store.upkeep, retention=timedelta(days=1)).unclaimed == 1

    assert attempts_of(store, first.job_id) == []
    assert not store.upkeep.read_outlook().places


def run_out(store: Store, claimed: Claim) -> None:
    """Its place is held no longer, and the sweep finds that."""
    change_attempts(store, claimed.job_id, place_until=OVER)
    sweep(store.upkeep, retention=timedelta(days=1))


_ENDS: dict[str, Callable[[Store, Claim], object]] = {
    "its worker says so": lambda store, claimed: store.workers.succeed(claimed, RESULT, call_seconds=0.1),
    "its worker stops": lambda store, _: store.heartbeats.remove("worker-1"),
    "its child died": lambda store, _: store.heartbeats.child_died("worker-1", [99], claimed_until=time_at(store)),
    "its claim was given up": lambda store, claimed: store.claims.disclaim(
        claimed.job_id, claimed.fence, worker="worker-1"
    ),
    "nobody says so": run_out,
}


@pytest.mark.parametrize("end", _ENDS)
def test_a_call_keeps_its_place_until_it_ends_and_leaves_no_row(store: Store, end: str) -> None:
    open_lane(store, concurrency=1)
    claimed = running(store)
    pass_deadline(store, claimed.job_id)
    assert store.callers.delete(claimed.job_id, IMPLICIT_CLIENT)
    submit(store)
    assert release(store) == [], "the call is still open"

    _ENDS[end](store, claimed)

    assert attempts_of(store, claimed.job_id) == []
    open_lane(store, concurrency=1)
    assert len(release(store)) == 1


def test_a_call_that_ends_while_its_job_is_erased_leaves_no_row(postgresql_url: str) -> None:
    """Each of the two transactions sees the rows as they were before the other."""
    store = Store(Database(postgresql_url))
    open_lane(store)
    claimed = running(store)
    pass_deadline(store, claimed.job_id)
    store.upkeep.expire(10)

    with ThreadPoolExecutor(1) as pool:
        with store.database.transaction() as ending:
            ending.execute(attempts.update().values(ended_at=database_now(), outcome="late"))
            erased = pool.submit(store.callers.delete, claimed.job_id, IMPLICIT_CLIENT)
            with pytest.raises(TimeoutError):
                erased.result(timeout=0.3)
        assert erased.result(timeout=10)

    assert attempts_of(store, claimed.job_id) == []
    store.database.close()
