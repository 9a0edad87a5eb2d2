"""How many more calls may be released by what a downstream announced as left."""

from datetime import timedelta
from typing import Any

import pytest

from tidegate.dispatch import announced
from tidegate.dispatch.announced import Budget, Budgets, Seen, as_json, from_json, longest_rest
from tidegate.operations.quota_fields import Quota

SECOND = 1_000_000
NOW = 10**15


def after(known: Budgets, *quotas: tuple[int, float] | tuple[int, float, str], **given: Any) -> Budgets:
    """The budgets after an answer; its call began a tenth of a second ago, and was the only one."""
    told = [
        Quota(name=name, left=left, resets_in=timedelta(seconds=seconds)) for left, seconds, name in map(_full, quotas)
    ]
    at = given.pop("at", 0.0)
    usual = {"now": NOW + round(at * SECOND), "others": 0, "released": 0, "longest": timedelta(minutes=5)}
    values = {**usual, **given}
    values.setdefault("called_at", values["now"] - SECOND // 10)
    return announced.announced(known, told, Seen(**values))


def _full(quota: Any) -> tuple[int, float, str]:
    return (*quota, "default")[:3]


def room(budgets: Budgets, *, released: int = 0, held: int = 0, at: float = 0.0) -> int | None:
    return announced.room(budgets, released=released, held=held, now=NOW + round(at * SECOND))


def test_so_many_more_go_as_are_left_and_not_on_their_way() -> None:
    budgets = after({}, (9, 30), released=100, others=4)
    assert [room(budgets, released=released) for released in (100, 102, 105, 106)] == [5, 3, 0, 0]
    assert room({}) is None


def test_no_more_go_while_more_are_on_their_way_than_are_left() -> None:
    assert room(after({}, (3, 30), released=100, others=7), released=100) == 0


def test_after_the_reset_one_call_goes_first_and_its_answer_tells_the_rest() -> None:
    budgets = after({}, (0, 30), released=7)
    assert room(budgets, released=7, at=29.9) == 0
    assert (room(budgets, released=7, at=30), room(budgets, released=7, at=30, held=1)) == (1, 0)
    assert (room(budgets, released=8, at=30.1, held=1), room(budgets, released=8, at=30.2)) == (0, 1)

    told = after(budgets, (99, 60), at=30.2, released=8)
    assert room(told, released=8, at=30.2) == 99


def test_what_was_left_at_the_reset_is_left_after_it() -> None:
    budgets = after({}, (40, 1), released=7)
    assert room(budgets, released=10, held=8, at=2) == 37


def test_a_downstream_that_announces_nothing_any_more_is_free_after_three_calls() -> None:
    budgets = after({}, (0, 30), released=7)
    assert [room(budgets, released=released, at=31) for released in (7, 8, 9, 10, 500)] == [1, 1, 1, None, None]


@pytest.mark.parametrize("order", [(9, 8, 7), (7, 8, 9), (8, 7, 9)])
def test_in_one_window_the_least_that_is_left_is_the_latest(order: tuple[int, ...]) -> None:
    """Whichever answer comes first: each counts the calls that came before its own."""
    budgets: Budgets = {}
    for answered, left in enumerate(order, 1):
        budgets = after(budgets, (left, 30), at=answered / 100, called_at=NOW, released=3, others=3 - answered)
    assert [each.left for each in budgets.values()] == [7]
    assert (room(budgets, released=3) or 0) == 7 - (2 - order.index(7))


def test_a_slow_answer_of_the_window_before_does_not_open_it_again() -> None:
    """It was counted first, and answered last: by its own reset it would look like a new window."""
    budgets = after({}, (3, 60), at=2, released=9)
    late = after(budgets, (9, 60), at=20, called_at=NOW, released=9)
    assert late is budgets


def test_a_new_window_is_known_by_a_call_that_began_too_late_for_the_old_one() -> None:
    budgets = after({}, (0, 30), released=9)
    renewed = after(budgets, (50, 30), at=31, released=9)
    assert room(renewed, released=9, at=31) == 50


def test_the_calls_of_others_in_the_same_quota_count_too() -> None:
    budgets = after({}, (1000, 30), released=9)
    assert room(after(budgets, (400, 30), at=1, released=10), released=10, at=1) == 400


def test_while_much_is_left_what_says_nothing_less_is_not_written() -> None:
    budgets = after({}, (1000, 30), released=9)
    assert after(budgets, (999, 30), at=0.1, released=10) is budgets
    few = after({}, (20, 30), released=9)
    assert after(few, (19, 30), at=0.1, released=10) is not few
    assert after(few, (20, 30), at=0.1, released=9) is few


def test_every_quota_is_kept_and_the_scarcest_decides() -> None:
    budgets = after({}, (3, 1, "second"), (500, 200, "day"), released=9)
    assert room(budgets, released=9) == 3
    assert room(after(budgets, (3, 1, "second"), (0, 200, "day"), at=1.5, released=12), released=12, at=1.5) == 0


@pytest.mark.parametrize(
    ("rates", "longest"),
    [((), 300), (("50/s",), 300), (("50/s", "10000/d"), 86_400), (("100/15m",), 900), (("1/31d",), 31 * 86_400)],
)
def test_a_rest_is_obeyed_for_the_longest_window_and_five_minutes_at_least(
    rates: tuple[str, ...], longest: int
) -> None:
    assert longest_rest(rates) == timedelta(seconds=longest)


def test_a_reset_that_is_far_off_is_believed_for_the_longest_rest() -> None:
    budgets = after({}, (0, 86_400), longest=timedelta(minutes=5))
    assert (room(budgets, at=299), room(budgets, at=300)) == (0, 1)


def test_the_number_of_quotas_is_bounded() -> None:
    budgets: Budgets = {}
    for number in range(30):
        budgets = after(budgets, (5, 10 + number, f"quota {number}"))
    assert [*budgets] == [f"quota {number}" for number in range(22, 30)]


def test_budgets_come_back_from_the_row_as_they_were() -> None:
    budgets = {"a": Budget(left=3, until=NOW, used_up_at=9), "": Budget(left=0, until=1, used_up_at=0)}
    assert from_json(as_json(budgets)) == budgets
