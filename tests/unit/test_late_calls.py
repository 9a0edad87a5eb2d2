"""Calls that begin late for their slots, though nobody meant it: they count from then on, and the windows hold."""

import bisect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import call_log
from tidegate.call_log import Log, Run
from tidegate.rate import Rate
from tidegate.rate_limit import Allowance, Pace, next_slot, postponed, take_slots

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
