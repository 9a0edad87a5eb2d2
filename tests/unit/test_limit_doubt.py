"""When a declared limit looks wrong: the borders of the rule."""

from typing import Any

import pytest

from tidegate import rate_limit
from tidegate.clock import EPOCH, from_microseconds
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.lane import allowance_of
from tidegate.dispatch.limit_doubt import Refusals, doubt_about
from tidegate.operations.limits import Limits

SECOND = 1_000_000
NOW = 3600 * SECOND
LIMITS = Limits(name="lane", rates=("5/s",))


def downstream(*calls_at: float, limits: Limits = LIMITS, changes: dict[str, Any] | None = None) -> Downstream:
    """As it is seen an hour after 1970, with calls so many seconds before that."""
    pace = rate_limit.Pace()
    unlimited = allowance_of((), 1, 0)
    for ago in sorted(calls_at, reverse=True):
        _, pace = rate_limit.take_slots(unlimited, pace, now=NOW - round(ago * SECOND), wanted=1, horizon=0)
    return Downstream(
        name="lane",
        limits=limits,
        declared=LIMITS,
        changes=changes or {},
        paused=False,
        paused_until=None,
        refusals=0,
        failures=0,
        released=0,
        next_slot_at=EPOCH,
        seen_at=from_microseconds(NOW),
        pace=pace,
    )


def refused(number: int, first: float, last: float) -> Refusals:
    """So many, the first and the last of them so many seconds ago."""
    return Refusals(number=number, first_slot=NOW - round(first * SECOND), last_slot=NOW - round(last * SECOND))


def every(seconds: float, number: int) -> list[float]:
    """So many calls, the last of them now."""
    return [seconds * each for each in range(number)]


def test_a_limit_above_what_the_downstream_takes_is_told_in_words() -> None:
    doubt = doubt_about(downstream(*every(1.2, 49)), refused(9, first=48, last=6))
    assert doubt
    assert doubt.message == "refused 9 of 49 calls in the last minute: the limit is lower than declared"


@pytest.mark.parametrize("changes", [{"rates": ["9/s"]}, {"concurrency": 3}])
def test_a_limit_of_the_operator_is_named_as_such(changes: dict[str, Any]) -> None:
    doubt = doubt_about(downstream(*every(1, 50), changes=changes), refused(9, first=48, last=6))
    assert doubt
    assert doubt.message.endswith("the limit is lower than set")


@pytest.mark.parametrize(("number", "is_told"), [(2, False), (3, True)])
def test_two_refusals_say_nothing_and_three_do(number: int, *, is_told: bool) -> None:
    assert (doubt_about(downstream(*every(1, 50)), refused(number, first=40, last=10)) is not None) is is_told


@pytest.mark.parametrize(("number", "is_told"), [(19, False), (20, True)])
def test_less_than_two_in_a_hundred_say_nothing(number: int, *, is_told: bool) -> None:
    lane = downstream(*every(0.05, 1000))
    assert (doubt_about(lane, refused(number, first=40, last=10)) is not None) is is_told


@pytest.mark.parametrize(("taken", "is_told"), [((), False), ((11.5,), True)])
def test_a_downstream_that_took_nothing_between_its_refusals_is_out_of_order(
    taken: tuple[float, ...], *, is_told: bool
) -> None:
    lane = downstream(50, 40, 14, 13, 12, 11, *taken)
    assert (doubt_about(lane, refused(4, first=14, last=11)) is not None) is is_told


def test_calls_that_are_promised_or_more_than_a_minute_ago_do_not_count() -> None:
    doubt = doubt_about(downstream(70, 61, 59, 40, 30, 20, 10, -0.5), refused(3, first=40, last=10))
    assert doubt
    assert (doubt.refused, doubt.calls) == (3, 5)


def test_nothing_is_said_without_refusals_or_without_limits() -> None:
    assert doubt_about(downstream(*every(1, 50)), None) is None
    assert doubt_about(downstream(*every(1, 50), limits=Limits(name="lane")), refused(9, first=40, last=10)) is None
    places = Limits(name="lane", concurrency=4)
    assert doubt_about(downstream(*every(1, 50), limits=places), refused(9, first=40, last=10)) is not None


def test_a_downstream_whose_calls_were_forgotten_is_not_counted_below_its_refusals() -> None:
    assert doubt_about(downstream(), refused(9, first=40, last=10)) is None
