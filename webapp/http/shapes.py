"""What the API answers with, as types: mypy holds the code to them, and /openapi.json is made of them.

A job's own document is in `tidegate.job_shapes`, for webhooks carry it too.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from tidegate.jobs.shapes import Count, Instant, Job, JobId, Url, exact

__all__ = ["Count", "Instant", "Job", "JobId", "Url", "exact"]

Path = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]


@exact
class Fault(TypedDict):
    """One thing that is wrong with an input, or a header."""

    pointer: NotRequired[str]
    """JSON pointer (RFC 6901) to it."""
    header: NotRequired[str]
    """The header that it is."""
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
    """With `invalid-input` and `invalid-webhook`: every fault."""
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
    """A page of jobs, newest first, without their results. It may be short, or empty, and still have a next one."""

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
    retry_after: Annotated[int, Field(ge=1)] | None
    """As the header of a single answer: whole seconds until it is worth asking again; null: nothing more comes."""


@exact
class BatchAnswers(TypedDict):
    """One answer for each job of the batch, in its order."""

    jobs: list[BatchAnswer]


class BulkCounts(TypedDict):
    """What cancel and retry of many jobs both answer."""

    dry_run: bool
    matched: Count
    refusals: Mapping[str, Count]
    next: JobId | None


@exact
class CancelCounts(BulkCounts):
    """What became of the jobs that were selected. Of a dry run `matched` says how many there are, 100,000 at the most;
    `refusals` are counted by the end of their problem's type."""

    cancelled: Count
    asked_to_stop: Count
    already_final: Count


@exact
class RetryCounts(BulkCounts):
    """What became of the jobs that were selected. Of a dry run `matched` says how many there are, 100,000 at the most;
    `refusals` are counted by the end of their problem's type."""

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
