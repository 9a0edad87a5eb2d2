"""How the pacing benchmark judges: every window that is too full is found, and when each call arrived is known."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchmarks.commands import HOST, downstream_arguments, python_process
from benchmarks.pacing.arrivals import Arrival, most_within, within_before
from benchmarks.pacing.figures import Figures, middle_of
from benchmarks.pacing.promise import Change, Given, Slots, broken, counted_at, in_force
from tests.support.processes import ChildProcess, free_port


def call(job: str, at: float) -> Arrival:
    return Arrival(at=at, read_at=at, until=at, lane="paced", job=job, status=200, open=1)


def calls_at(*instants: float) -> list[Arrival]:
    """One of each job, named by its place."""
    return [call(str(number), at) for number, at in enumerate(instants)]


def test_a_window_begins_anywhere_and_does_not_hold_a_call_that_lies_its_length_back() -> None:
    instants = [0.0, 0.5, 0.75, 1.0, 1.25]
    assert within_before(1.0, instants) == [1, 2, 3, 3, 4]
    assert most_within(1.0, instants) == 4
    assert most_within(1.0, []) == 0


def test_a_call_too_many_is_told_with_the_call_that_was_late_for_its_slot() -> None:
    calls = calls_at(0.045, 0.5, 1.02)
    slots = Slots(
        Given(job=each.job, released=at - 0.1, slot=at) for each, at in zip(calls, (0.0, 0.5, 1.02), strict=True)
    )
    assert broken(calls, slots, seconds=1.0, allowed=lambda _: 3, began=0.0) == []
    assert broken(calls, slots, seconds=1.0, allowed=lambda _: 2, began=0.0) == [
        "3 calls, not 2, in the 1 s until 1.020 s; the latest for its slot by 45.0 ms, at 0.045 s"
    ]


def test_a_call_belongs_to_the_latest_release_before_it() -> None:
    slots = Slots([Given(job="0", released=1.0, slot=1.1), Given(job="0", released=5.0, slot=5.1)])
    assert slots.late(call("0", 1.105)) == pytest.approx(0.005)
    assert slots.late(call("0", 5.105)) == pytest.approx(0.005)
    assert slots.of(call("1", 9.0)) is None


def test_a_late_call_counts_at_the_latest_instant_at_which_it_might_have_begun() -> None:
    slots = Slots([Given(job="0", released=1.0, slot=1.1)])
    assert counted_at(call("0", 1.11), slots) == pytest.approx(1.11)
    assert counted_at(call("0", 3.0), slots) == pytest.approx(1.12)


@pytest.mark.parametrize(
    ("since", "until", "most"),
    [(1.0, 2.0, 50), (1.0, 4.0, 50), (4.9, 5.1, 50), (5.3, 5.5, 20), (5.3, 9.0, 80), (9.1, 9.2, 80)],
)
def test_the_rates_in_force_are_those_between_release_and_slot(since: float, until: float, most: int) -> None:
    changes = [
        Change(asked=0.0, confirmed=0.0, calls=50),
        Change(asked=5.0, confirmed=5.2, calls=20),
        Change(asked=8.0, confirmed=8.2, calls=80),
    ]
    assert in_force(changes, since, until) == most


@contextmanager
def downstream(folder: Path, *strictness: str) -> Iterator[tuple[ChildProcess, http.client.HTTPConnection]]:
    port = free_port()
    listen = downstream_arguments(port, folder / "log.jsonl", *strictness)
    with python_process(folder, "downstream", listen, {}) as process:
        process.wait_for_log("listening on")
        with closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
            yield process, connection


def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    connection.request("POST", "/paced/0", b"{}", {"Idempotency-Key": "job"})
    answer = connection.getresponse()
    answer.read()
    return answer


def logged(folder: Path) -> list[Arrival]:
    return [Arrival(**json.loads(line)) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_call_arrives_when_its_first_byte_does_even_where_the_downstream_stands_still(tmp_path: Path) -> None:
    with downstream(tmp_path) as (process, connection):
        ask(connection)
        process.freeze()
        began = time.time()
        connection.request("POST", "/paced/0", b"{}")
        sent = time.time()
        time.sleep(0.3)
        process.thaw()
        connection.getresponse().read()
        last = logged(tmp_path)[-1]
        assert began <= last.at <= sent + 0.001
        assert last.read_at >= began + 0.3


def test_a_strict_downstream_refuses_the_call_too_many_and_says_what_is_left(tmp_path: Path) -> None:
    with downstream(tmp_path, "--limit=paced=3/s", "--limit=paced=100/m", "--announce") as (_, connection):
        answers = [ask(connection) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[1].headers["RateLimit-Policy"] == '"1s";q=3;w=1, "60s";q=100;w=60'
        assert answers[1].headers["RateLimit"] == '"1s";r=1;t=1, "60s";r=98;t=60'
        assert answers[3].headers["Retry-After"] == "1"
        assert [each.is_refused for each in logged(tmp_path)] == [False] * 3 + [True] * 2
        time.sleep(1)
        assert ask(connection).status == 200


def figures(utilisation: float, most: int, *broken_windows: str) -> Figures:
    misses = ["windows"] if broken_windows else []
    return Figures(
        title="steady",
        calls=1000,
        seconds=20.0 + utilisation,
        utilisation=utilisation,
        most={"1 s": most},
        most_open=2,
        refused=len(broken_windows),
        doubles=0,
        misses=misses,
        broken=[*broken_windows],
    )


def test_several_rounds_are_told_by_the_median_of_what_was_used_and_the_worst_window() -> None:
    row = middle_of([figures(0.98, 50), figures(0.93, 51, "51 calls"), figures(0.97, 49)])
    assert (row.utilisation, row.seconds) == (0.97, 20.97)
    assert (row.most, row.refused, row.misses, row.broken) == ({"1 s": 51}, 1, ["windows"], ["51 calls"])
