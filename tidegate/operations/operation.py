"""The interface of an operation, and what an attempt gives it (Body, Attempt, the members of a batch)."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from tidegate.errors import BodyTooLarge, UnsupportedBody
from tidegate.operations.batch import Batch
from tidegate.operations.oauth import FetchedTokens, Tokens
from tidegate.operations.outcome import BatchOutcome, Failed, Outcome
from tidegate.operations.retry import RetryPolicy

log = logging.getLogger(__name__)

JSON = "application/json"
MEGABYTE = 1024 * 1024
NOTE_LENGTH = 200
_LARGEST_COUNT = 2**63 - 1
CONTENT_TYPE_LENGTH = 200
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Body:
    """Bytes with their content type: an input that a caller sent, or a result.

    `headers`: those of the submit that its operation passes on.
    """

    content: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One job of a batch: its id, which attempt of it this is (1 is the first), and its input."""

    job_id: str
    number: int
    body: Body


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of an attempt. `total` None: unknown, and then there is no percent either."""

    done: int
    total: int | None = None
    note: str | None = None

    @property
    def percent(self) -> int:
        """Percent done, 0 to 99: only success makes it 100."""
        if not self.total or self.total < 0:
            return 0
        return max(0, min(99, 100 * self.done // self.total))


class Attempt:
    """The handle that an operation's function gets for its attempt: progress, slots, time left."""

    def __init__(
        self,
        *,
        job_id: str,
        number: int,
        report: Callable[[Progress], None],
        seconds_left: Callable[[], float],
        take_slot: Callable[[], float | None],
        begin: Callable[[], float] | None = None,
        sent: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
        headers: Mapping[str, str] | None = None,
        tokens: Tokens | None = None,
        poll_url: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.number = number
        self.tokens: Tokens = tokens or FetchedTokens(seconds_left)
        self.headers: Mapping[str, str] = headers or {}
        self.poll_url = poll_url  # set: the work was accepted, and is only asked for there
        self._report = report
        self._take_slot = take_slot
        self._seconds_left = seconds_left
        self._last = Progress(done=0)
        self._begin = begin or seconds_left
        self._sent = sent
        self._check = check

    @property
    def time_left(self) -> timedelta:
        """Time until this attempt must end: its timeout or the job's deadline, whichever is first. May be negative."""
        return timedelta(seconds=self._seconds_left())

    def begin(self) -> float:
        """Waits until the call may begin, and returns the seconds that are left then. Raises AttemptStopped.

        Called by the operation: right before its function runs or, with a connection open, before the first byte.
        Called again, it waits for another slot if the attempt's was missed since.
        """
        return self._begin()

    def sent(self) -> None:
        """Called by an operation right after the first byte of its call has gone out."""
        if self._sent:
            self._sent()

    def check(self) -> None:
        """Raises AttemptStopped when the attempt no longer counts or its time is over. Reads the database each time."""
        if self._check:
            self._check()

    def progress(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """Reports progress. Call it as often as you like: it is written a few times a second.

        A report that can't be read is logged and fails nothing: the last good one stands. Raises AttemptStopped (let it
        through) when the attempt no longer counts.
        """
        try:
            self._last = Progress(
                done=_countable(done),
                total=None if total is None else _countable(total),
                note=None if note is None else _storable(note),
            )
        except Exception as error:  # noqa: BLE001 - the caller's own types convert as they like
            log.warning("job %s: a report of progress can't be read: %s", self.job_id, type(error).__name__)
        self._report(self._last)

    def slot(self) -> None:
        """Waits until one call to the downstream is allowed. For operations with `paced="calls"`.

        Raises AttemptStopped (let it through) when the attempt no longer counts.
        """
        self.take_slot()

    async def aslot(self) -> None:
        """As `slot()`, for `async def`: others go on meanwhile. A stop comes as CancelledError."""
        await asyncio.to_thread(self.take_slot)

    def take_slot(self) -> float | None:
        """As `slot()`; returns until when the call may begin, by the monotonic clock. None: whenever it likes."""
        return self._take_slot()

    def track(self, items: Iterable[Item], note: str | None = None, total: int | None = None) -> Iterator[Item]:
        """Yields the items and reports after each how many are done."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        for done, item in enumerate(items):
            self.progress(done, total, note)
            yield item
        if total is not None:
            self.progress(total, total, note)


class Operation(Protocol):
    """The interface of an operation, a kind of job: `PythonOperation` and `HttpOperation` implement it."""

    @property
    def name(self) -> str: ...
    @property
    def downstream(self) -> str: ...
    @property
    def queue(self) -> str:
        """The queue whose workers run it."""
        ...

    @property
    def description(self) -> str: ...
    @property
    def timeout(self) -> timedelta:
        """Time from the submit to the job's deadline."""
        ...

    @property
    def attempt_timeout(self) -> timedelta:
        """Time for one attempt, in total."""
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
        """The content types that an input may have; none named: any."""
        ...

    @property
    def pass_headers(self) -> tuple[str, ...]:
        """The headers of a submit that go along to the downstream."""
        ...

    @property
    def batch(self) -> Batch | None:
        """How many jobs one call may do; None: one."""
        ...

    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the input; None when any input is taken."""
        ...

    def check(self, body: Body) -> None:
        """Validates an input at the submit; raises a Refusal."""
        ...

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Runs one attempt: begins it (`attempt.begin()`), and ends it. What it raises is a failed attempt."""
        ...

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
        """Makes one call for several jobs: an outcome for each, in the order of `members()`, or one for the whole.

        `members` is called once, as late as can be: it makes the last check, leaves out who was cancelled or has
        expired, and raises AttemptStopped where nobody is left. `attempt` is the batch's: `job_id` is the batch's id,
        and its progress goes to every member. Failed means that the content was judged: halves are tried. The quotas
        of an answer stand on each outcome. Only of operations that have a `batch`.
        """
        ...


def check_size(operation: Operation, body: Body) -> None:
    """Raises BodyTooLarge where the operation takes no input of this size."""
    if len(body.content) > operation.max_body:
        raise BodyTooLarge(f"{operation.name} takes at most {operation.max_body} bytes, not {len(body.content)}")


def check_content_type(operation: Operation, body: Body) -> None:
    """Raises UnsupportedBody where the operation does not take this type of input."""
    media_type = body.content_type.partition(";")[0].strip().lower()
    if operation.content_types and media_type not in operation.content_types:
        raise UnsupportedBody(
            f"{operation.name} takes {' or '.join(operation.content_types)}, not {media_type or 'an unnamed type'}"
        )


def _countable(value: float) -> int:
    """A count as its column can hold it: whole, not negative, at most 2**63 - 1."""
    return max(0, min(int(value), _LARGEST_COUNT))


def _storable(note: str) -> str:
    """Cuts a note to its column's length and replaces what a database refuses: surrogates and NUL."""
    return str(note)[:NOTE_LENGTH].replace("\0", "").encode("utf-8", "replace").decode()
