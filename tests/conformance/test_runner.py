"""One attempt from its message to its record: how each end of an operation is told by the row."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from tests.support.jobs import (
    LANE,
    attempts_of,
    lane_row,
    open_lane,
    outcomes_of,
    pass_deadline,
    release_one,
    result_of,
    row_of,
    submit,
)
from tests.support.present import present
from tests.support.running import run_one, run_operation, runner_of
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.errors import AttemptStopped, PermanentError, Retry
from tidegate.execution import runner
from tidegate.operations import attempt_outcome
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import operation
from tidegate.operations.retry import RetryPolicy
from tidegate.stores import Store

SOON = RetryPolicy(attempts=3, delay=timedelta(seconds=40), max_delay=timedelta(seconds=60))


def error_of(store: Store, job_id: str) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(row_of(store, job_id).error)
    return error


def test_a_success_is_recorded_with_its_result_and_its_call(store: Store) -> None:
    def made(params: JsonValue, attempt: Attempt) -> JsonValue:
        return [params, attempt.number, attempt.job_id]

    job_id = run_one(store, made)

    row = row_of(store, job_id)
    assert (row.state, row.percent, row.attempt, row.error) == ("succeeded", 100, 1, None)
    assert json.loads(result_of(store, job_id) or b"") == [{}, 1, job_id]
    (attempt,) = attempts_of(store, job_id)
    assert (attempt.outcome, attempt.worker) == ("succeeded", "mine")
    assert attempt.released_at <= attempt.claimed_at <= attempt.call_started_at <= attempt.ended_at


def test_an_attempt_that_ran_longer_than_it_may_is_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def made(params: JsonValue) -> str:
        time.sleep(0.8)
        return "late"

    job_id = run_one(store, made, queue="io", attempt_timeout="200ms", timeout="1m")

    assert row_of(store, job_id).state == "succeeded", "it can't be ended, and what it brought is a result"
    (told,) = [record.getMessage() for record in caplog.records if "longer than it may" in record.getMessage()]
    assert f"job {job_id}: attempt 1 of made ran 0." in told
    assert "attempt_timeout 0.2 s" in told


def test_a_failure_waits_for_its_retry_and_says_why(store: Store) -> None:
    def made(params: JsonValue) -> None:
        raise RuntimeError("maybe next time")

    job_id = run_one(store, made, retry=SOON)

    row = row_of(store, job_id)
    assert (row.state, row.waits_for, row.attempt) == ("queued", "retry", 1)
    assert timedelta(0) <= row.run_at - attempts_of(store, job_id)[0].ended_at + timedelta(seconds=1) < SOON.max_delay
    assert error_of(store, job_id) == {"code": "operation_error", "message": "RuntimeError: maybe next time"}
    assert outcomes_of(store, job_id) == ["error"]


def test_the_last_failure_is_final(store: Store) -> None:
    def made(params: JsonValue) -> None:
        raise RuntimeError("again")

    operation_made = operation(name="made", downstream=LANE, retry=RetryPolicy(attempts=2, delay=timedelta(0)))(made)
    job_id = run_operation(store, operation_made)
    assert row_of(store, job_id).state == "queued"

    assert runner_of(store, operation_made).run(job_id, release_one(store).fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, row.waits_for) == ("failed", 2, None)
    assert error_of(store, job_id)["code"] == "attempts_exhausted"


def test_a_permanent_failure_is_final_at_once(store: Store) -> None:
    def made(params: JsonValue) -> None:
        raise PermanentError("never")

    job_id = run_one(store, made, retry=SOON)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("failed", ["failed"])
    assert error_of(store, job_id) == {"code": "operation_error", "message": "never"}


@pytest.mark.parametrize(
    ("after", "least", "most"),
    [(None, 0, 40), (timedelta(seconds=50), 50, 50), (50.0, 50, 50), (-5, 0, 40), (10**9, 31 * 86_400, 31 * 86_400)],
)
def test_a_function_says_when_it_may_be_tried_again_and_not_before_that(
    store: Store, after: Any, least: int, most: int
) -> None:
    def made(params: JsonValue) -> None:
        raise Retry("the export is not ready", after=after)

    job_id = run_one(store, made, retry=SOON)

    row = row_of(store, job_id)
    assert (row.state, row.waits_for, row.attempt, outcomes_of(store, job_id)) == ("queued", "retry", 1, ["error"])
    waits = row.run_at - attempts_of(store, job_id)[0].ended_at
    assert timedelta(seconds=least - 1) < waits < timedelta(seconds=most + 1)
    assert error_of(store, job_id) == {"code": "operation_error", "message": "the export is not ready"}
    assert lane_row(store).paused_until is None


def test_the_last_attempt_that_asks_for_another_is_final(store: Store) -> None:
    def made(params: JsonValue) -> None:
        raise Retry("not ready", after=timedelta(hours=1))

    job_id = run_one(store, made, retry=RetryPolicy(attempts=1))

    assert row_of(store, job_id).state == "failed"
    assert error_of(store, job_id) == {"code": "operation_error", "message": "not ready"}


class Unprintable(Exception):  # noqa: N818 - it is not one of ours
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RuntimeError("\ud800\x00"), id="not UTF-8"),
        pytest.param(PermanentError("\ud800\x00"), id="permanent, not UTF-8"),
        pytest.param(RuntimeError("x" * 100_000), id="long"),
        pytest.param(SystemExit(3), id="sys.exit"),
        pytest.param(MemoryError(), id="memory"),
        pytest.param(RecursionError(), id="recursion"),
        pytest.param(Unprintable(), id="unprintable"),
        pytest.param(StopIteration(), id="StopIteration"),
    ],
)
def test_whatever_an_operation_raises_its_attempt_has_an_end(
    store: Store, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist can't carry a captured log that is not UTF-8.
    monkeypatch.setattr(runner.log, "disabled", True)
    monkeypatch.setattr(attempt_outcome.log, "disabled", True)

    def made(params: JsonValue) -> None:
        raise error

    job_id = run_one(store, made, retry=RetryPolicy(attempts=1))

    assert row_of(store, job_id).state == "failed"
    assert len(error_of(store, job_id)["message"]) <= 1000
    assert attempts_of(store, job_id)[0].ended_at is not None, "its place is free"


def test_a_result_that_cannot_be_written_is_a_final_failure(store: Store) -> None:
    def made(params: JsonValue) -> Any:
        return object()

    job_id = run_one(store, made, retry=SOON)

    assert row_of(store, job_id).state == "failed"
    assert result_of(store, job_id) is None


@pytest.mark.parametrize("content_type", ["text/\x00", "text/" + "x" * 300, None])
def test_a_result_that_no_database_takes_is_a_final_failure(store: Store, content_type: Any) -> None:
    def made(params: JsonValue) -> Body:
        return Body(content=b"x", content_type=content_type)

    job_id = run_one(store, made, retry=SOON)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("failed", ["failed"])


@pytest.mark.parametrize(("size", "state"), [(1000, "succeeded"), (1001, "failed")])
def test_a_result_is_as_large_as_allowed_and_no_larger(store: Store, size: int, state: str) -> None:
    def made(params: JsonValue) -> Body:
        return Body(content=b"x" * size)

    job_id = run_one(store, made, max_result=1000, retry=SOON)

    assert row_of(store, job_id).state == state
    assert (result_of(store, job_id) is None) == (state == "failed")


def test_an_attempt_past_its_timeout_is_stopped_at_its_progress_and_failed(store: Store) -> None:
    def made(params: JsonValue, attempt: Attempt) -> None:
        while True:
            attempt.progress(1, 2)

    job_id = run_one(store, made, attempt_timeout="200ms", retry=RetryPolicy(attempts=1))

    assert row_of(store, job_id).state == "failed"
    assert "longer than its timeout" in error_of(store, job_id)["message"]


def test_a_cancel_is_seen_at_the_next_progress(store: Store) -> None:
    def made(params: JsonValue, attempt: Attempt) -> None:
        store.callers.cancel(attempt.job_id, IMPLICIT_CLIENT)
        while True:
            attempt.progress(1)

    job_id = run_one(store, made)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("cancelled", ["stopped"])


def test_a_deadline_is_seen_at_the_next_progress(store: Store) -> None:
    def made(params: JsonValue, attempt: Attempt) -> None:
        pass_deadline(store, attempt.job_id)
        while True:
            attempt.progress(1)

    job_id = run_one(store, made)

    assert row_of(store, job_id).state == "expired"


def test_a_result_after_the_deadline_is_dropped(store: Store) -> None:
    def made(params: JsonValue, attempt: Attempt) -> int:
        pass_deadline(store, attempt.job_id)
        return 1

    job_id = run_one(store, made)

    assert present(store.callers.get(job_id, IMPLICIT_CLIENT)).state == "expired"
    assert (result_of(store, job_id), outcomes_of(store, job_id)) == (None, ["late"])


@pytest.mark.parametrize("note", ["x" * 1000, "a\x00b", "\ud800"])
def test_a_note_that_does_not_fit_does_not_fail_its_attempt(store: Store, note: str) -> None:
    def made(params: JsonValue, attempt: Attempt) -> int:
        attempt.progress(1.5, 2, note)  # type: ignore[arg-type] # what people do pass
        return 1

    job_id = run_one(store, made)

    assert row_of(store, job_id).state == "succeeded"
    assert len(row_of(store, job_id).note) <= 200


def test_an_operation_that_stops_itself_is_handed_back(store: Store) -> None:
    def made(params: JsonValue) -> None:
        raise AttemptStopped("for a reason that is longer than its column is wide")

    job_id = run_one(store, made)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["stopped"])


def test_a_job_whose_operation_this_worker_does_not_know_is_handed_back_for_others(store: Store) -> None:
    open_lane(store)
    job_id = submit(store, operation="of another version")

    assert runner_of(store).run(job_id, release_one(store).fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["unknown here"])
    assert row.run_at > row.created_at


def test_a_message_without_a_release_does_nothing(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)

    assert not runner_of(store).run(job_id, 1)
    assert not runner_of(store).run("01890000-0000-7000-8000-000000000000", 1)
    assert row_of(store, job_id).version == 1
