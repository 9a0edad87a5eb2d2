"""Calls that begin late for their slots, though nobody meant it: they count from then on, and the windows hold."""

import bisect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import call_log
from tidegate.call_log import Log, Run
from tidegate.rate import Rate
from tidegate.rate_limit import Allowance, Pace, given_back, next_slot, postponed, take_slots

SECOND = 1_000_000
START = 1_700_000_000 * SECOND

runs = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(1, 5), st.sampled_from([0, 1, 7, 100])), min_size=1, max_size=6
)


def log_of(parts: list[tuple[int, int, int]]) -> Log:
    """Runs one behind the other, with such gaps between them."""
    log: list[Run] = []
    last = 0
    for gap, calls, step in parts:
        last += gap + (calls - 1) * step
        log.append(Run(last, calls, step if calls > 1 else 0))
    return tuple(log)


def slots_of(log: Log) -> list[int]:
    return [run.last - number * run.step for run in log for number in reversed(range(run.calls))]


@given(parts=runs, slot=st.integers(0, 3000))
def test_a_call_between_others_is_logged_at_its_place(parts: list[tuple[int, int, int]], slot: int) -> None:
    log = log_of(parts)
    with_it = slots_of(call_log.with_earlier_call(log, slot))
    assert with_it == sorted([*slots_of(log), slot])


@given(parts=runs, number=st.integers(0, 100), late=st.integers(0, 500))
def test_a_call_that_began_late_is_one_call_and_counts_from_then_on(
    parts: list[tuple[int, int, int]], number: int, late: int
) -> None:
    log = log_of(parts)
    slots = slots_of(log)
    slot = slots.pop(number % len(slots))
    moved = slots_of(postponed(Pace(log=log), slot, to=slot + late).log)
    assert len(moved) == len(slots) + 1
    assert all(known >= true for known, true in zip(moved, sorted([*slots, slot + late]), strict=True))


@pytest.mark.parametrize(("text", "burst"), [("50/s", 1), ("50/s", 25), ("4/s", 1), ("4/s", 4), ("10/s", 5)])
def test_no_window_has_a_call_too_many_though_calls_begin_late(text: str, burst: int) -> None:
    """Up to half a second, which each tells when it begins. The gate gives slots 120 ms ahead."""
    chance = random.Random(text)  # noqa: S311 - a test
    rate = Rate.parse(text)
    allowance, now, pace, began = Allowance(rates=(rate,), burst=burst), START, Pace(), list[int]()
    late: dict[int, int] = {}
    while now < START + 60 * SECOND:
        for at in sorted(each for each in late if each <= now):
            pace = postponed(pace, late.pop(at), to=at)
        slots, pace = take_slots(allowance, pace, now=now, wanted=rate.calls, horizon=120_000)
        for slot in slots:
            is_late = chance.random() < 0.1
            at = slot + chance.randint(20_000, 500_000) if is_late else slot + chance.randint(0, 20_000)
            began.append(at)
            if is_late:
                late[at] = slot
        now = min([max(now + 1_000, next_slot(allowance, pace, now=now) - 90_000), *(at for at in late if at > now)])
    began.sort()
    for last, start in enumerate(began):
        assert last + 1 - bisect.bisect_right(began, start - rate.period) <= rate.calls
    assert len(began) > 40 * rate.calls


@given(
    calls=st.integers(1, 50),
    burst=st.integers(1, 5),
    asked=st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 4), st.booleans()), min_size=1, max_size=40),
)
def test_calls_that_miss_their_slots_leave_no_window_too_full(
    calls: int, burst: int, asked: list[tuple[int, int, bool]]
) -> None:
    """Whichever of those that are promised misses its slot, and takes another."""
    allowance = Allowance(rates=(Rate(calls, SECOND),), burst=burst)
    now, pace, made = START, Pace(), list[int]()
    for wait, wanted, is_missed in asked:
        now += wait
        slots, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=120_000)
        made += slots
        if is_missed and slots:
            late = slots[-1] if wait % 2 else slots[0]
            made.remove(late)
            now = max(now, late + allowance.late + 1)
            (again,), pace = take_slots(
                allowance, given_back(pace, [late], spacing=allowance.spacing), now=now, wanted=1, horizon=SECOND
            )
            made.append(again)
    made.sort()
    assert all(later - first > SECOND for first, later in zip(made, made[calls:], strict=False))
    # As many as the burst together, the others behind them spaced.
    for number, first in enumerate(made):
        for more, later in enumerate(made[number:]):
            assert later - first >= (more - burst + 1) * allowance.spacing


def test_a_missed_slot_that_was_the_last_costs_no_interval() -> None:
    allowance = Allowance(rates=(Rate(2, SECOND),))
    (slot,), pace = take_slots(allowance, Pace(), now=START, wanted=1, horizon=0)
    now = slot + 30_000

    assert next_slot(allowance, pace, now=now) == slot + allowance.spacing
    assert next_slot(allowance, given_back(pace, [slot], spacing=allowance.spacing), now=now) == now
