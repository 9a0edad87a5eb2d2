"""Which operations live workers run: a job of another one is not released, for it would only come back."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tidegate import clock
from tidegate.dispatch.lane import WaitingJob

_FRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Known:
    """The operations that the live workers of one queue run, together, and `places`: how many attempts side by side.

    `is_all`: each of them has said which. Else, and without a worker, what is declared counts as known, too.
    """

    places: int = 0
    operations: frozenset[str] = frozenset()
    is_all: bool = False

    def has(self, operation: str, declared: Collection[str]) -> bool:
        """Whether a worker runs it, as far as can be told; `declared`: the operations that this process knows."""
        return operation in self.operations or (not self.is_all and operation in declared)


NOBODY = Known()
"""Of a queue without a worker."""


class Workers(Protocol):
    """The interface of what reads the rows of workers."""

    def operations(self) -> Mapping[str, Known]: ...


class KnownOperations:
    """What the scheduler knows of the operations: read anew once a second while jobs wait."""

    def __init__(self, workers: Workers, declared: Collection[str]) -> None:
        self._workers = workers
        self._declared = declared
        self._by_queue: Mapping[str, Known] = {}
        self._read_at = float("-inf")

    def unknown_among(self, waiting: Iterable[WaitingJob]) -> dict[str, str]:
        """The operations of these jobs that no worker of their queue runs, each with that queue."""
        wanted = {(job.queue, job.operation) for job in waiting}
        return {operation: queue for queue, operation in sorted(wanted) if not self.has(queue, operation)}

    def has(self, queue: str, operation: str) -> bool:
        """Whether a worker of this queue runs the operation."""
        if clock.monotonic() - self._read_at > _FRESH_SECONDS:
            self._by_queue, self._read_at = self._workers.operations(), clock.monotonic()
        return self._by_queue.get(queue, NOBODY).has(operation, self._declared)
