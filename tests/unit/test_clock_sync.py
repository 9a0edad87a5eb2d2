"""What a process knows of the database's clock, and how late for its slot a call may begin by that."""

import pytest

from tidegate.database.clock_sync import DatabaseClock
from tidegate.execution.attempt import late_seconds

SECOND = 1_000_000
DATABASE = 1_700_000_000 * SECOND


def told(clock: DatabaseClock, at: float, *, ahead: float = 0.0, before: float, after: float) -> None:
    """The database's clock shows `at` seconds; it was asked so long before, and its answer came so long after."""
    now = at + ahead
    clock.update(DATABASE + round(at * SECOND), asked_at=now - before, answered_at=now + after)


def test_what_is_known_is_what_all_answers_leave() -> None:
    clock = DatabaseClock()
    told(clock, 0, before=0.001, after=0.5)
    assert clock.error == pytest.approx(0.501)
    told(clock, 0, before=0.4, after=0.002)

    assert clock.error == pytest.approx(0.003, abs=1e-4)
    assert clock.due(DATABASE + 10 * SECOND) == pytest.approx(10.002, abs=1e-4)


def test_what_was_known_grows_less_certain_and_a_new_answer_mends_that() -> None:
    clock = DatabaseClock()
    told(clock, 0, before=0.001, after=0.001)
    told(clock, 20, before=1, after=1)

    assert clock.error == pytest.approx(0.002 + 2 * 20 * 5e-4, abs=1e-3)
    told(clock, 20, before=0.001, after=0.001)
    assert clock.error == pytest.approx(0.002, abs=1e-4)


@pytest.mark.parametrize("by", [-3600.0, 0.1, 3600.0])
def test_a_clock_that_was_set_is_measured_anew(by: float) -> None:
    clock = DatabaseClock()
    told(clock, 0, before=0.001, after=0.001)
    told(clock, 1 + by, ahead=-by, before=0.001, after=0.001)

    assert clock.error == pytest.approx(0.002, abs=1e-4)
    assert clock.due(DATABASE + round((2 + by) * SECOND)) == pytest.approx(2.001, abs=1e-4)


@pytest.mark.parametrize(
    ("jitter", "error", "late"),
    [
        (0, 0.0, 0.02),
        (0, 0.004, 0.016),
        (0, 0.01, 0.01),
        (0, 5.0, 0.01),  # no answer says more: the half, by the last known distance
        (30, 0.004, 0.02),  # the call itself has its 20 ms, the way and the clock the rest
        (30, 0.03, 0.02),
        (30, 0.04, 0.02),
        (10, 5.0, 0.015),
    ],
)
def test_a_call_is_late_by_the_cautious_end_of_what_is_known(jitter: int, error: float, late: float) -> None:
    assert late_seconds(jitter=1000 * jitter, clock_error=error) == pytest.approx(late)
