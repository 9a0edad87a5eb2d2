"""The small plot of a lane, and how durations and numbers are said."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from webapp.page.plot import HEIGHT, WIDTH, Reading, busiest_of, plot_of, used_per_second
from webapp.page.texts import duration, number

START = datetime(2026, 11, 25, 12, tzinfo=UTC)


def readings(*released: int, allowed: float | None = 10.0, every: float = 1.0) -> list[Reading]:
    return [
        Reading(at=START + timedelta(seconds=every * index), released=count, allowed=allowed)
        for index, count in enumerate(released)
    ]


def test_a_steady_lane_uses_its_rate() -> None:
    assert used_per_second(readings(*range(0, 100, 10))) == [10.0] * 9


def test_one_more_or_less_in_a_second_hardly_shows() -> None:
    used = used_per_second(readings(0, 11, 20, 30, 41, 50, 60))
    assert max(used[2:]) - min(used[2:]) < 1


def test_what_was_released_by_nobody_is_nothing() -> None:
    assert used_per_second(readings(5, 5, 5)) == [0.0, 0.0]
    assert used_per_second(readings(5)) == []
    assert used_per_second([]) == []


def test_a_clock_that_stood_still_or_went_back_breaks_nothing() -> None:
    assert used_per_second(readings(0, 10, 20, every=0.0)) == [0.0, 0.0]
    assert used_per_second(readings(0, 10, 20, every=-1.0)) == [0.0, 0.0]


def test_there_is_no_plot_of_one_point() -> None:
    assert plot_of(readings(1, 2), used_per_second(readings(1, 2))) is None


def test_the_newest_is_at_the_right_edge_and_all_is_inside() -> None:
    history = readings(*range(0, 700, 10))
    plot = plot_of(history, used_per_second(history))
    assert plot
    across = [float(x) for x in re.findall(r"[ML]([\d.]+) ", plot.edge)]
    assert across[-1] == WIDTH
    assert 0 <= min(across) < WIDTH / 60, "what is older than a minute is left out"
    heights = [float(y) for y in re.findall(r" ([\d.]+)", plot.edge + plot.allowed)]
    assert all(0 <= y <= HEIGHT for y in heights)


def test_a_changed_rate_is_a_step_and_no_limit_is_a_gap() -> None:
    history = [*readings(0, 1, 2, allowed=10.0), *readings(3, 4, 5, allowed=None), *readings(6, 7, 8, allowed=5.0)]
    history = [
        Reading(at=START + timedelta(seconds=index), released=each.released, allowed=each.allowed)
        for index, each in enumerate(history)
    ]
    plot = plot_of(history, used_per_second(history))
    assert plot
    assert plot.allowed.count("M") == 2
    lowered = readings(0, 1, 2, allowed=10.0)
    lowered += [Reading(at=START + timedelta(seconds=3), released=3, allowed=5.0)]
    step = plot_of(lowered, used_per_second(lowered))
    assert step
    assert step.allowed.count("V") == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (-1, "0 ms"),
        (0.0854, "85 ms"),
        (0.9996, "1.0 s"),
        (2.44, "2.4 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (18060, "5 h 1 min"),
        (172800, "2 d"),
    ],
)
def test_durations_are_said_in_two_units_at_most(seconds: float, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (19.84, "19.8"), (0.254, "0.25"), (12000, "12,000"), (150.4, "150"), (3.0, "3")]
)
def test_numbers_are_as_short_as_they_can_be(value: float, said: str) -> None:
    assert number(value) == said


def stacked(*ended: dict[str, int], released: int = 10) -> list[Reading]:
    """Readings of a lane whose calls ended so, a second apart."""
    return [
        Reading(at=START + timedelta(seconds=at), released=released * at, allowed=None, ended=each)
        for at, each in enumerate(ended)
    ]


def test_the_busiest_partitions_of_the_last_minute_are_told_by_key_with_their_part() -> None:
    history = stacked({"b": 4, "a": 5}, {"b": 6, "d": 4}, {"c": 1})
    assert busiest_of(history) == [("a", 0.25), ("b", 0.5), ("d", 0.2)]
    assert busiest_of(stacked({"a": 9})) == [], "one alone is not told apart"
    assert busiest_of(stacked({}, {})) == []


def test_the_plot_is_stacked_each_area_reaches_up_to_its_own_part() -> None:
    history = stacked({}, {"a": 1, "b": 1, "z": 2}, {"a": 1, "b": 1, "z": 2}, {})
    used = used_per_second(history)
    plot = plot_of(history, used, ["a", "b"])
    assert plot
    heights = [
        [HEIGHT - float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)] for path in (*plot.stack, plot.edge)
    ]
    for a, b, edge in zip(*heights, strict=True):
        assert (a, b) == (pytest.approx(edge / 4, abs=0.1), pytest.approx(edge / 2, abs=0.1))
    assert plot_of(history, used) == plot_of(history, used, [])
    assert plot_of(stacked({}, {}, {}), [1.0, 1.0], ["a"]), "nothing has ended yet"
