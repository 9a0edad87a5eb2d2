"""What the API answers with, as types: mypy holds the code to them, and /openapi.json is made of them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tidegate.job import Wait
from tidegate.outcomes import ErrorCode
from tidegate.states import State

exact = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))
"""No member but those that stand there; the text below a member describes it to clients."""

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, as `instants.instant` writes it."""
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Path = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Count = Annotated[int, Field(ge=0)]


@exact
class Progress(TypedDict):
    """How far a job is."""

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
    position: Count | None
    """How many jobs go before it."""
    estimated_start: Instant | None
    estimated_finish: Instant | None


@exact
class JobError(TypedDict):
    """How a job ended that did not succeed."""

    code: ErrorCode
    message: str
    downstream_status: NotRequired[int]
    downstream_content_type: NotRequired[str]
    downstream_body: NotRequired[str]
    """Its first 4 KB."""


@exact
class JobLinks(TypedDict):
    """Absolute URLs."""

    self: Url
    result: Url
    cancel: Url
    retry: Url


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
    waiting: Waiting | None
    """None unless it waits."""
    result: Any
    """What it brought, when that is JSON; else see `links.result`."""
    result_content_type: str | None
    error: JobError | None
    links: JobLinks


@exact
class Fault(TypedDict):
    """One thing that is wrong with an input."""

    pointer: str
    """JSON pointer (RFC 6901) to it."""
    detail: str


@exact
class Problem(TypedDict):
    """An error, as RFC 9457 writes it."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Path
    """The path that was asked for."""
    errors: NotRequired[list[Fault]]
    """With `invalid-input`: every fault."""
    earliest_finish: NotRequired[Instant]
    """With `cannot-finish-in-time`."""


@exact
class JobProblem(Job):
    """A job that ended without a result: its document, told as a problem."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Path


@exact
class JobList(TypedDict):
    """A page of jobs, newest first, without their results."""

    jobs: list[Job]
    next: Url | None
    """None: this is the last page."""


@exact
class BatchAnswer(TypedDict):
    """What became of one job of a batch: `job` and `location`, or `problem`."""

    status: int
    location: Url | None
    job: Job | None
    problem: Problem | None


@exact
class BatchAnswers(TypedDict):
    """One answer for each job of the batch, in its order."""

    jobs: list[BatchAnswer]


@exact
class CancelCounts(TypedDict):
    """What became of the jobs that were selected."""

    matched: Count
    cancelled: Count
    asked_to_stop: Count
    already_final: Count


@exact
class RetryCounts(TypedDict):
    """What became of the jobs that were selected."""

    matched: Count
    retried: Count
    refused: Count


@exact
class Health(TypedDict):
    """The process answers."""

    status: Literal["live"]


@exact
class Readiness(TypedDict):
    """Whether jobs are accepted (they are, or this would be a 503) and dispatched."""

    status: Literal["ready", "accepting, not dispatching"]
    database: Literal["ok"]
    broker: Literal["ok", "away", "not asked"]
    workers: Mapping[str, Count]
    """Attempts that live workers run side by side, by queue."""
