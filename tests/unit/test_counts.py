"""What is counted in memory, and how it gets to the database."""

import threading
from collections.abc import Mapping

import pytest

from tests.support.waiting import wait_until
from tidegate.errors import DatabaseUnreachableError
from tidegate.metrics import counters as module
from tidegate.metrics.counters import Counts, CountWriter, Key
from tidegate.metrics.families import ATTEMPT_SECONDS, CALLS, FAMILIES, SLOT_WAIT


def test_a_count_is_taken_once() -> None:
    counts = Counts()
    counts.add(CALLS, "one")
    counts.add(CALLS, "one", by=2)
    counts.add(CALLS, "two", by=0)

    assert counts.drain() == {(CALLS.name, ("one",)): 3}
    assert counts.drain() == {}


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, "0.005"), (-1.0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (2.5, "2.5"), (9.0, "+Inf")],
)
def test_an_observation_falls_into_one_bucket(seconds: float, bound: str) -> None:
    """The one whose upper bound it does not exceed; a clock that went back counts as nothing."""
    counts = Counts()
    counts.observe(SLOT_WAIT, seconds, "one")

    name = SLOT_WAIT.name
    assert counts.drain() == {(f"{name}_bucket", ("one", bound)): 1, (f"{name}_sum", ("one",)): max(0.0, seconds)}


def test_names_are_as_prometheus_wants_them() -> None:
    for family in FAMILIES:
        assert family.name.startswith("tidegate_")
        assert family.name.endswith(("_seconds", "_jobs") if family.buckets else "_total"), family.name
        assert list(family.buckets) == sorted(set(family.buckets))
        assert not {"client", "job", "job_id", "client_id"} & set(family.labels)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_what_can_not_be_written_is_kept_and_written_later() -> None:
    counts, written = Counts(), dict[Key, float]()
    answers = iter([DatabaseUnreachableError("away"), None])

    def write(more: Mapping[Key, float]) -> None:
        if error := next(answers):
            raise error
        written.update(more)

    writer = CountWriter(counts, write)
    counts.add(CALLS, "one")
    with pytest.raises(DatabaseUnreachableError):
        writer.run_once()
    counts.add(CALLS, "one")

    assert writer.run_once() == 1
    assert written == {(CALLS.name, ("one",)): 2}
    assert writer.run_once() == 0, "nothing is left, and nothing is asked"


def test_the_thread_writes_what_comes_and_nothing_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APART_SECONDS", 0.01)
    counts, times = Counts(), list[int]()
    lock = threading.Lock()
    total: dict[Key, float] = {}

    def write(more: Mapping[Key, float]) -> None:
        with lock:
            times.append(len(more))
            for key, by in more.items():
                total[key] = total.get(key, 0) + by

    writer = CountWriter(counts, write)
    writer.start()
    try:
        for number in range(20):
            counts.observe(ATTEMPT_SECONDS, 0.01 * number, "a", "b")
            counts.add(CALLS, "b")
        wait_until(lambda: total.get((CALLS.name, ("b",))) == 20, description="all are written")
    finally:
        writer.stop()
    assert 0 not in times
    counts.add(CALLS, "b")
    writer.stop()
    assert total[CALLS.name, ("b",)] == 21, "what is left is written at the end"
