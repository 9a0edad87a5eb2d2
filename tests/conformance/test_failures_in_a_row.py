"""The breaker counts failures in a row, by the time of their answers, however many calls are open at once."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from tests.support.jobs import LANE, change_lane, claim, lane_row, open_lane, release, submit_many
from tests.support.statements import asked
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

_OPEN = 60
_RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)
_FAULT = {"code": "downstream_error", "message": "500"}


def open_calls(store: Store, *, breaker_after: int = 3) -> Sequence[Claim]:
    """All claimed while the lane was well."""
    open_lane(store, size=2 * _OPEN, concurrency=_OPEN, breaker_after=breaker_after)
    submit_many(store, _OPEN)
    claims = [claim(store, released) for released in release(store)]
    assert len(claims) == _OPEN
    return [each for each in claims if each]


def fail(store: Store, call: Claim) -> None:
    store.workers.try_again(
        call, _FAULT, after=timedelta(minutes=5), is_spent=False, blames_downstream=True, call_seconds=0.1
    )


def succeed(store: Store, call: Claim) -> None:
    assert store.workers.succeed(call, _RESULT, call_seconds=0.1)


def refuse_for_good(store: Store, call: Claim) -> None:
    assert store.workers.fail(call, {"code": "downstream_error", "message": "404"}, call_seconds=0.1)


def blame_the_operation(store: Store, call: Claim) -> None:
    store.workers.try_again(
        call, _FAULT, after=timedelta(minutes=5), is_spent=False, blames_downstream=False, call_seconds=0.1
    )


@pytest.mark.parametrize("answer", [succeed, refuse_for_good, blame_the_operation])
def test_failures_with_an_answer_between_never_open_the_breaker(
    store: Store, answer: Callable[[Store, Claim], None]
) -> None:
    for number, call in enumerate(open_calls(store)):
        (fail if number % 10 == 9 else answer)(store, call)
        assert lane_row(store).failures <= 1
    assert lane_row(store).paused_until is None


def test_as_many_in_a_row_do_open_it(store: Store) -> None:
    calls = open_calls(store)
    for call in calls[:3]:
        fail(store, call)
    assert lane_row(store).failures == 3
    assert lane_row(store).paused_until is not None


def test_a_success_ends_a_run_of_refusals_that_began_after_its_claim(store: Store) -> None:
    first, second, *_ = open_calls(store)
    store.workers.refused(first, _FAULT, after=timedelta(seconds=1), call_seconds=0.1)
    assert lane_row(store).refusals == 1
    succeed(store, second)
    assert lane_row(store).refusals == 0


def test_another_lanes_success_ends_nothing(store: Store) -> None:
    (call, *_) = open_calls(store)
    open_lane(store, "other", breaker_after=3)
    change_lane(store, "other", failures=2)
    succeed(store, call)
    assert (lane_row(store, "other").failures, lane_row(store).failures) == (2, 0)


def test_a_result_that_came_too_late_is_no_answer(store: Store) -> None:
    """The call was another's by then: what it says of the downstream is of long ago."""
    (call, *_) = open_calls(store)
    change_lane(store, failures=2)
    store.callers.cancel(call.job_id, None)
    store.workers.hand_back(call, after=timedelta(0), outcome="stopped")
    assert not store.workers.succeed(call, _RESULT, call_seconds=0.1)
    assert lane_row(store, LANE).failures == 2


def test_a_success_of_a_lane_that_is_well_is_one_statement_and_leaves_its_row(store: Store) -> None:
    (first, second, *_) = open_calls(store)
    before = version_of_the_row(store)
    with asked(store.database) as cost:
        succeed(store, first)
    succeed(store, second)

    assert cost.counts == ((3, 1) if store.database.is_sqlite else (1, 0))
    assert version_of_the_row(store) == before


def version_of_the_row(store: Store) -> object:
    """On PostgreSQL the transaction that wrote it last; SQLite has none, and a write of the same values is none."""
    if store.database.is_sqlite:
        return lane_row(store)
    with store.database.transaction() as connection:
        return connection.exec_driver_sql("SELECT xmin FROM downstreams").scalar_one()
