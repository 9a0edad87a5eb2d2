"""An outcome whose answer was lost on the way back is offered again: it was recorded, and says so."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.jobs import lane_row, open_lane, outcomes_of, row_of, running, time_at
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded
from tidegate.stores import OutcomeStore, Store

Write = Callable[[OutcomeStore, Claim], bool]
RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)
ERROR = {"code": "operation_error", "message": "no"}
NONE = timedelta(0)


def succeed(store: OutcomeStore, claimed: Claim) -> bool:
    return store.succeed(claimed, RESULT, call_seconds=None)


def fail(store: OutcomeStore, claimed: Claim) -> bool:
    return store.fail(claimed, ERROR, call_seconds=None)


def try_again(store: OutcomeStore, claimed: Claim) -> bool:
    return store.try_again(claimed, ERROR, after=NONE, is_spent=False, blames_downstream=False, call_seconds=None)


def refused(store: OutcomeStore, claimed: Claim) -> bool:
    return store.refused(claimed, ERROR, after=NONE, call_seconds=None)


def hand_back(store: OutcomeStore, claimed: Claim) -> bool:
    return store.hand_back(claimed, after=NONE, outcome="no slot")


WRITES = pytest.mark.parametrize(
    ("write", "outcome"),
    [(succeed, "succeeded"), (fail, "failed"), (try_again, "error"), (refused, "refused"), (hand_back, "no slot")],
)


@WRITES
def test_the_second_time_changes_nothing_and_counts_as_recorded(store: Store, write: Write, outcome: str) -> None:
    open_lane(store)
    claimed = running(store)
    assert write(store.workers, claimed)
    before = row_of(store, claimed.job_id)

    assert write(store.workers, claimed)

    assert row_of(store, claimed.job_id) == before
    assert outcomes_of(store, claimed.job_id) == [outcome]


def test_a_failure_or_refusal_that_is_told_twice_counts_once(store: Store) -> None:
    open_lane(store)
    failed, second = running(store), running(store)

    for _ in range(2):
        assert store.workers.try_again(
            failed, ERROR, after=NONE, is_spent=False, blames_downstream=True, call_seconds=None
        )
        assert refused(store.workers, second)

    assert (lane_row(store).failures, lane_row(store).refusals) == (1, 1)


@WRITES
def test_an_attempt_that_others_gave_up_is_late(store: Store, write: Write, outcome: str) -> None:
    open_lane(store)
    claimed = running(store)
    assert store.heartbeats.child_died("worker-1", [], claimed_until=time_at(store)) == 1

    assert not write(store.workers, claimed)

    assert outcomes_of(store, claimed.job_id) == ["late"]
