"""What a rate promises, against the log of a downstream: at most N calls begin in any window of P, whatever happens."""

import bisect
import itertools
import random
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.rate import Rate
from tidegate.rate_limit import (
    AHEAD,
    LATE,
    Allowance,
    Pace,
    given_back,
    next_slot,
    quota_wait,
    settle,
    take_slots,
)

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = 1_700_000_000 * SECOND
GATE, WORKER = 120_000, AHEAD

TEXTS = ["1/s", "4/s", "7/s", "50/s", "150/s", "1000/s", "2/5s", "3/2s", "30/m", "130/m", "600/m", "100/15m", "20/d"]
allowances = st.builds(
    Allowance,
    rates=st.lists(st.sampled_from(TEXTS), max_size=3, unique=True).map(lambda texts: (*map(Rate.parse, texts),)),
    burst=st.sampled_from([1, 2, 7, 60, 1000]),
)
pauses = st.one_of(st.integers(0, 200_000), st.integers(0, 5 * SECOND), st.integers(0, 400 * SECOND))
looks = st.lists(
    st.tuples(
        pauses,
        st.sampled_from([1, 2, 10, 130]),
        st.sampled_from([0, GATE, WORKER]),
        st.one_of(st.none(), st.none(), st.none(), allowances),  # the rates become others
        st.sampled_from([0, 0, 0, 1, 3]),  # of the latest calls, so many are surely not made
    ),
    max_size=40,
)
lateness = st.sampled_from(["none", "all", "first late, last early", "any"])


class Log:
    """What a downstream sees: when each call began, at worst, and which rates were in force when it got its slot."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Allowance]] = []
        self._numbers = itertools.count()

    def add(self, slots: list[int], allowance: Allowance) -> None:
        self.calls += [(slot, next(self._numbers), allowance) for slot in slots]

    def check(self, lateness: str, chance: random.Random) -> None:
        calls = sorted(self.calls, key=lambda call: call[0])
        late = {
            "none": [0] * len(calls),
            "all": [LATE] * len(calls),
            "first late, last early": [LATE if number < len(calls) // 2 else 0 for number in range(len(calls))],
            "any": [chance.choice([0, LATE, chance.randint(0, LATE)]) for _ in calls],
        }[lateness]
        began = sorted(
            (slot + its, taken, allowance) for its, (slot, taken, allowance) in zip(late, calls, strict=True)
        )
        starts = [start for start, _, _ in began]
        for last, (start, now_taken, allowance) in enumerate(began):
            for rate in allowance.rates:
                window = began[bisect.bisect_right(starts, start - rate.period) : last + 1]
                if len(window) > rate.calls:  # a rate knows nothing of what is let go later under others
                    known = sum(taken <= now_taken or rate in its.rates for _, taken, its in window)
                    assert known <= rate.calls, f"{known} calls within {rate}"


@given(allowance=allowances, looks=looks, lateness=lateness, seed=st.integers(0, 2**16))
@example(  # a limit is lifted and comes back
    allowance=Allowance(rates=(Rate(50, SECOND), Rate(20, DAY))),
    looks=[
        (0, 10, WORKER, None, 0),
        (0, 130, 0, Allowance(), 0),
        (0, 130, WORKER, Allowance(rates=(Rate(20, DAY),)), 0),
    ],
    lateness="none",
    seed=0,
)
@example(
    allowance=Allowance(rates=(Rate(4, SECOND),)),
    looks=[(0, 10, WORKER, None, 0), (700_000, 10, WORKER, None, 0)],
    lateness="first late, last early",
    seed=0,
)
def test_no_window_has_more_calls_than_the_rates_say(
    allowance: Allowance, looks: list[tuple[int, int, int, Allowance | None, int]], lateness: str, seed: int
) -> None:
    """Whoever takes slots and however far ahead, whatever the rates were before, and whatever is given back."""
    now, pace, log, chance = START, Pace(), Log(), random.Random(seed)  # noqa: S311 - a test
    for wait, wanted, horizon, other, unmade in looks:
        now += wait
        if other is not None:
            allowance = other
            pace = settle(allowance, pace, now=now)
        slots, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=horizon)
        assert all(now <= slot <= now + horizon for slot in slots)
        assert slots == sorted(slots)
        log.add(slots, allowance)
        for _ in range(min(unmade, len(log.calls))):
            slot, _, _ = log.calls.pop(chance.randrange(max(0, len(log.calls) - 200), len(log.calls)))
            pace = given_back(pace, [slot], spacing=allowance.spacing)
        pace = Pace.from_json(orjson.loads(orjson.dumps(pace.as_json())))
    log.check(lateness, chance)


@given(allowance=allowances, looks=looks, lateness=lateness, step=st.integers(0, 30 * DAY), at=st.integers(0, 40))
def test_a_clock_that_was_set_back_makes_nothing_faster(
    allowance: Allowance, looks: list[tuple[int, int, int, Allowance | None, int]], lateness: str, step: int, at: int
) -> None:
    """As the downstream's own clock shows it, which nobody set; nor does anything stand still for long."""
    now, pace, log, set_by = START, Pace(), Log(), 0
    for number, (wait, wanted, horizon, _, _) in enumerate(looks):
        now += wait
        if number == at:
            set_by, now = step, now - step
            longest = max((allowance.window(rate) for rate in allowance.rates), default=0)
            _, settled = take_slots(allowance, pace, now=now, wanted=0, horizon=0)
            assert next_slot(allowance, settled, now=now) <= now + AHEAD + SECOND + longest * 9 // 8
        slots, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=horizon)
        log.add([slot + set_by for slot in slots], allowance)
    log.check(lateness, random.Random(0))  # noqa: S311 - a test


def share_used(allowance: Allowance, seconds: float, *, horizon: int = GATE) -> float:
    """The share of the slowest rate that goes out while demand waits, by a gate that looks 90 ms before it is time."""
    now, pace, went = START, Pace(), 0
    while now < START + seconds * SECOND:
        slots, pace = take_slots(allowance, pace, now=now, wanted=200, horizon=horizon)
        went += sum(slot < START + seconds * SECOND for slot in slots)
        now = max(now + 1_000, next_slot(allowance, pace, now=now) - 90_000)
    return went / min(seconds * SECOND * rate.calls / rate.period for rate in allowance.rates)


@pytest.mark.parametrize("burst", [1, 3, 50, 1000])
@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        (["50/s"], 300), (["4/s"], 300), (["7/s"], 3600), (["600/m"], 1200), (["200/s"], 100), (["1000/s"], 20),
        (["10/s", "100/m"], 1200), (["5/10s"], 3600), (["100/15m"], 9000),
    ],
)  # fmt: skip
def test_while_jobs_wait_at_least_97_percent_of_a_rate_are_used(texts: list[str], seconds: float, burst: int) -> None:
    allowance = Allowance(rates=tuple(map(Rate.parse, texts)), burst=burst)
    assert share_used(allowance, seconds) >= 0.97


@given(
    allowance=allowances.filter(lambda allowance: bool(allowance.rates)), pauses=st.lists(pauses, max_size=20),
)  # fmt: skip
def test_a_slot_comes_no_later_than_the_rates_make_it(allowance: Allowance, pauses: list[int]) -> None:
    """By the exact log: counts of older calls put it off by a 64th of a window in force, and a millisecond."""
    now, pace, log = START, Pace(), list[int]()
    for pause in pauses:
        now += pause
        slots, pace = take_slots(allowance, pace, now=now, wanted=130, horizon=WORKER)
        log += slots
        exact = max(
            [now, pace.free_at - (allowance.burst - 1) * allowance.spacing]
            + [log[-rate.calls] + allowance.window(rate) for rate in allowance.rates if rate.calls <= len(log)]
        )
        coarse = max((rate.period for rate in allowance.rates if 100 < rate.calls <= len(log)), default=0)
        assert next_slot(allowance, pace, now=now) <= exact + coarse // 64 + 1_000


def test_a_day_of_calls_stays_a_small_row() -> None:
    chance, now, pace = random.Random(1), START, Pace()  # noqa: S311 - a test
    allowance = Allowance(rates=tuple(map(Rate.parse, ["50/s", "20000/h", "200000/d"])), burst=5)
    longest = 0
    for look in range(10_000):
        _, pace = take_slots(allowance, pace, now=now, wanted=20, horizon=GATE)
        if look % 50 == 0:
            longest = max(longest, len(orjson.dumps(pace.as_json())))
        now += int(chance.expovariate(1 / 15) * SECOND)

    assert longest < 4_000


@pytest.mark.parametrize("ahead", [0, 3 * DAY])
def test_what_an_earlier_version_counted_still_counts(ahead: int) -> None:
    """Its quotas counted the same calls, in sixtieths; its clock may have been set back since."""
    minute, day = 60 * SECOND, DAY
    begin = START - START % (day // 60)
    row = {
        "free_at": START + ahead + 20_000,
        "used": {
            str(minute): [[START + ahead - 20 * SECOND, 3], [START + ahead - SECOND, 4]],
            str(day): [[begin + ahead - day // 60, 7], [begin + ahead, 7]],
        },
        "since": {str(minute): 1, str(day): 1},
    }
    allowance = Allowance(rates=(Rate(50, SECOND), Rate(8, minute), Rate(20, day)))
    slots, pace = take_slots(allowance, Pace.from_json(row), now=START, wanted=30, horizon=WORKER)

    if ahead:
        assert slots == [], "all of them may have been in the last minute"
    else:
        assert len(slots) == 1, "seven of eight a minute were used"
        assert slots[0] >= START + 20_000
    assert sum(run.calls for run in pace.log) == 14 + len(slots)
    later = START + 2 * minute
    more, _ = take_slots(allowance, pace, now=later, wanted=30, horizon=WORKER)
    assert len(slots) + len(more) == 6, "14 of 20 a day were used"


@pytest.mark.parametrize("burst", [1, 3])
@pytest.mark.parametrize("others", [0, 1])
def test_a_call_that_was_not_made_costs_a_slow_rate_no_period(burst: int, others: int) -> None:
    allowance = Allowance(rates=(Rate(1, 3600 * SECOND),), burst=burst)
    pace = Pace()
    for _ in range(others):
        _, pace = take_slots(allowance, pace, now=START - 2 * 3600 * SECOND, wanted=1, horizon=WORKER)
    (missed,), pace = take_slots(allowance, pace, now=START, wanted=1, horizon=WORKER)

    pace = given_back(pace, [missed], spacing=allowance.spacing)

    assert next_slot(allowance, pace, now=START + SECOND) == START + SECOND


def test_what_is_given_back_is_free_again_and_no_more() -> None:
    allowance = Allowance(rates=(Rate(1000, SECOND), Rate(300, DAY)), burst=500)
    slots, pace = take_slots(allowance, Pace(), now=START, wanted=500, horizon=WORKER)
    assert len(slots) == 300

    pace = given_back(pace, [*slots[50:70], *slots[-5:]])

    more, pace = take_slots(allowance, pace, now=START + 2 * SECOND, wanted=500, horizon=WORKER)
    assert len(more) == 25
    assert given_back(pace, [START - DAY, START + DAY]) == pace, "those are not known"


def test_a_wait_is_told_by_the_window_that_opens_last() -> None:
    allowance = Allowance(rates=(Rate(10, SECOND), Rate(100, 60 * SECOND)), burst=100)
    _, pace = take_slots(allowance, Pace(), now=START, wanted=100, horizon=WORKER)
    _, fresh = take_slots(allowance, Pace(), now=START, wanted=0, horizon=0)
    for behind, windows in ((0, 0), (99, 0), (100, 1), (250, 2)):
        assert quota_wait(allowance, fresh, now=START, behind=behind) >= windows * 60 * SECOND
    assert quota_wait(allowance, fresh, now=START, behind=9) == 0
    now = pace.last
    assert quota_wait(allowance, pace, now=now, behind=0) <= 60 * SECOND + LATE


def test_slots_of_a_steady_rate_are_equally_far_apart() -> None:
    allowance = Allowance(rates=(Rate(7, SECOND),))
    slots, _ = take_slots(allowance, Pace(), now=START, wanted=700, horizon=200 * SECOND)

    assert set(Counter(later - slot for slot, later in itertools.pairwise(slots))) <= {145_714, 145_715, 145_716}
    assert slots[-1] - slots[0] <= 100 * (SECOND + LATE)


def test_of_600_a_minute_only_the_20_ms_are_lost() -> None:
    allowance = Allowance(rates=(Rate.parse("600/m"),))
    assert share_used(allowance, 3600) >= 0.9995


def test_a_steady_rate_has_a_short_log() -> None:
    for text in ("50/s", "7/s", "600/m", "1000/s", "3/s"):
        allowance, pace, now = Allowance(rates=(Rate.parse(text),)), Pace(), START
        for _ in range(500):
            slots, pace = take_slots(allowance, pace, now=now, wanted=50, horizon=WORKER)
            now = slots[-1] - 10 if slots else now + 10_000
        assert len(orjson.dumps(pace.as_json())) < 300


@given(allowance=allowances, looks=looks, lateness=lateness, jitter=st.sampled_from([5_000, 30_000, 700_000]))
def test_what_the_way_varies_by_is_kept_free_too(
    allowance: Allowance, looks: list[tuple[int, int, int, Allowance | None, int]], lateness: str, jitter: int
) -> None:
    """A call may begin 20 ms after its slot, and arrive as much later as is declared."""
    now, pace, arrived = START, Pace(), list[int]()
    allowance = replace(allowance, late=LATE + jitter)
    for number, (wait, wanted, horizon, _, _) in enumerate(looks):
        now += wait
        slots, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=horizon)
        arrived += [slot + (LATE + jitter if lateness == "all" or number % 2 else 0) for slot in slots]
    arrived.sort()
    for rate in allowance.rates:
        for last, start in enumerate(arrived):
            assert last + 1 - bisect.bisect_right(arrived, start - rate.period) <= rate.calls
