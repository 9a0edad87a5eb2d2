"""Who gets a job, and who may still write about it: one release one claim, and the fence guards every write."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.jobs import (
    ATTEMPT_TIMEOUT,
    LEASE,
    attempts_of,
    change_attempts,
    change_job,
    change_lane,
    claim,
    open_lane,
    outcomes_of,
    pass_deadline,
    release_one,
    row_of,
    running,
    submit,
    time_at,
)
from tests.support.present import present
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs
from tidegate.database.time import database_now
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return that threads make at the same moment."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(timeout=10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=30) for future in [pool.submit(begin, call) for call in calls]]


def test_a_claim_says_what_the_worker_needs(store: Store) -> None:
    open_lane(store, rates=("1000/s",))
    submit(store, max_attempts=4)
    released = release_one(store)

    claimed = claim(store, released)

    assert claimed is not None
    assert (claimed.operation, claimed.downstream, claimed.fence) == ("echo", "lane", 1)
    assert (claimed.attempt, claimed.max_attempts, claimed.losses, claimed.is_last) == (1, 4, 0, False)
    assert claimed.is_paced
    row = row_of(store, released.job_id)
    assert (row.state, row.attempt, row.version) == ("running", 1, 2)
    assert row.lease_until > row.started_at + LEASE - timedelta(seconds=1)
    (attempt,) = attempts_of(store, released.job_id)
    assert (attempt.worker, attempt.worker_pid) == ("worker-1", 1)
    assert attempt.claimed_at is not None
    assert attempt.ended_at is None


def test_of_two_messages_of_one_release_the_first_wins(store: Store) -> None:
    open_lane(store)
    submit(store)
    released = release_one(store)

    assert claim(store, released, worker="a") is not None
    assert claim(store, released, worker="b") is None
    assert row_of(store, released.job_id).attempt == 1
    assert attempts_of(store, released.job_id)[0].ended_at is None, "the loser does not free the winner's place"


def test_of_many_connections_that_claim_at_once_one_wins(store: Store, database_url: str) -> None:
    open_lane(store)
    others = [Store(Database(database_url, pool_size=1)) for _ in range(6)]
    for _ in range(5):
        submit(store)
        released = release_one(store)

        claims = at_once(*(lambda other=other, released=released: claim(other, released) for other in others))

        assert sum(claimed is not None for claimed in claims) == 1
        row = row_of(store, released.job_id)
        assert (row.state, row.attempt, row.version) == ("running", 1, 2)
    for other in others:
        other.database.close()


@pytest.mark.parametrize("reason", ["cancelled", "expired", "past its deadline", "paused", "rests", "taken back"])
def test_what_must_not_run_is_not_handed_out_and_holds_no_place(store: Store, reason: str) -> None:
    open_lane(store)
    submit(store)
    released = release_one(store)
    job_id = released.job_id
    match reason:
        case "cancelled":
            store.callers.cancel(job_id, IMPLICIT_CLIENT)
        case "expired":
            pass_deadline(store, job_id)
            assert store.upkeep.expire(10) == 1
        case "past its deadline":
            pass_deadline(store, job_id)
        case "paused":
            change_lane(store, paused=True)
        case "rests":
            change_lane(store, paused_until=database_now(timedelta(minutes=1)))
        case "taken back":
            store.lanes.take_back([released])

    assert claim(store, released) is None

    assert row_of(store, job_id).slot_at is None
    assert row_of(store, job_id).attempt == 0
    assert outcomes_of(store, job_id) == ["not sent" if reason == "taken back" else "dropped"]


def test_the_message_of_an_earlier_release_finds_nothing(store: Store) -> None:
    open_lane(store)
    submit(store)
    first = release_one(store)
    store.lanes.take_back([first])
    second = release_one(store)

    assert claim(store, first) is None
    assert row_of(store, first.job_id).slot_at is not None, "the newer release stands"
    assert claim(store, second) is not None
    assert claim(store, first) is None
    assert outcomes_of(store, first.job_id) == ["not sent", None]


def test_between_cancel_and_finish_at_once_the_job_ends_in_one_way(store: Store, database_url: str) -> None:
    open_lane(store)
    other = Store(Database(database_url, pool_size=1))
    for _ in range(10):
        claimed = running(store)
        cancelled, won = at_once(
            partial(other.callers.cancel, claimed.job_id, IMPLICIT_CLIENT),
            partial(store.workers.succeed, claimed, RESULT, call_seconds=None),
        )
        assert won, "asking to cancel does not undo a result"
        assert cancelled.state in {State.RUNNING, State.SUCCEEDED}
        assert row_of(store, claimed.job_id).state == "succeeded"
    other.database.close()


def test_between_expiry_and_claim_at_once_one_wins(store: Store, database_url: str) -> None:
    open_lane(store)
    other = Store(Database(database_url, pool_size=1))
    for _ in range(10):
        submit(store)
        released = release_one(store)
        change_job(store, released.job_id, deadline=database_now(timedelta(milliseconds=2)))
        at_once(lambda: other.upkeep.expire(10), partial(claim, store, released))

        job = store.callers.get(released.job_id, IMPLICIT_CLIENT)

        assert job is not None
        assert job.state in {State.RUNNING, State.EXPIRED}
        pass_deadline(store, released.job_id)
        assert present(store.callers.get(released.job_id, IMPLICIT_CLIENT)).state is State.EXPIRED
        change_attempts(store, released.job_id, ended_at=database_now())
    other.database.close()


def test_a_late_message_has_its_place_from_its_claim_on(store: Store) -> None:
    open_lane(store)
    submit(store)
    released = release_one(store)
    change_job(store, released.job_id, slot_at=database_now(-timedelta(minutes=1)))

    assert claim(store, released) is not None

    (attempt,) = attempts_of(store, released.job_id)
    assert attempt.ends_at > time_at(store) + ATTEMPT_TIMEOUT - timedelta(seconds=5)
    assert attempt.place_until > time_at(store) + ATTEMPT_TIMEOUT - timedelta(seconds=3)


def test_a_claim_whose_answer_was_lost_is_handed_back(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")

    assert not store.claims.disclaim(claimed.job_id, claimed.fence, worker="another")
    assert store.claims.disclaim(claimed.job_id, claimed.fence, worker="mine")
    assert not store.claims.disclaim(claimed.job_id, claimed.fence, worker="mine")

    row = row_of(store, claimed.job_id)
    assert (row.state, row.attempt, row.slot_at) == ("queued", 0, None)
    assert outcomes_of(store, claimed.job_id) == ["handed back"]


def test_a_claim_that_may_yet_be_committed_finds_its_release_taken_back(store: Store) -> None:
    open_lane(store)
    submit(store)
    released = release_one(store)

    assert not store.claims.disclaim(released.job_id, released.fence, worker="mine")

    assert outcomes_of(store, released.job_id) == ["unclaimed"]
    assert claim(store, released) is None
    assert release_one(store).job_id == released.job_id


def test_a_sweep_and_a_claim_never_wait_for_each_other(postgresql_url: str) -> None:
    """A claim has the job's row and wants the attempt's. A sweep that took them the other way round would deadlock."""
    store = Store(Database(postgresql_url))
    open_lane(store)
    submit(store)
    released = release_one(store)
    change_attempts(store, released.job_id, place_until=database_now(-timedelta(seconds=1)))

    with store.database.transaction() as claiming, ThreadPoolExecutor(1) as pool:
        claiming.execute(update(jobs).where(jobs.c.id == released.job_id).values(version=9))
        assert pool.submit(store.upkeep.take_back_unclaimed, 10).result(timeout=10) == 0
        claiming.execute(update(attempts).values(claimed_at=database_now()))

    assert row_of(store, released.job_id).version == 9
    store.database.close()


def test_a_heartbeat_passes_over_a_result_that_is_being_recorded(postgresql_url: str) -> None:
    """Each could have what the other waits for. What is passed over and goes on running is told, to be renewed soon."""
    store = Store(Database(postgresql_url))
    open_lane(store)
    ending, other = running(store), running(store)
    calls = {(claimed.job_id, claimed.fence) for claimed in (ending, other)}
    change_job(store, other.job_id, lease_until=database_now())

    with store.database.transaction() as recording, ThreadPoolExecutor(1) as pool:
        recording.execute(update(jobs).where(jobs.c.id == ending.job_id).values(version=9))
        recording.execute(update(attempts).where(attempts.c.job_id == ending.job_id).values(outcome="succeeded"))
        passed_over = pool.submit(store.heartbeats.renew, "worker-1", calls, lease=LEASE).result(timeout=10)

    assert passed_over == {(ending.job_id, ending.fence)}
    assert row_of(store, other.job_id).lease_until > time_at(store) + LEASE / 2
    assert store.heartbeats.renew("worker-1", passed_over, lease=LEASE) == set()
    store.database.close()
