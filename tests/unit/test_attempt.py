"""What an operation knows of its attempt, and how it tells its progress."""

import json
from typing import Any

import pytest
from pydantic import JsonValue

from tidegate.errors import AttemptStopped
from tidegate.operations.operation import Attempt, Body, Progress
from tidegate.operations.outcome import Outcome, Succeeded
from tidegate.operations.python_operation import PythonOperation, operation


def make_attempt(reported: list[Progress] | None = None, seconds_left: float = 10) -> Attempt:
    return Attempt(
        job_id="a-job",
        number=2,
        report=(reported if reported is not None else []).append,
        seconds_left=lambda: seconds_left,
        take_slot=lambda: None,
    )


def run(made: PythonOperation, content: bytes = b"null") -> Outcome:
    return made.run(Body(content=content), make_attempt())


def test_the_second_argument_is_the_attempt() -> None:
    @operation()
    def tells(params: JsonValue, attempt: Attempt) -> list[Any]:
        return [attempt.job_id, attempt.number, attempt.time_left.total_seconds()]

    outcome = run(tells)

    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.content) == ["a-job", 2, 10.0]


def test_tracking_tells_after_each_item_how_many_are_done() -> None:
    reported: list[Progress] = []

    assert list(make_attempt(reported).track("abc", "spelling")) == ["a", "b", "c"]

    assert [(told.done, told.total, told.note, told.percent) for told in reported] == [
        (0, 3, "spelling", 0),
        (1, 3, "spelling", 33),
        (2, 3, "spelling", 66),
        (3, 3, "spelling", 99),
    ]


def test_tracking_something_without_a_length_tells_no_percent_unless_told_the_total() -> None:
    reported: list[Progress] = []
    attempt = make_attempt(reported)

    list(attempt.track(iter("ab")))
    list(attempt.track(iter("ab"), total=2))

    assert [(told.done, told.total, told.percent) for told in reported] == [
        (0, None, 0),
        (1, None, 0),
        (0, 2, 0),
        (1, 2, 50),
        (2, 2, 99),
    ]


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 0, 0), (5, 0, 0), (-1, 10, 0), (11, 10, 99), (10, 10, 99), (1, -1, 0), (10**30, 10**30 + 1, 99)],
)
def test_a_percent_is_0_to_99_whatever_is_told(done: int, total: int, percent: int) -> None:
    assert Progress(done=done, total=total).percent == percent


@pytest.mark.parametrize(
    ("note", "kept"), [("x" * 500, "x" * 200), ("a\x00b", "ab"), ("\ud800", "?"), ("é", "é"), (None, None)]
)
def test_a_note_is_made_to_fit_its_column(note: Any, kept: str | None) -> None:
    reported: list[Progress] = []

    make_attempt(reported).progress(1.0, 2.0, note)  # type: ignore[arg-type] # what people do pass

    assert reported == [Progress(done=1, total=2, note=kept)]
    assert isinstance(reported[0].done, int)


def test_counts_are_made_to_fit_their_columns() -> None:
    reported: list[Progress] = []

    make_attempt(reported).progress(10**30, 10**31)
    make_attempt(reported).progress(-5, -10)

    assert [(told.done, told.total, told.percent) for told in reported] == [(2**63 - 1, 2**63 - 1, 99), (0, 0, 0)]


class Hostile:
    def __int__(self) -> int:
        raise RuntimeError("no")

    __str__ = __int__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "bad",
    [
        {"done": float("nan")},
        {"done": float("inf")},
        {"done": "half"},
        {"done": None},
        {"done": Hostile()},
        {"done": 1, "total": float("nan")},
        {"done": 1, "total": "many"},
        {"done": 1, "note": Hostile()},
        {"done": "9" * 5000},
    ],
)
def test_a_report_that_cannot_be_read_fails_nothing_and_the_last_good_one_stands(
    bad: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[Progress] = []
    attempt = make_attempt(reported)
    attempt.progress(3, 10, "fine")

    attempt.progress(**bad)

    assert reported == [Progress(done=3, total=10, note="fine")] * 2
    assert "a report of progress can't be read" in caplog.text


def test_an_attempt_that_is_stopped_does_not_take_the_stop_for_a_failure() -> None:
    @operation()
    def careless(params: JsonValue) -> int:
        try:
            raise AttemptStopped("stopped")
        except Exception:  # noqa: BLE001 - what careless code does
            return 1

    with pytest.raises(AttemptStopped):
        run(careless)
