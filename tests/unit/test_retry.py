"""When to try again: exponential, jittered, bounded."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tidegate.operations.retry import RetryPolicy

DURATIONS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650))


class AlwaysMost(Random):
    """Draws the largest number that there is, nearly 1."""

    def random(self) -> float:
        return 1.0 - 2**-53


@given(delay=DURATIONS, max_delay=DURATIONS, attempt=st.integers(1, 1000), seed=st.integers())
def test_the_wait_lies_between_nothing_and_the_bound(
    delay: timedelta, max_delay: timedelta, attempt: int, seed: int
) -> None:
    wait = RetryPolicy(delay=delay, max_delay=max_delay).delay_after(attempt, Random(seed))  # noqa: S311 - repeatable

    assert timedelta(0) <= wait <= max_delay
    if attempt <= 10:
        assert wait <= delay * 2 ** (attempt - 1)


def test_the_bound_doubles_up_to_the_longest() -> None:
    policy = RetryPolicy(delay=timedelta(seconds=1), max_delay=timedelta(seconds=30))

    bounds = [round(policy.delay_after(attempt, AlwaysMost()).total_seconds(), 3) for attempt in range(1, 8)]

    assert bounds == [1, 2, 4, 8, 16, 30, 30]


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    policy = RetryPolicy(delay=timedelta(seconds=10))

    waits = [policy.delay_after(1) for _ in range(200)]

    assert min(waits) < timedelta(seconds=2.5)
    assert max(waits) > timedelta(seconds=7.5)
