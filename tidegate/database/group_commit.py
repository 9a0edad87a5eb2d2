"""Group commit for SQLite: threads of one process that write at once share one transaction and one fsync.

The idea is that of group commit (DeWitt et al., "Implementation techniques for main memory database systems", 1984),
without a thread for it: who gets the lock works for all who wait for it.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
# The most writes in one transaction: other processes wait for the lock, too.
_MOST = 50


class GroupCommit:
    """Runs writes in shared transactions. `lock`: the process's reentrant writer lock, which a `transaction` takes."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[Connection]], lock: threading.RLock) -> None:
        self._transaction = transaction
        self._lock = lock
        self._waiting: deque[_Write[Any]] = deque()

    def run(self, write: Callable[[Connection], T]) -> T:
        """Runs `write` and returns its answer once that is committed; raises what it raised, and then nothing was done.

        `write` may be called again, in another transaction, when one that shared its transaction failed.
        """
        mine = _Write(write)
        self._waiting.append(mine)
        with self._lock:
            while not mine.is_over:
                self._run_waiting()
        return mine.outcome()

    def _run_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
        failing: _Write[Any] | None = None
        try:
            with self._transaction() as connection:
                for failing in taken:
                    failing.run(connection)
                failing = None
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs
            # A write that raised fails alone, the others run again; a failed BEGIN or COMMIT fails them all.
            for each in taken if failing is None else [failing]:
                each.fail(error)
        else:
            for each in taken:
                each.is_over = True
        finally:
            self._waiting.extendleft(each for each in reversed(taken) if not each.is_over)


class _Write(Generic[T]):
    """One thread's write, and its answer or error."""

    def __init__(self, write: Callable[[Connection], T]) -> None:
        self._write = write
        self._answer: T | None = None
        self._error: Exception | None = None
        self.is_over = False

    def run(self, connection: Connection) -> None:
        self._answer = self._write(connection)

    def fail(self, error: Exception) -> None:
        self._error, self.is_over = error, True

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value] # it ran
