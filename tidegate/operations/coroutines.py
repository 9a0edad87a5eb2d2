"""Runs the coroutine of an `async def` operation on the process's event loop, for a thread that waits for its end."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tidegate import clock
from tidegate.errors import AttemptStopped, OperationError, PermanentError
from tidegate.operations.event_loop import LOOP
from tidegate.operations.operation import Attempt, Progress

log = logging.getLogger(__name__)

# How often the waiting thread looks whether the attempt still counts, if nothing is reported.
_LOOK_SECONDS = 1.0
_SHORTEST_SECONDS = 0.01
# A cancelled coroutine that needs longer for its end is worth a warning.
_UNWINDING_SECONDS = 5.0
# The loop may begin a coroutine so long after its slot was waited for; later the slot is looked at again, so often.
_HOP_SECONDS = 0.005
_LOOKS_AT_SLOT = 5
T = TypeVar("T")


class _Sign(Enum):
    BEGAN = auto()
    ENDED = auto()


def run_coroutine(call: Callable[[Attempt], Coroutine[Any, Any, Any]], attempt: Attempt) -> Any:
    """Runs a coroutine to its end, and returns what it returns or raises what it raises.

    `call` makes it, with the attempt that the function is given. When `attempt` no longer counts or its time is over,
    the coroutine is cancelled, once; when it has ended AttemptStopped is raised, unless it has a result all the same.
    """
    return _Run(call, attempt).to_the_end()


class _Run:
    """One coroutine. Its methods run in the waiting thread, but for those that say that they run in the loop."""

    def __init__(self, call: Callable[[Attempt], Coroutine[Any, Any, Any]], attempt: Attempt) -> None:
        self.attempt = attempt
        self.news: SimpleQueue[Progress | _Sign] = SimpleQueue()
        self.stop: AttemptStopped | None = None
        self._call = call
        self._begun_at = clock.monotonic()
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._exit: BaseException | None = None
        self._job_id = attempt.job_id
        self._told_at = 0.0

    def to_the_end(self) -> Any:
        LOOP.call(self._start)
        while (news := self._next()) is not _Sign.ENDED:
            try:
                self._handle(news)
            except AttemptStopped as stop:
                self._cancel(stop)
        return self._result()

    def _next(self) -> Progress | _Sign | None:
        """The next report or sign; None: nothing came for a while."""
        left = _LOOK_SECONDS if self.stop else self.attempt.time_left.total_seconds()
        try:
            return self.news.get(timeout=max(_SHORTEST_SECONDS, min(left, _LOOK_SECONDS)))
        except Empty:
            return None

    def _handle(self, news: Progress | _Sign | None) -> None:
        match news:
            case None:
                LOOP.look()
                if self.stop:
                    self._tell_if_slow()
                else:
                    self.attempt.check()
            case Progress() if not self.stop:
                self.attempt.progress(news.done, news.total, news.note)
            case _Sign.BEGAN:
                self.attempt.sent()

    def _cancel(self, stop: AttemptStopped) -> None:
        self.stop = stop
        LOOP.call(self._cancel_task)

    def _tell_if_slow(self) -> None:
        """Logs, once, that the coroutine does not end although it was cancelled."""
        now = clock.monotonic()
        self._told_at = self._told_at or now + _UNWINDING_SECONDS
        if now >= self._told_at:
            self._told_at = math.inf
            log.warning("job %s: its coroutine was cancelled and goes on; let CancelledError through", self._job_id)

    def _result(self) -> Any:
        assert self._task is not None  # noqa: S101 - it has ended
        if self._exit is not None:
            raise self._exit
        if self._task.cancelled():
            raise self.stop or OperationError("its coroutine was cancelled, and not by the worker")
        error = self._task.exception()
        if error is None:
            return self._task.result()
        if self.stop:
            raise self.stop from error
        # What one task of a TaskGroup has raised is what the function has raised.
        while isinstance(error, BaseExceptionGroup) and (len(error.exceptions) == 1 or error.subgroup(AttemptStopped)):
            error = (error.subgroup(AttemptStopped) or error).exceptions[0]
        raise error

    def _start(self) -> None:
        """In the loop: begins."""
        self._task = asyncio.get_running_loop().create_task(self._whole(), name=f"job {self._job_id}")
        self._task.add_done_callback(lambda _: self.news.put(_Sign.ENDED))

    def _cancel_task(self) -> None:
        """In the loop: the coroutine gets CancelledError where it awaits, once, so that it can close what is open."""
        assert self._task is not None  # noqa: S101 - what is called of one thread comes in order
        if not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()

    async def _whole(self) -> Any:
        for _ in range(_LOOKS_AT_SLOT):
            if clock.monotonic() - self._begun_at <= _HOP_SECONDS:
                break
            await in_thread(self._begin_again)
        self.news.put(_Sign.BEGAN)
        try:
            return await self._call(CoroutineAttempt(self))
        except (SystemExit, KeyboardInterrupt) as error:  # which would end the loop
            self._exit = error

    def _begin_again(self) -> None:
        """In a thread: the loop was held up, and the slot may be missed."""
        self.attempt.begin()
        self._begun_at = clock.monotonic()

    async def stopped(self, stop: AttemptStopped) -> None:
        """In the loop: cancels the coroutine, and is cancelled with it."""
        self.stop = self.stop or stop
        self._cancel_task()
        if self._task is not None:
            await asyncio.wait({self._task})
        raise asyncio.CancelledError


class CoroutineAttempt(Attempt):
    """The attempt as a coroutine is given it: nothing of it holds the event loop up.

    Its reports are written by the thread that waits for the coroutine. A stop comes as CancelledError at an await.
    """

    def __init__(self, run: _Run) -> None:
        outer = run.attempt

        def seconds_left() -> float:
            return outer.time_left.total_seconds()

        super().__init__(
            job_id=outer.job_id,
            number=outer.number,
            report=run.news.put,
            seconds_left=seconds_left,
            take_slot=outer.take_slot,
            headers=outer.headers,
        )
        self._run = run
        self._one_at_a_time = asyncio.Lock()

    def slot(self) -> None:
        """Only within `asyncio.to_thread`; in the coroutine itself it is `await attempt.aslot()`."""
        if _is_in_loop():
            raise PermanentError("attempt.slot() would hold all coroutines up: write await attempt.aslot()")
        super().slot()

    async def aslot(self) -> None:
        async with self._one_at_a_time:
            try:
                # Late, for the loop was held up: the slot is gone, and calls that were held up must not form a burst.
                while (until := await in_thread(self.take_slot)) is not None and clock.monotonic() > until:
                    pass
            except AttemptStopped as stop:
                await self._run.stopped(stop)


async def in_thread(function: Callable[[], T]) -> T:
    """Calls a function that waits for a slot, in this context and in a thread that no process waits for at its end."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def work() -> None:
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it is told, also of a stop
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(work,), name="slot", daemon=True).start()
    return await asyncio.wrap_future(done)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
