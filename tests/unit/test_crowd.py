"""What goes before a job where calls are shared, against a count of whole rounds."""

import random

import pytest

from tidegate.dispatch.partitions.crowd import Crowd


def exactly(waiting: list[tuple[float, float]], rounds: float) -> float:
    return sum(min(jobs, rounds * weight) for weight, jobs in waiting)


@pytest.mark.parametrize("seed", range(20))
def test_a_crowd_of_any_size_is_told_by_a_few_numbers(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311 - nothing secret
    waiting = [(drawn.choice([0.5, 1, 1, 4, 20]), float(drawn.choice([1, 2, 30, 1000]))) for _ in range(50)]
    crowd = Crowd.from_json(Crowd.of(waiting).as_json())
    assert (crowd.number, len(crowd.calls) < 20) == (50, True)
    for rounds in (0.01, 0.1, 1, 3, 17, 100, 5000):
        assert 0.8 * exactly(waiting, rounds) - 1 <= crowd.calls_by(rounds) <= exactly(waiting, rounds) + 1
    assert crowd.calls_by(1e9) == exactly(waiting, 1e9)


def test_nobody_puts_nothing_before() -> None:
    assert Crowd.of([]).calls_by(10) == 0
