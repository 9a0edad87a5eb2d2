"""When a call starts, and what a downstream without capacity does to its lane."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from tests.support.http_server import HttpServer, respond, serving
from tests.support.jobs import (
    LANE,
    attempts_of,
    call_now,
    change_job,
    claim,
    downstreams_of,
    lane_row,
    open_lane,
    outcomes_of,
    release,
    release_one,
    row_of,
    submit,
    time_at,
)
from tests.support.present import present
from tests.support.running import run_one, run_operation, runner_of
from tests.support.scarcity import no_more_files
from tidegate import errors
from tidegate.database.time import database_now
from tidegate.execution.outcome_recorder import OutcomeRecorder
from tidegate.execution.slot_wait import Start
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.operation import Attempt, Body, Operation
from tidegate.operations.outcome import Outcome, Refused
from tidegate.operations.python_operation import operation
from tidegate.operations.registry import Registry
from tidegate.operations.retry import RetryPolicy
from tidegate.stores import Store


def _refused_by_calls(params: JsonValue, attempt: Attempt) -> None:
    attempt.slot()
    raise errors.Refused("the CRM is full", after=30)


def refusing(retry_after: timedelta | None) -> Operation:
    class Refusing(HttpOperation):
        def run(self, body: Body, attempt: Attempt) -> Outcome:  # noqa: ARG002 - the protocol's
            attempt.begin()
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
    assert abs(lane.paused_until - expected) < timedelta(seconds=10), "the machine stood still between the two"


@pytest.mark.parametrize("paced", ["attempts", "calls"])
@pytest.mark.parametrize(("asked", "rests"), [(30, 30), (timedelta(hours=1), 300), (None, 1), (0, 1), (-5, 1)])
def test_a_function_that_says_refused_makes_the_lane_rest_and_costs_no_attempt(
    store: Store, asked: Any, rests: int, paced: Any
) -> None:
    def made(params: JsonValue, attempt: Attempt) -> None:
        if paced == "calls":
            attempt.slot()
        raise errors.Refused("the CRM is full", after=asked)

    job_id = run_one(store, made, paced=paced, retry=RetryPolicy(attempts=1))

    row, lane = row_of(store, job_id), lane_row(store)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["refused"])
    assert json.loads(row.error) == {"code": "downstream_error", "message": "the CRM is full"}
    assert (lane.refusals, lane.failures) == (1, 0)
    expected = attempts_of(store, job_id)[0].ended_at + timedelta(seconds=rests)
    assert abs(lane.paused_until - expected) < timedelta(seconds=10), "the machine stood still between the two"


def test_a_call_beside_one_that_was_refused_gets_no_slot_while_the_lane_rests(store: Store) -> None:
    """With `paced="calls"` the whole downstream rests, and so do attempts that are under way."""
    open_lane(store)
    made = operation(name="made", downstream=LANE, paced="calls")(_refused_by_calls)
    for _ in range(2):
        submit(store, operation="made", paced_by_calls=True)
    first, second = release(store)
    other = present(claim(store, second))
    assert store.slots.reserve(other, within=timedelta(seconds=1)).due is not None

    assert runner_of(store, made).run(first.job_id, first.fence)

    offer = store.slots.reserve(other, within=timedelta(seconds=1))
    assert (offer.due, offer.counts) == (None, True)
    assert 25 < offer.wait_seconds <= 30


def test_a_shortage_of_the_worker_costs_no_attempt_and_opens_no_breaker(store: Store) -> None:
    class Short(HttpOperation):
        def run(self, body: Body, attempt: Attempt) -> Outcome:
            with no_more_files():
                return super().run(body, attempt)

    minute = timedelta(minutes=1)
    retry = RetryPolicy(attempts=1)
    url = "http://127.0.0.1:1/"
    made = Short(name="made", url=url, downstream=LANE, timeout=minute, attempt_timeout=minute, retry=retry)

    job_id = run_operation(store, made)

    row, lane = row_of(store, job_id), lane_row(store)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["own shortage"])
    assert (lane.failures, lane.refusals, lane.paused_until) == (0, 0, None)
    assert row.run_at > attempts_of(store, job_id)[0].ended_at, "it waits before the next"


def test_refusals_of_calls_that_were_open_together_are_one_rest(store: Store) -> None:
    open_lane(store)
    made = refusing(None)
    for _ in range(2):
        submit(store, operation="made")
    claims = [claim(store, released) for released in release(store)]
    assert len(claims) == 2
    recorder = OutcomeRecorder(store.workers, Registry.of([made]))
    for claimed in claims:
        assert claimed is not None
        assert recorder.record(claimed, Refused(message="the downstream answered 429"), 0.1)

    assert lane_row(store).refusals == 1


def test_an_answer_ends_a_run_of_refusals(store: Store) -> None:
    open_lane(store)
    with store.database.transaction() as connection:
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
    (lane,) = downstreams_of(store)
    assert sum(run.calls for run in lane.pace.log) == 1, "the slot that it missed is nobody's call"
    assert attempt.call_started_at >= attempt.slot_at - timedelta(milliseconds=5)


def test_a_new_slot_that_is_too_far_is_not_waited_for(store: Store) -> None:
    open_lane(store, rates=("1/h",))
    made = operation(name="made", downstream=LANE)(_one)
    job_id = submit(store, operation="made")
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))
    call_now(store)

    assert runner_of(store, made).run(job_id, released.fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["no slot"])


def test_a_slot_that_was_missed_costs_a_slow_rate_no_period(store: Store) -> None:
    open_lane(store, rates=("1/h",))
    made = operation(name="made", downstream=LANE)(_one)
    job_id = submit(store, operation="made")
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))

    assert runner_of(store, made).run(job_id, released.fence)

    assert outcomes_of(store, job_id) == ["succeeded"]


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


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        yield running


def slow_to_connect(server: HttpServer, began: list[float]) -> Operation:
    """Needs a tenth of a second from its slot to its first byte, as where a connection must be made first."""

    def expand(text: str) -> str:
        time.sleep(0.1)
        return text

    def answer(connection: socket.socket) -> None:
        began.append(time.time())
        respond(200)(connection)

    server.answer = answer
    minute = timedelta(minutes=1)
    retry = RetryPolicy(attempts=1)
    return HttpOperation(
        name="made",
        url=server.url,
        downstream=LANE,
        timeout=minute,
        attempt_timeout=minute,
        retry=retry,
        expand=expand,
    )


def test_a_call_whose_first_byte_would_be_late_takes_a_new_slot_and_its_time_begins_there(
    store: Store, server: HttpServer
) -> None:
    began: list[float] = []
    open_lane(store, rates=("5/s",))
    job_id = submit(store, operation="made")
    released = release_one(store)

    assert runner_of(store, slow_to_connect(server, began)).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    slot = attempt.slot_at.timestamp()
    assert attempt.outcome == "succeeded"
    assert slot > released.slot_at.timestamp() + 0.1
    assert 0 <= began[0] - slot < 0.1, "not the tenth of a second, which lay before it"
    assert abs(attempt.ends_at - attempt.slot_at - timedelta(minutes=1)) < timedelta(milliseconds=50)
    assert abs(attempt.call_started_at.timestamp() - slot) < 0.1


def test_the_connection_is_open_before_the_slot_and_the_first_byte_comes_at_it(store: Store) -> None:
    """A handshake may take longer than the 20 ms that a call may be late."""
    open_lane(store, rates=("10/s",))
    submit(store)
    release_one(store)
    job_id = submit(store, operation="made")
    released = release_one(store)
    opened: list[float] = []
    sent: list[float] = []
    minute = timedelta(minutes=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            opened.append(time.time())
            with connection:
                assert connection.recv(100_000)
                sent.append(time.time())
                respond(200)(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        made = HttpOperation(
            name="made", url=url, downstream=LANE, timeout=minute, attempt_timeout=minute, retry=RetryPolicy(attempts=1)
        )
        assert runner_of(store, made).run(job_id, released.fence)
        thread.join(timeout=10)

    (attempt,) = attempts_of(store, job_id)
    assert attempt.outcome == "succeeded"
    assert opened[0] < attempt.slot_at.timestamp()
    assert sent[0] >= attempt.slot_at.timestamp()


def test_a_first_byte_that_is_late_all_the_same_counts_from_then_on(
    store: Store, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process stood still between the last look at the slot and the write."""
    open_lane(store, rates=("1/s",))
    job_id = submit(store, operation="made")
    released = release_one(store)
    begin = Start.begin

    def stand_still(start: Start) -> float:
        left = begin(start)
        time.sleep(0.3)
        return left

    monkeypatch.setattr(Start, "begin", stand_still)
    minute = timedelta(minutes=1)
    made = HttpOperation(
        name="made",
        url=server.url,
        downstream=LANE,
        timeout=minute,
        attempt_timeout=minute,
        retry=RetryPolicy(attempts=1),
    )
    assert runner_of(store, made).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    (lane,) = downstreams_of(store)
    assert lane.next_slot_at >= attempt.slot_at + timedelta(seconds=1.32)
    assert sum(run.calls for run in lane.pace.log) == 1


def test_a_call_that_gets_no_new_slot_in_time_is_not_made(store: Store, server: HttpServer) -> None:
    open_lane(store, rates=("1/m",))
    job_id = submit(store, operation="made")
    released = release_one(store)
    call_now(store)

    assert runner_of(store, slow_to_connect(server, [])).run(job_id, released.fence)

    row = row_of(store, job_id)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["no slot"])
    assert attempts_of(store, job_id)[0].call_started_at is None
    assert server.received == []


def _one(params: JsonValue) -> int:
    return 1
