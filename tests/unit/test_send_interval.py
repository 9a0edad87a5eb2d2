"""How long a bell rests between two messages: pure, by instants that are given."""

from collections.abc import Iterable

from tidegate.notify.notifier import BURST_SECONDS, GATHER_SECONDS, SendInterval


def rests(rings: Iterable[tuple[float, int]]) -> list[float]:
    """The rest after each message; a ring that comes during one waits for its end."""
    tempo, until, found = SendInterval(), 0.0, []
    for at, count in rings:
        now = max(at, until)
        found.append(tempo.rest_after(count, now))
        until = now + found[-1]
    return found


def test_one_after_the_other_never_waits_long() -> None:
    """A client that submits as soon as it has its answer, every 5 ms."""
    assert set(rests((0.005 * number, 1) for number in range(100))) == {GATHER_SECONDS}


def test_many_that_come_together_are_gathered_for_longer() -> None:
    assert rests([(0.0, 20)]) == [BURST_SECONDS]


def test_a_stream_is_gathered_for_longer_though_each_message_has_few() -> None:
    """A ring every 2 ms."""
    found = rests([(0.0, 1), (0.003, 2), (0.006, 1), (0.019, 6), (0.032, 6)])

    assert found == [GATHER_SECONDS, GATHER_SECONDS, *3 * [BURST_SECONDS]]


def test_after_a_burst_it_is_quick_again() -> None:
    assert rests([(0.0, 20), (0.013, 9), (0.026, 1), (0.032, 1)])[-2:] == [GATHER_SECONDS, GATHER_SECONDS]
