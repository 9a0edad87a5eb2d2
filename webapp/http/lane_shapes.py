"""The JSON shapes of operations and downstreams in the API's answers, as TypedDicts; see `shapes`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from webapp.http.shapes import Count, Instant, Url, exact

Seconds = Annotated[float, Field(ge=0)]


@exact
class RetryPolicy(TypedDict):
    """How often and with which delays an attempt is made again. Durations are seconds."""

    attempts: Annotated[int, Field(ge=1)]
    delay: Seconds
    max_delay: Seconds
    on: list[int]
    """Statuses of the downstream that are worth another attempt."""


@exact
class OperationLimits(TypedDict):
    """The limits of an operation's downstream."""

    name: str
    rate: list[str]
    """Empty: as fast as workers are."""
    burst: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] | None


@exact
class OperationBatch(TypedDict):
    """How one call takes several jobs. Durations are seconds."""

    max: Annotated[int, Field(ge=2)]
    """The most jobs in one call."""
    linger: Seconds
    """How long a job waits for company where no rate paces the calls."""
    max_bytes: Annotated[int, Field(ge=1)]
    """The most bytes of all inputs in one call together."""


@exact
class OperationLinks(TypedDict):
    """Absolute URLs of an operation."""

    submit: Url


@exact
class Operation(TypedDict):
    """A kind of job: what it takes, its limits, how busy it is. Durations are seconds."""

    name: str
    description: str
    input_schema: Mapping[str, Any] | None
    """JSON Schema of the body; null: any bytes."""
    max_body: Annotated[int, Field(ge=1)]
    timeout: Seconds
    attempt_timeout: Seconds
    retry: RetryPolicy
    batch: OperationBatch | None
    """null: each call is for one job."""
    downstream: OperationLimits
    backlog: Count
    """Jobs that wait for the downstream."""
    released_per_second: float | None
    """Jobs; null: none wait, or it can't be told."""
    expected_wait: Seconds | None
    """How long a job that is submitted now would wait for its start; null: that can't be told."""
    links: OperationLinks


@exact
class OperationList(TypedDict):
    """Every operation."""

    operations: list[Operation]


@exact
class DeclaredLimits(TypedDict):
    """A downstream's limits as the operations file declares them."""

    rate: list[str]
    burst: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] | None
    breaker: Count
    jitter: Seconds


@exact
class DownstreamWarning(TypedDict):
    """What an operator should look at."""

    code: Literal["limit_too_high", "jitter_too_small"]
    message: str
    """Such as: refused 9 of 49 calls in the last minute: the limit is lower than declared."""


@exact
class AnnouncedQuota(TypedDict):
    """What a downstream announces as left of one of its quotas, such as in `RateLimit`."""

    name: str
    """As the downstream calls it; empty: it does not."""
    left: Count
    """How many more calls may be released, by its last word and what was released since."""
    resets_at: Instant


@exact
class DownstreamLinks(TypedDict):
    """Absolute URLs of a downstream."""

    self: Url


@exact
class Downstream(TypedDict):
    """A downstream: its limits, its state, its queue and how fast that is released."""

    name: str
    rate: list[str]
    burst: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] | None
    breaker: Count
    """Failures in a row that open the breaker; 0: there is none."""
    jitter: Seconds
    """By how much the time that a call takes to reach it varies."""
    paused: bool
    resting_until: Instant | None
    """Gets nothing until then, because of its own answers."""
    resting_because: Literal["failures", "refusals", "quota"] | None
    """Its calls failed in a row; it said that it is full; or it announced that its quota is used up."""
    announced: list[AnnouncedQuota]
    """What it announces as left of its quotas, in windows that have not ended."""
    breaker_open: bool
    failures_in_a_row: Count
    declared: DeclaredLimits
    changed: list[str]
    """Which limits were changed since."""
    backlog: Count
    in_flight: Count
    released_per_second: float
    """Jobs, while some wait."""
    released: Count
    """Jobs, ever, but for those that came back in halves."""
    jobs_per_call: Annotated[float, Field(gt=0)]
    """How many jobs one call takes from those that wait, as measured or declared; 1: its operations take one."""
    warnings: list[DownstreamWarning]
    """Empty: nothing looks wrong."""
    links: DownstreamLinks


@exact
class DownstreamList(TypedDict):
    """Every downstream."""

    downstreams: list[Downstream]


@exact
class QueueScale(TypedDict):
    """The workers of a queue: how many there are, and how many could be used now."""

    workers: Count
    """Workers that live."""
    places: Count
    """How many attempts they run side by side, all together."""
    wanted: Count
    """How many workers could be used now, or could within the last minute; of an idle queue 0."""
    because: str
    """Why so many, in words for people."""


@exact
class Scale(TypedDict):
    """How many workers each queue has and wants."""

    queues: Mapping[str, QueueScale]
    """By name, such as `io`; `webhooks` are those that send webhooks."""
