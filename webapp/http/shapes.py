"""The JSON shapes of the API's answers, as TypedDicts: mypy checks the code with them, /openapi.json is made of them.

A job's own document is in `tidegate.jobs.shapes`, for webhooks carry it too.
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
    """An error, as a problem document (RFC 9457)."""

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
    """A job that ended without a result: its document and a problem document in one."""

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
class BulkAnswer(TypedDict):
    """The answer about one job of a bulk submit: `job` and `location`, or `problem`."""

    status: int
    location: Url | None
    job: Job | None
    problem: Problem | None
    retry_after: Annotated[int, Field(ge=1)] | None
    """As the header of a single answer: whole seconds until it is worth asking again; null: nothing more comes."""


@exact
class BulkAnswers(TypedDict):
    """One answer for each job of a bulk submit, in its order."""

    jobs: list[BulkAnswer]


class MassActionCounts(TypedDict):
    """Members that the answers to a mass cancel and a mass retry have in common."""

    dry_run: bool
    matched: Count
    refusals: Mapping[str, Count]
    next: JobId | None


@exact
class CancelCounts(MassActionCounts):
    """Counts of a mass cancel, by what became of the selected jobs.

    Of a dry run `matched` says how many there are, 100,000 at the most; `refusals` are counted by the end of their
    problem's type.
    """

    cancelled: Count
    asked_to_stop: Count
    already_final: Count


@exact
class RetryCounts(MassActionCounts):
    """Counts of a mass retry, by what became of the selected jobs.

    Of a dry run `matched` says how many there are, 100,000 at the most; `refusals` are counted by the end of their
    problem's type.
    """

    retried: Count
    refused: Count


@exact
class Health(TypedDict):
    """The answer of a process that lives."""

    status: Literal["live"]


@exact
class Readiness(TypedDict):
    """The answer of a process that accepts jobs (else it is a 503), and whether they are dispatched."""

    status: Literal["ready", "accepting, not dispatching"]
    database: Literal["ok"]
    broker: Literal["ok", "away", "not asked"]
    workers: Mapping[str, Count]
    """Attempts that live workers run side by side, by queue."""
