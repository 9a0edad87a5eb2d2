"""What becomes of a job whose attempt brought no result: expired, cancelled, failed, queued, in this order."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.jobs import (
    change_job,
    claim,
    lose_lease,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    row_of,
    running,
    submit,
    time_at,
)
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.jobs.job import MAX_LOSSES, Claim
from tidegate.stores import Store

ERROR = {"code": "operation_error", "message": "no"}


def fail_spent(store: Store, claimed: Claim) -> None:
    store.workers.try_again(
        claimed, ERROR, after=timedelta(0), is_spent=True, blames_downstream=False, call_seconds=None
    )


def fail_with_attempts_left(store: Store, claimed: Claim) -> None:
    store.workers.try_again(
        claimed, ERROR, after=timedelta(minutes=5), is_spent=False, blames_downstream=False, call_seconds=None
    )


def hand_back(store: Store, claimed: Claim) -> None:
    store.workers.hand_back(claimed, after=timedelta(0), outcome="no slot")


def refuse(store: Store, claimed: Claim) -> None:
    store.workers.refused(claimed, ERROR, after=timedelta(seconds=1), call_seconds=None)


def lose_for_the_last_time(store: Store, claimed: Claim) -> None:
    change_job(store, claimed.job_id, losses=MAX_LOSSES - 1)
    lose_lease(store, claimed.job_id)
    store.upkeep.rescue(10, until=time_at(store))


def lose(store: Store, claimed: Claim) -> None:
    lose_lease(store, claimed.job_id)
    store.upkeep.rescue(10, until=time_at(store))


def stop_worker(store: Store, claimed: Claim) -> None:
    store.heartbeats.remove("worker-1")


WAYS_BACK = [fail_spent, fail_with_attempts_left, hand_back, refuse, lose_for_the_last_time, lose, stop_worker]
SPENDING = [fail_spent, lose_for_the_last_time]
Way = Callable[[Store, Claim], None]


@pytest.mark.parametrize("way", WAYS_BACK, ids=lambda way: way.__name__)
def test_past_its_deadline_it_expires_whatever_else_is_true(store: Store, way: Way) -> None:
    open_lane(store)
    claimed = running(store)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)
    pass_deadline(store, claimed.job_id)

    way(store, claimed)

    row = row_of(store, claimed.job_id)
    assert (row.state, row.lease_until, row.slot_at, row.waits_for) == ("expired", None, None, None)
    assert row.finished_at is not None


@pytest.mark.parametrize("way", WAYS_BACK, ids=lambda way: way.__name__)
def test_asked_to_cancel_it_is_cancelled_though_attempts_may_be_spent(store: Store, way: Way) -> None:
    open_lane(store)
    claimed = running(store)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)

    way(store, claimed)

    row = row_of(store, claimed.job_id)
    assert (row.state, row.waits_for) == ("cancelled", None)
    assert release(store) == []


@pytest.mark.parametrize("way", SPENDING, ids=lambda way: way.__name__)
def test_with_its_attempts_spent_it_fails(store: Store, way: Way) -> None:
    open_lane(store)
    claimed = running(store)

    way(store, claimed)

    row = row_of(store, claimed.job_id)
    assert row.state == "failed"
    assert row.finished_at is not None
    assert row.error is not None


@pytest.mark.parametrize("way", [way for way in WAYS_BACK if way not in SPENDING], ids=lambda way: way.__name__)
def test_else_it_waits_again(store: Store, way: Way) -> None:
    open_lane(store)
    claimed = running(store)
    before = row_of(store, claimed.job_id)

    way(store, claimed)

    row = row_of(store, claimed.job_id)
    assert (row.state, row.finished_at, row.slot_at, row.lease_until) == ("queued", None, None, None)
    assert row.version == before.version + 1
    assert row.run_at > before.run_at


def test_a_retry_waits_as_long_as_it_was_told_and_says_so(store: Store) -> None:
    open_lane(store)
    claimed = running(store)

    fail_with_attempts_left(store, claimed)

    row = row_of(store, claimed.job_id)
    assert row.waits_for == "retry"
    assert row.run_at - row.started_at > timedelta(minutes=4)
    assert row.attempt == 1
    assert release(store) == []


@pytest.mark.parametrize("way", [hand_back, refuse, stop_worker], ids=lambda way: way.__name__)
def test_an_attempt_that_did_not_happen_is_given_back(store: Store, way: Way) -> None:
    open_lane(store)
    claimed = running(store)

    way(store, claimed)

    assert row_of(store, claimed.job_id).attempt == 0


def test_losses_count_apart_from_attempts(store: Store) -> None:
    open_lane(store)
    job_id = submit(store, max_attempts=2)
    for losses in range(1, MAX_LOSSES):
        claimed = claim(store, release_one(store))
        assert claimed is not None
        lose(store, claimed)
        assert row_of(store, job_id).losses == losses

    claimed = claim(store, release_one(store))

    assert claimed is not None
    assert (claimed.attempt, claimed.losses) == (MAX_LOSSES, MAX_LOSSES - 1)
    assert not claimed.is_last, "the lost ones do not count"
    fail_with_attempts_left(store, claimed)
    change_job(store, job_id, run_at=row_of(store, job_id).created_at)
    last = claim(store, release_one(store))
    assert last is not None
    assert last.is_last


def test_a_job_that_kills_three_processes_fails(store: Store) -> None:
    open_lane(store)
    job_id = submit(store, max_attempts=100)
    for _ in range(MAX_LOSSES):
        assert row_of(store, job_id).state == "queued"
        claimed = claim(store, release_one(store))
        assert claimed is not None
        lose(store, claimed)

    row = row_of(store, job_id)
    assert (row.state, row.losses) == ("failed", MAX_LOSSES)
    assert "attempts_exhausted" in row.error
    assert release(store) == []


def test_after_a_loss_it_runs_in_a_child_process_of_its_own_if_there_are_such(store: Store) -> None:
    open_lane(store)
    first = running(store)
    lose(store, first)
    assert row_of(store, first.job_id).queue == "io", "no worker has child processes"

    open_lane(store, queue="cpu", size=2)
    second = claim(store, release_one(store))
    assert second is not None
    lose(store, second)

    assert row_of(store, first.job_id).queue == "cpu"


def test_the_place_of_a_lost_attempt_stays_held_for_its_call_may_be_open(store: Store) -> None:
    open_lane(store, concurrency=1)
    claimed = running(store)
    lose(store, claimed)

    assert row_of(store, claimed.job_id).state == "queued"
    assert release(store) == []
    assert outcomes_of(store, claimed.job_id) == [None]
