"""Batching: threads of one process that ask the same statement at once share one execution of it.

Each round trip also costs a thread its turn at Python's interpreter lock, twice. A burst of requests spends more on
that than on its answers (docs/decisions has the figures); together they spend it once.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from tidegate.database.connection import UNREACHABLE

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class BatchedStatement(Generic[Ask, Answer]):
    """A statement that threads share.

    `run_all` runs it for several callers and returns their answers in order; `most` callers share one execution.
    """

    def __init__(self, run_all: Callable[[Sequence[Ask]], Sequence[Answer]], *, most: int) -> None:
        self._run_all = run_all
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Call[Ask, Answer]] = []
        self._is_running = False

    def run(self, ask: Ask) -> Answer:
        """Returns the answer of an execution that begins after this call; other threads' calls may be in it.

        Raises what the statement raised. One that failed for several is tried for each by itself, so that nobody has
        another's failure; but not when the database could not be reached: it may have done it, and is not better now.
        """
        mine = _Call[Ask, Answer](ask)
        with self._lock:
            self._waiting.append(mine)
            must_wait, self._is_running = self._is_running, True
        if must_wait:
            mine.called.acquire()
        if not mine.answers and mine.error is None:
            self._run_for_those_who_wait()
        return mine.outcome()

    def _run_for_those_who_wait(self) -> None:
        """Executes for every caller that waits; then wakes them, and the first of those who came meanwhile to go on."""
        with self._lock:
            together, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            self._run(together)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_running = bool(following)
            for call in (*following, *together):
                call.called.release()

    def _run(self, calls: Sequence["_Call[Ask, Answer]"]) -> None:
        try:
            for call, answer in zip(calls, self._run_all([call.ask for call in calls]), strict=True):
                call.answers.append(answer)
        except BaseException as error:  # noqa: BLE001 - it is raised in each of them
            if len(calls) > 1 and not isinstance(error, UNREACHABLE):
                for call in calls:
                    self._run([call])
            else:
                for call in calls:
                    call.error = error


class _Call(Generic[Ask, Answer]):
    """One thread's call. `called` is released when it has an answer, or when it must execute for all that wait."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.called = threading.Lock()
        self.called.acquire()
        self.answers: list[Answer] = []  # one; None may be one
        self.error: BaseException | None = None

    def outcome(self) -> Answer:
        if self.error is not None:
            raise self.error
        return self.answers[0]
