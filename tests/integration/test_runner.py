"""One attempt from its message to its record: how each end of an operation is told by the row."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from tests.support.jobs import (
    LANE,
    LEASE,
    attempts_of,
    change_job,
    claim,
    lane_row,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    result_of,
    row_of,
    submit,
    time_at,
)
from tidegate.database import database_now
from tidegate.errors import AttemptStopped, PermanentError
from tidegate.http_operation import HttpOperation
from tidegate.models import IMPLICIT_CLIENT
from tidegate.operations import Attempt, Body, Operation, Registry
from tidegate.outcomes import Outcome, Refused
from tidegate.python_operation import operation
from tidegate.retry import RetryPolicy
from tidegate.runner import Runner
from tidegate.store import Store
from tidegate.wake import SilentBell

SOON = RetryPolicy(attempts=3, delay=timedelta(seconds=40), max_delay=timedelta(seconds=60))
Function = Callable[..., Any]


def runner_of(store: Store, *operations: Operation, max_result: int = 10_000) -> Runner:
    return Runner(store, Registry.of(operations), worker="mine", lease=LEASE, max_result=max_result, bell=SilentBell())


def run_one(store: Store, function: Function, *, max_result: int = 10_000, **options: Any) -> str:
    """Submits, releases and runs one job whose operation is this function; its id."""
    made = operation(name="made", downstream=LANE, **options)(function)
    return run_operation(store, made, max_result=max_result)


def run_operation(store: Store, made: Operation, *, max_result: int = 10_000) -> str:
    open_lane(store)
    job_id = submit(store, operation=made.name, max_attempts=made.retry.attempts)
    assert runner_of(store, made, max_result=max_result).run(job_id, release_one(store).fence)
    return job_id


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
def test_whatever_an_operation_raises_its_attempt_has_an_end(store: Store, error: BaseException) -> None:
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

    assert store.callers.get(job_id, IMPLICIT_CLIENT).state == "expired"  # type: ignore[union-attr]
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


def test_an_operation_that_this_worker_does_not_know_fails(store: Store) -> None:
    open_lane(store)
    job_id = submit(store, operation="of another version")

    assert runner_of(store).run(job_id, release_one(store).fence)

    assert row_of(store, job_id).state == "failed"
    assert "this worker does not know it" in error_of(store, job_id)["message"]


def test_a_message_without_a_release_does_nothing(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)

    assert not runner_of(store).run(job_id, 1)
    assert not runner_of(store).run("01890000-0000-7000-8000-000000000000", 1)
    assert row_of(store, job_id).version == 1


def refusing(retry_after: timedelta | None) -> Operation:
    class Refusing(HttpOperation):
        def run(self, body: Body, attempt: Attempt) -> Outcome:  # noqa: ARG002 - the protocol's
            return Refused(message="the downstream answered 429", retry_after=retry_after)

    minute = timedelta(minutes=1)
    return Refusing(
        name="made", url="", downstream=LANE, timeout=minute, attempt_timeout=minute, retry=RetryPolicy(attempts=1)
    )


@pytest.mark.parametrize(("asked", "rests"), [(30, 30), (3600, 300), (None, 1)])
def test_a_refusal_makes_the_lane_rest_and_costs_no_attempt(store: Store, asked: int | None, rests: int) -> None:
    made = refusing(None if asked is None else timedelta(seconds=asked))

    job_id = run_operation(store, made)

    row, lane = row_of(store, job_id), lane_row(store)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["refused"])
    assert lane.refusals == 1
    expected = attempts_of(store, job_id)[0].ended_at + timedelta(seconds=rests)
    assert abs(lane.paused_until - expected) < timedelta(seconds=1)


def test_refusals_of_calls_that_were_open_together_are_one_rest(store: Store) -> None:
    open_lane(store)
    made = refusing(None)
    for _ in range(2):
        submit(store, operation="made")
    claims = [claim(store, released) for released in release(store)]
    assert len(claims) == 2
    for claimed in claims:
        assert claimed is not None
        assert runner_of(store, made)._record(claimed, made.run(Body(content=b""), None), 0.1)  # type: ignore[arg-type]

    assert lane_row(store).refusals == 1


def test_an_answer_ends_a_run_of_refusals(store: Store) -> None:
    open_lane(store)
    with store.database.single_write() as connection:
        connection.exec_driver_sql("UPDATE downstreams SET refusals = 3, failures = 2")

    run_one(store, _one)

    assert (lane_row(store).refusals, lane_row(store).failures) == (0, 0)


def test_late_for_its_slot_it_takes_a_new_one(store: Store) -> None:
    open_lane(store, rates=("100/s",))
    made = operation(name="made", downstream=LANE)(_one)
    job_id = submit(store, operation="made")
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))

    assert runner_of(store, made).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    assert attempt.outcome == "succeeded"
    assert attempt.slot_at > released.slot_at
    assert attempt.call_started_at >= attempt.slot_at - timedelta(milliseconds=5)


def test_a_new_slot_that_is_too_far_is_not_waited_for(store: Store) -> None:
    open_lane(store, rates=("1/h",))
    made = operation(name="made", downstream=LANE)(_one)
    job_id = submit(store, operation="made")
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))

    assert runner_of(store, made).run(job_id, released.fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["no slot"])


def test_without_a_pace_an_attempt_has_its_whole_time_however_long_its_message_waited(store: Store) -> None:
    left: list[timedelta] = []

    def tells(params: JsonValue, attempt: Attempt) -> None:
        left.append(attempt.time_left)

    open_lane(store)
    made = operation(name="made", downstream=LANE, attempt_timeout="10s")(tells)
    job_id = submit(store, operation="made")
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=30)))

    assert runner_of(store, made).run(job_id, released.fence)

    assert timedelta(seconds=5) < left[0] <= timedelta(seconds=10)
    assert attempts_of(store, job_id)[0].place_until > time_at(store)


def test_waiting_for_the_slot_of_a_call_ends_with_the_attempt_and_counts_as_failed(store: Store) -> None:
    def calls(params: JsonValue, attempt: Attempt) -> None:
        attempt.slot()
        attempt.slot()

    open_lane(store, rates=("1/h",))
    options: dict[str, Any] = {"paced": "calls", "attempt_timeout": "300ms", "retry": RetryPolicy(attempts=1)}
    made = operation(name="made", downstream=LANE, **options)(calls)
    job_id = submit(store, operation="made", max_attempts=1)
    change_job(store, job_id, paced_by_calls=True)

    assert runner_of(store, made).run(job_id, release_one(store).fence)

    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("failed", ["error"])


def _one(params: JsonValue) -> int:
    return 1
