"""What downstreams refused lately: read for the page and the document, by an index that has nothing but refusals."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.support.jobs import LANE, attempts_of, change_attempts, open_lane, running, time_at
from tidegate.clock import to_microseconds
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)
ERROR = {"code": "downstream_error", "message": "the downstream answered 429"}


@pytest.fixture(autouse=True)
def lane(store: Store) -> None:
    """Fast enough that no call waits for another."""
    open_lane(store, rates=("1000/s",), burst=100)


def refused(store: Store) -> Claim:
    """A call that its downstream refused, and whose job comes back in an hour; the lane does not rest."""
    claim = running(store)
    store.workers.refused(claim, ERROR, after=timedelta(0), call_seconds=0.0)
    later = to_microseconds(time_at(store)) + 3_600_000_000
    store.database.execute(text("UPDATE jobs SET run_at = :at WHERE slot_at IS NULL"), {"at": later})
    return claim


def slot_of(store: Store, claim: Claim) -> int:
    """The slot of its attempt."""
    return to_microseconds(attempts_of(store, claim.job_id)[0].slot_at)


def test_refusals_are_counted_by_lane_and_calls_that_ended_otherwise_are_not(store: Store) -> None:
    assert store.lanes.refused() == {}
    first = refused(store)
    assert store.workers.succeed(running(store), RESULT, call_seconds=None)
    assert store.workers.fail(running(store), ERROR, call_seconds=None)
    last = refused(store)
    running(store)
    found = store.lanes.refused()
    assert found.keys() == {LANE}
    assert (found[LANE].number, found[LANE].first_slot, found[LANE].last_slot) == (
        2,
        slot_of(store, first),
        slot_of(store, last),
    )


@pytest.mark.parametrize("column", ["ended_at", "slot_at"])
def test_what_was_refused_more_than_a_minute_ago_is_forgotten(store: Store, column: str) -> None:
    old = refused(store)
    refused(store)
    change_attempts(store, old.job_id, **{column: time_at(store) - timedelta(seconds=61)})
    assert store.lanes.refused()[LANE].number == 1
    change_attempts(store, old.job_id, **{column: time_at(store) - timedelta(seconds=50)})
    assert store.lanes.refused()[LANE].number == 2
