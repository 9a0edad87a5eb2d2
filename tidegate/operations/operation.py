"""What a job does: operations, what they are given, and the table of all of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from tidegate.errors import ConfigurationError, UnknownOperation
from tidegate.operations.outcome import Outcome
from tidegate.operations.retry import RetryPolicy

MEGABYTE = 1024 * 1024
NOTE_LENGTH = 200
CONTENT_TYPE_LENGTH = 200
Item = TypeVar("Item")


class Queue(StrEnum):
    """Which kind of worker runs an operation."""

    IO = "io"
    """Threads: for operations that wait for the network."""
    CPU = "cpu"
    """Processes with hard time limits: for operations that compute."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """Bytes with their content type, as a caller sent or an operation returned them."""

    content: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an attempt is. `total` None: unknown, and then there is no percent either."""

    done: int
    total: int | None = None
    note: str | None = None

    @property
    def percent(self) -> int:
        """0 to 99: only an outcome makes it 100."""
        if not self.total or self.total < 0:
            return 0
        return max(0, min(99, 100 * self.done // self.total))


class Attempt:
    """What an operation knows of the try that it is, and how it tells its progress."""

    def __init__(
        self,
        *,
        job_id: str,
        number: int,
        report: Callable[[Progress], None],
        seconds_left: Callable[[], float],
        take_slot: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.job_id = job_id
        self.number = number
        self.headers: Mapping[str, str] = headers or {}
        self._report = report
        self._take_slot = take_slot
        self._seconds_left = seconds_left

    @property
    def time_left(self) -> timedelta:
        """Until this attempt's end: its own timeout or the job's deadline, whichever is first. May be negative."""
        return timedelta(seconds=self._seconds_left())

    def progress(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """Tells how far it is. Call it as often as you like: it writes a few times a second.

        Raises AttemptStopped (let it through) when the attempt no longer counts.
        """
        self._report(
            Progress(
                done=int(done),
                total=None if total is None else int(total),
                note=None if note is None else _storable(note),
            )
        )

    def slot(self) -> None:
        """Waits for the permission for one call to the downstream. For operations with `paced="calls"`.

        Raises AttemptStopped (let it through) when the attempt no longer counts.
        """
        self._take_slot()

    def track(self, items: Iterable[Item], note: str | None = None, total: int | None = None) -> Iterator[Item]:
        """Yields the items and tells after each how many are done."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        for done, item in enumerate(items):
            self.progress(done, total, note)
            yield item
        if total is not None:
            self.progress(total, total, note)


class Operation(Protocol):
    """One kind of job. `PythonOperation` and `HttpOperation` are the two there are."""

    @property
    def name(self) -> str: ...
    @property
    def downstream(self) -> str: ...
    @property
    def queue(self) -> Queue: ...
    @property
    def description(self) -> str: ...
    @property
    def timeout(self) -> timedelta:
        """From created_at to the deadline."""
        ...

    @property
    def attempt_timeout(self) -> timedelta:
        """One attempt, in total."""
        ...

    @property
    def retry(self) -> RetryPolicy: ...
    @property
    def admission(self) -> bool:
        """Whether a job that can't make its deadline is refused."""
        ...

    @property
    def paced_by_calls(self) -> bool:
        """Whether each call takes a slot (`attempt.slot()`), and not each attempt."""
        ...

    @property
    def max_body(self) -> int:
        """Largest input, in bytes."""
        ...

    @property
    def content_types(self) -> tuple[str, ...]:
        """What an input may be; none named: anything."""
        ...

    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the input; None when anything goes."""
        ...

    def check(self, body: Body) -> None:
        """Raises a Refusal when this input can't be taken."""
        ...

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """One attempt. What it raises is a failed attempt."""
        ...


def _storable(note: str) -> str:
    """The note, cut to what its column holds, without what a database refuses: surrogates and NUL."""
    return str(note)[:NOTE_LENGTH].replace("\0", "").encode("utf-8", "replace").decode()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one downstream can take, as its file declares it. No rates: as fast as workers are.

    `breaker_after`: failures in a row that open its breaker; 0: it has none.
    """

    name: str
    rates: tuple[str, ...] = ()
    burst: int = 1
    concurrency: int | None = None
    breaker_after: int = 10


@dataclass(frozen=True)
class Registry:
    """Every operation and downstream that this process knows."""

    operations: Mapping[str, Operation]
    downstreams: Mapping[str, Limits] = field(default_factory=dict)

    @classmethod
    def of(cls, operations: Iterable[Operation], downstreams: Iterable[Limits] = ()) -> "Registry":
        """Builds the table; raises ConfigurationError for a name that stands twice.

        A downstream that is named by an operation and declared nowhere has no limits.
        """
        by_name: dict[str, Operation] = {}
        for operation in operations:
            if operation.name in by_name:
                raise ConfigurationError(f"two operations are named {operation.name!r}; rename one")
            by_name[operation.name] = operation
        limits = {declared.name: declared for declared in downstreams}
        for operation in by_name.values():
            limits.setdefault(operation.downstream, Limits(name=operation.downstream))
        return cls(by_name, limits)

    def operation(self, name: str) -> Operation:
        """The operation of this name; raises UnknownOperation."""
        try:
            return self.operations[name]
        except KeyError:
            raise UnknownOperation(f"there is no operation {name!r}; GET /v1/operations lists them") from None
