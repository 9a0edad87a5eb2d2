"""The pace: never faster than declared, in any window, whatever is asked for and whenever."""

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rate import LONGEST, Rate
from tidegate.rate_limit import AHEAD, LATE, Allowance, Pace, next_slot, settle, take_slots

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HORIZON = 60_000

rates = st.builds(Rate, st.integers(1, 2000), st.sampled_from([SECOND, 60 * SECOND, 3600 * SECOND]))
bursts = st.integers(1, 20)
# Microseconds to wait before a take, and how many slots it asks for.
takes = st.lists(
    st.tuples(st.one_of(st.integers(0, 100_000), st.integers(0, 100 * SECOND)), st.integers(1, 40)), max_size=30
)


def run(allowance: Allowance, asked: list[tuple[int, int]], *, horizon: int = HORIZON) -> list[int]:
    """Every slot that such a sequence of takes gets, in the order of the takes."""
    now, pace, slots = START, Pace(), []
    for wait, wanted in asked:
        now += wait
        taken, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=horizon)
        assert all(now <= slot <= now + horizon for slot in taken)
        assert len(taken) <= wanted
        slots += taken
    return slots


@given(rate=rates, burst=bursts, asked=takes, horizon=st.sampled_from([0, HORIZON, SECOND]))
def test_no_window_has_more_than_the_burst_and_the_rate(
    rate: Rate, burst: int, asked: list[tuple[int, int]], horizon: int
) -> None:
    slots = run(Allowance(rates=(rate,), burst=burst), asked, horizon=horizon)

    # Every window that could be the fullest begins and ends with a slot.
    for first in range(len(slots)):
        for last in range(first, len(slots)):
            window = slots[last] - slots[first]
            assert last - first + 1 <= burst + window * rate.calls / rate.period


@given(rate=rates, burst=bursts, asked=takes)
def test_slots_come_in_the_order_they_are_taken(rate: Rate, burst: int, asked: list[tuple[int, int]]) -> None:
    slots = run(Allowance(rates=(rate,), burst=burst), asked)

    assert slots == sorted(slots)


@given(rate=rates, burst=bursts)
def test_a_lane_that_rested_grants_its_burst_at_once_and_then_its_rate(rate: Rate, burst: int) -> None:
    allowance = Allowance(rates=(rate,), burst=burst)

    at_once, pace = take_slots(allowance, Pace(), now=START, wanted=burst + 5, horizon=0)

    assert at_once == [START] * min(burst, rate.calls)
    until = rate.period + LATE if burst >= rate.calls else allowance.spacing
    assert next_slot(allowance, pace, now=START) == START + until


@given(rate=rates, burst=bursts, wanted=st.integers(2, 200))
def test_a_backlog_gets_the_whole_rate_whenever_the_gate_looks(rate: Rate, burst: int, wanted: int) -> None:
    allowance, pace, now, slots = Allowance(rates=(rate,), burst=burst), Pace(), START, list[int]()
    while len(slots) < wanted:
        taken, pace = take_slots(allowance, pace, now=now, wanted=wanted - len(slots), horizon=HORIZON)
        slots += taken
        now = max(now + 1, next_slot(allowance, pace, now=now) - 30_000)

    each = (rate.period + LATE) / rate.calls
    assert slots[-1] - slots[0] <= (each + 1) * max(rate.calls, wanted)
    assert slots[-1] - slots[0] <= 1.02 * each * wanted + wanted


def test_the_same_period_twice_is_not_counted_twice() -> None:
    allowance = Allowance(rates=(Rate(1000, SECOND), Rate(60, 60 * SECOND), Rate(50, 60 * SECOND)), burst=100)

    slots, _ = take_slots(allowance, Pace(), now=START, wanted=100, horizon=0)

    assert len(slots) == 50


def test_without_a_rate_everything_goes_now() -> None:
    assert take_slots(Allowance(), Pace(), now=START, wanted=3, horizon=0)[0] == [START] * 3


def test_a_changed_rate_begins_after_the_slots_that_were_taken_ahead() -> None:
    slots, pace = take_slots(Allowance(rates=(Rate(50, SECOND),)), Pace(), now=START, wanted=5, horizon=HORIZON)
    faster = Allowance(rates=(Rate(100, SECOND),))

    more, _ = take_slots(faster, settle(faster, pace, now=START), now=START, wanted=5, horizon=SECOND)

    together = sorted([*slots, *more])
    assert min(later - earlier for earlier, later in itertools.pairwise(together)) == faster.spacing


@given(before=rates, after=rates, times=st.integers(1, 20))
def test_changing_a_rate_to_and_fro_grants_nothing_by_itself(before: Rate, after: Rate, times: int) -> None:
    pace = take_slots(Allowance(rates=(before,)), Pace(), now=START, wanted=1, horizon=0)[1]
    for _ in range(times):
        for rate in (after, before):
            pace = settle(Allowance(rates=(rate,)), pace, now=START)

    assert next_slot(Allowance(rates=(before,)), pace, now=START) >= START + min(before.interval, after.interval)


@given(rate=rates, burst=bursts, asked=takes, step=st.integers(0, 86_400 * SECOND))
def test_a_clock_that_steps_forward_adds_at_most_the_burst(
    rate: Rate, burst: int, asked: list[tuple[int, int]], step: int
) -> None:
    allowance = Allowance(rates=(rate,), burst=burst)
    slots_before, pace = take_slots(allowance, Pace(), now=START, wanted=100, horizon=0)
    slots_after = []
    now = START + step
    for wait, wanted in asked:
        now += wait
        taken, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=0)
        slots_after += [slot - step for slot in taken]  # as a clock that had not stepped would show them
    slots = slots_before + slots_after

    for first in range(len(slots)):
        window = slots[-1] - slots[first]
        assert len(slots) - first <= 2 * burst + window * rate.calls / rate.period


@given(rate=rates, burst=bursts, wanted=st.integers(1, 50), step=st.integers(0, 86_400 * SECOND))
def test_a_clock_that_steps_back_blocks_no_longer_than_a_window_and_a_second(
    rate: Rate, burst: int, wanted: int, step: int
) -> None:
    allowance = Allowance(rates=(rate,), burst=burst)
    _, pace = take_slots(allowance, Pace(), now=START, wanted=wanted, horizon=HORIZON)
    now = START - step
    longest = AHEAD + max(rate.period + LATE, allowance.spacing * burst) + 1_000

    _, pace = take_slots(allowance, pace, now=now, wanted=0, horizon=0)

    assert next_slot(allowance, pace, now=now) <= now + longest


@given(several=st.lists(rates, max_size=4), burst=bursts, asked=takes)
def test_a_pace_survives_its_row(several: list[Rate], burst: int, asked: list[tuple[int, int]]) -> None:
    allowance, pace, now = Allowance(rates=tuple(several), burst=burst), Pace(), START
    for wait, wanted in asked:
        now += wait
        _, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=HORIZON)

    assert Pace.from_json(orjson.loads(orjson.dumps(pace.as_json()))) == pace
    assert Pace.from_json({}) == Pace()


@pytest.mark.parametrize(
    ("text", "calls", "seconds", "printed"),
    [
        ("50/s", 50, 1, "50/s"),
        ("600 / m", 600, 60, "600/m"),
        ("10000/d", 10**4, 86400, "10000/d"),
        ("100/15m", 100, 900, "100/15m"),
        ("5/10s", 5, 10, "5/10s"),
        ("10/90s", 10, 90, "10/90s"),
        ("60/60s", 60, 60, "60/m"),
        ("0.5/s", 1, 2, "1/2s"),
        ("2.5/m", 5, 120, "5/2m"),
        ("1.5/15m", 3, 1800, "3/30m"),
        ("100/31d", 100, 31 * 86400, "100/31d"),
    ],
)
def test_a_rate_is_calls_in_a_window(text: str, calls: int, seconds: int, printed: str) -> None:
    assert Rate.parse(text) == Rate(calls, seconds * SECOND)
    assert str(Rate.parse(text)) == printed
    assert Rate.parse(printed) == Rate.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "50",
            "50/w",
            "0/s",
            "0.0/s",
            "-1/s",
            "50/S",
            "s/50",
            "\u0665/s",
            "1e3/s",
            "5/0s",
            "1/1.5s",
            ".5/s",
            "5./s",
        ),
        *("1/-2s", "1/2", "1 2/s"),
    ],
)
def test_anything_else_is_no_rate_and_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match='such as "50/s"'):
        Rate.parse(text)


@pytest.mark.parametrize("text", ["1/32d", "1/9999999d", "0.000001/m", "0.1/4d"])
def test_a_window_of_more_than_a_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="31 days"):
        Rate.parse(text)
    assert Rate.parse("1/31d").period == LONGEST


@given(rates)
def test_rounding_never_makes_a_rate_faster(rate: Rate) -> None:
    assert rate.interval * rate.calls >= rate.period
