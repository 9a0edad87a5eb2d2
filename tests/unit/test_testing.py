"""`tidegate.testing.run`: an attempt as a worker makes it, on the repository's own operations and others."""

import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, JsonValue

from tasks.operations.csv_profile import csv_profile
from tests.support.http_server import respond, serving
from tests.support.operations import permanent, raising, raw_echo, unserialisable
from tidegate import operations
from tidegate.errors import BodyTooLarge, InvalidInput, MalformedBody, PermanentError, UnsupportedBody
from tidegate.operations import Attempt, Body, operation
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.retry import RetryPolicy
from tidegate.testing import Failed, FakeAttempt, HandedBack, Refused, Succeeded, TryAgain, run

ROOT = Path(__file__).parents[2]


class Order(BaseModel):
    sku: str
    on: date
    quantity: int = Field(default=1, ge=1)


@operation(paced="calls", attempt_timeout="20s", timeout="1m")
def crawl(params: list[str], attempt: Attempt) -> dict[str, Any]:
    """Tells, asks for a slot, and tells its attempt."""
    for _ in attempt.track(params, "crawling"):
        attempt.slot()
    return {"attempt": attempt.number, "left": attempt.time_left.total_seconds(), "pages": set(params)}


@operation()
def order(params: Order) -> Order:
    """Returns what it is given."""
    return params


def test_a_run_tells_outcome_result_progress_and_slots() -> None:
    ran = run(crawl, ["a", "a"])

    assert ran.result == {"attempt": 1, "left": 20.0, "pages": ["a"]}, "as its JSON is read by a caller"
    assert isinstance(ran.outcome, Succeeded)
    assert [(each.done, each.total, each.note) for each in ran.progress] == [
        (0, 2, "crawling"),
        (1, 2, "crawling"),
        (2, 2, "crawling"),
    ]
    assert ran.slots == 2


@pytest.mark.parametrize("seconds", [3, timedelta(seconds=3)])
def test_its_number_and_its_time_are_chosen(seconds: Any) -> None:
    assert run(crawl, [], attempt=4, seconds=seconds).result == {"attempt": 4, "left": 3.0, "pages": []}


@pytest.mark.parametrize(
    "params",
    [
        {"sku": "A", "on": "2026-12-01"},
        Order(sku="A", on=date(2026, 12, 1)),
        b'{"sku": "A", "on": "2026-12-01"}',
        Body(content=b'{"sku": "A", "on": "2026-12-01"}'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_input_may_be_given_as_value_model_bytes_or_body(params: Any) -> None:
    assert run(order, params).result == {"sku": "A", "on": "2026-12-01", "quantity": 1}


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        ({"sku": "A", "on": "2026-12-01", "quantity": 0}, InvalidInput),
        ({"sku": "A"}, InvalidInput),
        (b"{", MalformedBody),
        (float("nan"), MalformedBody),
        (Body(content=b"{}", content_type="text/csv"), UnsupportedBody),
        ({"sku": "A" * 2**20}, BodyTooLarge),
    ],
)
def test_an_input_that_a_submit_would_be_refused_for_is_refused(params: Any, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        run(order, params)


def test_the_repository_s_own_operation_runs_so() -> None:
    ran = run(csv_profile, b"a,b\n1,x\n2,y\n")

    assert [column["name"] for column in ran.result["columns"]] == ["a", "b"]
    assert ran.progress[-1] == Progress(done=12, total=12, note="2 rows")
    assert run(csv_profile, Body(content=b"", content_type="text/csv")).outcome == Failed(
        code=ErrorCode.OPERATION_ERROR, message="the file is empty; its first row has to name the columns"
    )


def test_a_raw_result_is_a_body_and_one_that_failed_has_none() -> None:
    picture = Body(content=b"\x00\xff", content_type="image/png")
    assert run(raw_echo, picture).result == picture
    assert run(raw_echo, Body(content=b'{"a": 1}')).result == {"a": 1}
    assert run(permanent, None).result is None


def test_each_end_of_a_function_is_the_outcome_that_a_worker_records() -> None:
    def ending(error: Exception) -> Any:
        @operation(name="made")
        def made(params: JsonValue) -> None:
            raise error

        return run(made, None).outcome

    code = ErrorCode.OPERATION_ERROR
    assert ending(PermanentError("no")) == Failed(code=code, message="no")
    assert ending(operations.Retry("soon", after=5)) == TryAgain(
        code=code, message="soon", retry_after=timedelta(seconds=5)
    )
    assert ending(operations.Refused("full")) == Refused(message="full")
    assert run(raising, None).outcome == TryAgain(code=code, message="RuntimeError: raised by the operation 'raising'")
    unwritten = run(unserialisable, None).outcome
    assert isinstance(unwritten, Failed)
    assert "can't hold" in unwritten.message
    large = run(order, {"sku": "A" * 100, "on": "2026-12-01"}, max_result=99).outcome
    assert isinstance(large, Failed)
    assert large.message.startswith("the result is too large: ")


def test_an_attempt_whose_time_is_over_is_stopped_at_its_next_report_or_slot() -> None:
    attempt = FakeAttempt(seconds=10, on_report=lambda each: each.advance(4))

    ran = run(crawl, ["a", "b", "c", "d"], attempt=attempt)

    assert ran.outcome == TryAgain(code=ErrorCode.OPERATION_ERROR, message="the attempt took longer than its timeout")
    assert ([each.done for each in ran.progress], ran.slots) == ([0, 1, 2], 2)


def test_time_passes_only_as_it_is_advanced() -> None:
    attempt = FakeAttempt(seconds=10)

    @operation()
    def fetch(params: JsonValue, attempt: Attempt) -> float:
        assert isinstance(attempt, FakeAttempt)
        attempt.advance(2.5)  # which the test's downstream would do
        return attempt.time_left.total_seconds()

    assert run(fetch, None, attempt=attempt).result == 7.5
    with pytest.raises(TypeError, match="its own"):
        run(fetch, None, attempt=attempt, seconds=3)


def test_a_cancelled_attempt_is_stopped_and_is_no_failure() -> None:
    def cancel_at_the_second(attempt: FakeAttempt) -> None:
        if len(attempt.reports) == 2:
            attempt.cancel()

    ran = run(crawl, ["a", "b", "c"], attempt=FakeAttempt(on_report=cancel_at_the_second))

    assert ran.outcome == HandedBack(reason="stopped")
    assert (len(ran.progress), ran.slots) == (2, 1)


def test_an_http_operation_runs_so_too_and_really_calls() -> None:
    minute = timedelta(minutes=1)
    with serving() as downstream:
        quote = HttpOperation(
            name="quote",
            url=f"{downstream.url}/quote",
            downstream="quote",
            timeout=minute,
            attempt_timeout=minute,
            retry=RetryPolicy(),
        )
        downstream.answer = respond(200, b'{"total": 5}', content_type="application/json")
        ran = run(quote, {"sku": "A"})
        assert (ran.result, ran.slots) == ({"total": 5}, 0)
        assert (downstream.received[0].line, downstream.received[0].body) == ("POST /quote HTTP/1.1", b'{"sku":"A"}')
        assert downstream.received[0].headers["idempotency-key"] == "a-job"

        downstream.answer = respond(429, retry_after="7")
        assert run(quote, {}).outcome == Refused(
            message="the downstream answered 429", retry_after=timedelta(seconds=7)
        )


def test_it_needs_no_test_framework_no_database_and_no_celery() -> None:
    program = "import sys, tidegate.testing; print(sorted({name.partition('.')[0] for name in sys.modules} & OTHERS))"
    others = {"pytest", "sqlalchemy", "psycopg", "redis", "celery", "kombu", "flask"}
    done = subprocess.run(
        [sys.executable, "-c", program.replace("OTHERS", repr(others))], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_tests_that_the_page_shows_are_good_tests_of_the_operation_that_the_readme_shows() -> None:
    shown: dict[str, Any] = {"__name__": "shown"}
    for page in ("README.md", "docs/python-operations.md"):
        for block in re.findall(r"^```python\n(.+?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL):
            exec(block, shown)  # noqa: S102 - our own pages

    tests = [value for name, value in shown.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
