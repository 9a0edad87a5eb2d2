"""Operations that are `async def`: their coroutines run on one event loop of the process, and end as functions do."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import httpx2
import pytest
from pydantic import JsonValue

from tests.support.http_server import respond, serving
from tests.support.waiting import wait_until
from tidegate import operations
from tidegate.errors import PermanentError
from tidegate.operations import Attempt, operation
from tidegate.operations.event_loop import EventLoop
from tidegate.operations.operation import Body
from tidegate.operations.outcome import ErrorCode
from tidegate.testing import Failed, FakeAttempt, HandedBack, Ran, Refused, Succeeded, TryAgain, run

TIMED_OUT = TryAgain(code=ErrorCode.OPERATION_ERROR, message="the attempt took longer than its timeout")


@operation(queue="io")
async def fetch(params: list[str], attempt: Attempt) -> dict[str, Any]:
    """Uses all that an attempt has."""
    for _ in attempt.track(params, "fetching"):
        await attempt.aslot()
        await asyncio.sleep(0)
    return {"attempt": attempt.number, "thread": threading.current_thread().name}


def running(function: Callable[[Attempt], Awaitable[Any]], attempt: FakeAttempt | int = 1) -> Ran:
    """A run of an operation that does nothing but this."""

    @operation(name="made", queue="io")
    async def made(params: JsonValue, attempt: Attempt) -> Any:
        return await function(attempt)

    return run(made, None, attempt=attempt)


def test_a_coroutine_runs_on_the_event_loop_with_all_that_an_attempt_has() -> None:
    ran = run(fetch, ["a", "b"], attempt=3)

    assert ran.result == {"attempt": 3, "thread": "event loop"}
    assert [(each.done, each.total, each.note) for each in ran.progress] == [
        (0, 2, "fetching"),
        (1, 2, "fetching"),
        (2, 2, "fetching"),
    ]
    assert ran.slots == 2


def test_a_coroutine_without_an_attempt_runs_too_and_its_annotation_is_the_result_s() -> None:
    @operation(queue="io")
    async def double(params: int) -> int:
        await asyncio.sleep(0)
        return 2 * params

    assert run(double, 4).result == 8

    @operation(queue="io")
    async def wrong(params: int) -> int:
        return str(params)  # type: ignore[return-value] # what the annotation does not allow

    assert isinstance(run(wrong, 4).outcome, Succeeded), "pydantic reads it"

    @operation(queue="io")
    async def raw(body: Body) -> Body:
        return body

    assert run(raw, Body(content=b"\0", content_type="a/b")).result == Body(content=b"\0", content_type="a/b")


def test_it_is_called_like_the_coroutine_function_that_it_was() -> None:
    attempt = FakeAttempt(2)

    assert asyncio.run(fetch(["a"], attempt))["attempt"] == 2
    assert (attempt.slots, len(attempt.reports)) == (1, 2)
    assert asyncio.run(fetch([]))["attempt"] == 1


def test_all_of_them_share_one_loop_and_go_on_side_by_side() -> None:
    met = 0
    all_there = asyncio.Event()  # of a module that all share, as a client with its connections is
    loops = set()

    async def meet(attempt: Attempt) -> int:
        nonlocal met
        met += 1
        loops.add(asyncio.get_running_loop())
        if met == 8:
            all_there.set()
        await all_there.wait()
        return attempt.number

    with ThreadPoolExecutor(8) as threads:
        ran = list(threads.map(lambda number: running(meet, number), range(1, 9)))

    assert [each.result for each in ran] == list(range(1, 9))
    assert len(loops) == 1


def test_a_client_that_a_module_shares_keeps_its_connection_from_one_attempt_to_the_next() -> None:
    clients: list[httpx2.AsyncClient] = []

    with serving() as downstream:
        downstream.answer = respond(200, b'{"lat": 1.5}', content_type="application/json")

        @operation(queue="io")
        async def lookup(params: bool) -> float:
            if not clients:
                clients.append(httpx2.AsyncClient(base_url=downstream.url))
            if params:
                return float((await clients[0].get("/")).json()["lat"])
            await clients[0].aclose()
            return 0.0

        assert [run(lookup, goes_on).result for goes_on in (True, True, True, False)] == [1.5, 1.5, 1.5, 0.0]
        assert len(downstream.received) == 3
        assert len(downstream._connections) == 1


def test_the_context_of_the_worker_s_thread_is_that_of_the_coroutine() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def told(attempt: Attempt) -> str:
        return name.get()

    def within(given: str) -> Any:
        name.set(given)
        return running(told).result

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(within, ["a", "b"])) == ["a", "b"]


class OwnError(Exception):
    """Of nobody's but the test."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermanentError("no"), Failed(code=ErrorCode.OPERATION_ERROR, message="no")),
        (operations.Refused("full"), Refused(message="full")),
        (operations.Retry("soon"), TryAgain(code=ErrorCode.OPERATION_ERROR, message="soon")),
        (
            OwnError("maybe"),
            TryAgain(code=ErrorCode.OPERATION_ERROR, message="tests.unit.test_coroutines.OwnError: maybe"),
        ),
        (SystemExit(3), TryAgain(code=ErrorCode.OPERATION_ERROR, message="SystemExit: 3")),
        (
            asyncio.CancelledError(),
            TryAgain(
                code=ErrorCode.OPERATION_ERROR,
                message="tidegate.errors.OperationError: its coroutine was cancelled, and not by the worker",
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("is_in_group", [False, True])
def test_what_it_raises_means_what_it_means_of_a_function(
    error: BaseException, expected: Any, is_in_group: bool
) -> None:
    async def failing(attempt: Attempt) -> None:
        raise error

    async def failing_in_group(attempt: Attempt) -> None:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(failing(attempt))
        child.result()  # a group takes a cancelled task for one that has ended

    assert running(failing_in_group if is_in_group else failing).outcome == expected
    assert run(fetch, []).result["thread"] == "event loop", "the loop goes on"


def test_a_task_that_was_left_behind_and_exits_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def exits() -> None:
        sys.exit(1)

    async def leaves(attempt: Attempt) -> None:
        task = asyncio.get_running_loop().create_task(exits())
        await asyncio.wait({task})
        assert isinstance(task.exception(), SystemExit)

    assert isinstance(running(leaves).outcome, Succeeded)
    assert "goes on" in caplog.text


class Stopping:
    """A coroutine that waits for ever, and how it was stopped."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.is_waiting = threading.Event()

    async def wait(self, _: Attempt) -> None:
        try:
            self.is_waiting.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            await asyncio.sleep(0.05)  # closing takes its time, and is not cancelled again
            self.ends.append("closed")
            raise

    async def wait_for_child(self, attempt: Attempt) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.wait(attempt))


@pytest.mark.parametrize("kind", ["wait", "wait_for_child"])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (lambda attempt: attempt.advance(700), TIMED_OUT),
        (lambda attempt: attempt.cancel(), HandedBack(reason="stopped")),
    ],
    ids=["timeout", "cancel"],
)
def test_one_that_waits_gets_a_cancelled_error_where_it_awaits(
    kind: str, stop: Callable[[FakeAttempt], None], expected: Any
) -> None:
    attempt, stopping = FakeAttempt(seconds=600), Stopping()

    def stop_it() -> None:
        stopping.is_waiting.wait(10)
        stop(attempt)

    thread = threading.Thread(target=stop_it)
    thread.start()
    ran = running(getattr(stopping, kind), attempt)
    thread.join()

    assert ran.outcome == expected
    assert stopping.ends == ["cancelled", "closed"]


@pytest.mark.parametrize("is_in_group", [False, True])
@pytest.mark.parametrize("ask", ["report", "slot", "slot in a thread"])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (lambda attempt: attempt.advance(700), TIMED_OUT),
        (lambda attempt: attempt.cancel(), HandedBack(reason="stopped")),
    ],
    ids=["timeout", "cancel"],
)
def test_a_stop_is_seen_at_once_by_a_report_or_slot(
    ask: str, is_in_group: bool, stop: Callable[[FakeAttempt], None], expected: Any
) -> None:
    outer = FakeAttempt(seconds=600)

    async def asks(attempt: Attempt) -> str:
        stop(outer)
        match ask:
            case "report":
                attempt.progress(1, 2)
                await asyncio.sleep(60)
            case "slot":
                await attempt.aslot()
            case _:
                await asyncio.to_thread(attempt.slot)
        return "went on"

    async def grouped(attempt: Attempt) -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asks(attempt)) for _ in range(3)]
        return tasks[0].result()

    began = time.monotonic()
    ran = running(grouped if is_in_group else asks, outer)
    assert ran.outcome == expected
    assert (ran.slots, ran.progress) == (0, ())
    assert time.monotonic() - began < 30


def test_one_that_brings_a_result_although_it_was_cancelled_has_it() -> None:
    outer = FakeAttempt()

    async def stubborn(attempt: Attempt) -> str:
        outer.cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "there is one"
        return "not cancelled"

    assert running(stubborn, outer).result == "there is one"


def test_one_that_turns_its_cancel_into_an_error_was_stopped_all_the_same() -> None:
    outer = FakeAttempt()

    async def turning(attempt: Attempt) -> None:
        outer.cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RuntimeError("cancelled") from None

    assert running(turning, outer).outcome == HandedBack(reason="stopped")


def test_a_slot_that_is_waited_for_holds_no_other_up_and_one_is_waited_for_at_a_time() -> None:
    may_go, asked = threading.Event(), []

    def take_slot() -> None:
        asked.append(threading.current_thread().name)
        may_go.wait(10)

    attempt = Attempt(job_id="slow", number=1, report=lambda _: None, seconds_left=lambda: 60, take_slot=take_slot)

    @operation(queue="io")
    async def crawl(params: int, attempt: Attempt) -> str:
        await asyncio.gather(*(attempt.aslot() for _ in range(params)))
        return "all"

    with ThreadPoolExecutor(1) as threads:
        crawling = threads.submit(crawl.run, Body(content=b"5"), attempt)
        wait_until(lambda: asked, description="it waits for its first slot")
        assert run(fetch, ["a"]).slots == 1
        assert len(asked) == 1
        may_go.set()
        outcome = crawling.result(10)
    assert isinstance(outcome, Succeeded)
    assert len(asked) == 5
    assert all(name.startswith("slot") for name in asked)


def test_a_slot_that_is_gone_when_the_loop_comes_round_is_taken_anew() -> None:
    """Calls that were held up by a busy loop must not form a burst."""
    granted: list[float] = []

    def take_slot() -> float:
        granted.append(time.monotonic())
        if len(granted) == 1:
            loops[0].call_soon_threadsafe(time.sleep, 0.2)  # somebody else's coroutine, before ours goes on
            time.sleep(0.05)
        return granted[-1] + 0.1

    loops: list[asyncio.AbstractEventLoop] = []
    attempt = Attempt(job_id="a", number=1, report=lambda _: None, seconds_left=lambda: 60, take_slot=take_slot)

    @operation(queue="io")
    async def call(params: JsonValue, attempt: Attempt) -> float:
        loops.append(asyncio.get_running_loop())
        await attempt.aslot()
        return time.monotonic()

    outcome = call.run(Body(content=b"null"), attempt)

    assert isinstance(outcome, Succeeded)
    assert len(granted) >= 2
    assert float(outcome.content) <= granted[-1] + 0.1


def test_a_call_that_the_loop_would_begin_late_looks_at_its_slot_again_and_says_when_it_began() -> None:
    events: list[str] = []

    def begin() -> float:
        events.append("begin")
        return 60.0

    def attempt() -> Attempt:
        return Attempt(
            job_id="a",
            number=1,
            report=lambda _: None,
            seconds_left=lambda: 60,
            take_slot=lambda: None,
            begin=begin,
            sent=lambda: events.append("sent"),
        )

    @operation(queue="io")
    async def call(params: JsonValue) -> None:
        events.append("called")

    async def block(attempt: Attempt) -> None:
        is_blocking.set()
        time.sleep(0.3)

    is_blocking = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        blocking = threads.submit(running, block)
        assert is_blocking.wait(10)
        call.run(Body(content=b"null"), attempt())
        blocking.result(10)

    assert events[:2] == ["begin", "begin"]
    assert sorted(events[-2:]) == ["called", "sent"]


def test_a_slot_that_would_hold_the_loop_up_is_refused_with_what_to_write() -> None:
    async def wrong(attempt: Attempt) -> None:
        attempt.slot()

    assert running(wrong).outcome == Failed(
        code=ErrorCode.OPERATION_ERROR,
        message="attempt.slot() would hold all coroutines up: write await attempt.aslot()",
    )


def test_a_loop_that_stands_still_is_told_once_with_its_line_and_that_it_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.operations.event_loop._STANDS_STILL_SECONDS", 0.1)
    loop, may_go = EventLoop(), threading.Event()

    def block() -> None:
        may_go.wait(10)

    loop.call(block)
    loop.look()
    deadline = time.monotonic() + 10
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.01)
        loop.look()
    for _ in range(10):
        loop.look()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "the event loop has stood still for 0.1 s at" in told
    assert "threading.py" in told
    may_go.set()
    wait_until(lambda: len(caplog.records) == 2, description="that it goes on is told")
    assert "goes on" in caplog.records[1].getMessage()
    loop.look()
    assert len(caplog.records) == 2


def test_one_that_goes_on_although_it_was_cancelled_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.operations.coroutines._UNWINDING_SECONDS", 0.0)
    monkeypatch.setattr("tidegate.operations.coroutines._LOOK_SECONDS", 0.05)
    outer = FakeAttempt()

    async def goes_on(attempt: Attempt) -> int:
        outer.cancel()
        while "goes on; let CancelledError through" not in caplog.text:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                logging.getLogger("test").info("swallowed")
        return 1

    assert running(goes_on, outer).result == 1
    assert caplog.text.count("job a-job: its coroutine was cancelled and goes on") == 1
