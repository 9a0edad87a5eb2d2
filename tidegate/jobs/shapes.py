"""The JSON shapes of a job's document, as TypedDicts: in HTTP answers and in webhooks."""

from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tidegate.jobs.job import Wait
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.sharing import PRIORITIES
from tidegate.states import State

exact = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))
"""No member but those that stand there; the text below a member describes it to clients."""

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, as `tidegate.timeformat` writes it."""
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Count = Annotated[int, Field(ge=0)]
PartitionName = Annotated[str, Field(min_length=1, max_length=64)]


@exact
class Progress(TypedDict):
    """The progress of a job."""

    percent: Annotated[int, Field(ge=0, le=100)]
    """Never goes down; 100 only when the job succeeded."""
    done: int | None
    total: int | None
    """None: unknown."""
    note: Annotated[str, Field(max_length=200)] | None


@exact
class Waiting(TypedDict):
    """Why a queued job waits, and an honest estimate of how long."""

    reason: Wait
    in_time: bool
    """False once the estimated finish lies behind the deadline: it will most likely expire."""
    position: Count | None
    """How many jobs go before it."""
    estimated_start: Instant | None
    estimated_finish: Instant | None


@exact
class JobError(TypedDict):
    """The error of a job that ended without a result."""

    code: ErrorCode
    message: str
    downstream_status: NotRequired[int]
    downstream_content_type: NotRequired[str]
    downstream_body: NotRequired[str]
    """Its first 4 KB."""


@exact
class JobLinks(TypedDict):
    """Absolute URLs of what can be done with the job."""

    self: Url
    result: Url
    events: Url
    """With a ticket in it where keys are needed: good for this one job and 5 minutes, for a browser's EventSource."""
    cancel: Url
    retry: Url


@exact
class Batch(TypedDict):
    """A job's part in a batch: one call of the downstream for several jobs."""

    id: Annotated[str, Field(json_schema_extra={"format": "uuid"})]
    """Of the call: what its downstream got as Idempotency-Key, and the id of the Celery task."""
    size: Annotated[int, Field(ge=1)]
    """How many jobs it has."""
    index: Count
    """Which of them this is, from 0."""


@exact
class Job(TypedDict):
    """A job: what it is, how far it is, how it ended."""

    id: JobId
    operation: str
    state: State
    progress: Progress
    attempt: Count
    """0 before the first, 1 during it."""
    max_attempts: Annotated[int, Field(ge=1)]
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    deadline: Instant
    """Without a result by then the job expires."""
    retry_of: JobId | None
    """The job that this one is a new try of."""
    client: str
    """The id of the client whose job it is."""
    partition: NotRequired[PartitionName | None]
    """Where its downstream has partitions: the name of that in which it waits; null: its client's unnamed one."""
    priority: NotRequired[Annotated[int, Field(ge=PRIORITIES.start, le=PRIORITIES[-1])]]
    """With `partition`: 0 goes first."""
    batch: NotRequired[Batch]
    """The call that it was made in with others, the last one; while it runs and from its end on."""
    waiting: Waiting | None
    """None unless it waits."""
    result: Any
    """What it brought, when that is JSON; else see `links.result`."""
    result_content_type: str | None
    result_problem: NotRequired[str]
    """Why `result` is null though its content type says JSON: it is no JSON, or too long for a webhook."""
    error: JobError | None
    links: JobLinks
