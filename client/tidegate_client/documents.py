"""What the gateway says of operations, downstreams and webhooks: its JSON documents, with a type for each member.

Instants are RFC 3339, durations are seconds. A newer gateway may add members.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

EventName = Literal["job.succeeded", "job.failed", "job.expired", "job.cancelled"]


class RetryPolicy(TypedDict):
    """How often and with which delays an attempt is made again; `on`: the statuses that are worth another one."""

    attempts: int
    delay: float
    max_delay: float
    on: list[int]


class Limits(TypedDict):
    """What a downstream may get. No `rate`: as fast as workers are; `concurrency` None: any number at once."""

    name: str
    rate: list[str]
    burst: int
    concurrency: int | None


class OperationBatch(TypedDict):
    """How one call takes several jobs: `max` of them, whose inputs have `max_bytes` together."""

    max: int
    linger: float
    max_bytes: int


class Operation(TypedDict):
    """A kind of job. `input_schema` None: any bytes. `expected_wait` of a job submitted now; None: can't be told."""

    name: str
    description: str
    input_schema: Mapping[str, Any] | None
    max_body: int
    timeout: float
    attempt_timeout: float
    retry: RetryPolicy
    batch: OperationBatch | None
    downstream: Limits
    backlog: int
    released_per_second: float | None
    expected_wait: float | None
    links: Mapping[str, str]


class DeclaredLimits(TypedDict):
    """A downstream's limits as the operations file declares them."""

    rate: list[str]
    burst: int
    concurrency: int | None
    breaker: int
    jitter: float


class AnnouncedQuota(TypedDict):
    """What a downstream announces as left of one of its quotas."""

    name: str
    left: int
    resets_at: str


class DownstreamWarning(TypedDict):
    """What an operator should look at."""

    code: str
    message: str


class Downstream(TypedDict):
    """A downstream: its limits, its state, its queue. `changed`: the limits that differ from `declared`, by name.

    `released`: jobs, ever; `jobs_per_call`: while enough of them wait, 1 where none go together.
    """

    name: str
    rate: list[str]
    burst: int
    concurrency: int | None
    breaker: int
    jitter: float
    paused: bool
    resting_until: str | None
    resting_because: str | None
    announced: list[AnnouncedQuota]
    breaker_open: bool
    failures_in_a_row: int
    declared: DeclaredLimits
    changed: list[str]
    backlog: int
    in_flight: int
    released_per_second: float
    released: int
    jobs_per_call: float
    warnings: list[DownstreamWarning]
    links: Mapping[str, str]


class CalendarRate(TypedDict):
    """A rate whose windows begin by the clock of a time zone, such as Europe/Berlin."""

    rate: str
    window: Literal["calendar"]
    zone: str


class Changes(TypedDict, total=False):
    """New limits of a downstream; None takes an earlier change back to what the operations file says."""

    rate: str | CalendarRate | Sequence[str | CalendarRate] | None
    burst: int | None
    concurrency: int | Literal["unlimited"] | None
    breaker: int | None
    paused: bool | None


class DeclaredPartition(TypedDict):
    """A partition's weight and limits as the operations file declares them."""

    weight: float
    rate: list[str]
    burst: int
    concurrency: int | None


class Partition(TypedDict):
    """A partition of a downstream: its weight, its limits beneath the downstream's, what waits in it.

    `client` None: all clients share it; `name` None: its client's unnamed one, whose `weight` is the client's. `share`:
    of the downstream's calls, by the weights; None: it does not wait, is paused or rests. `resting_until`: an instant
    until which the downstream wants no calls of it, and because of what.
    """

    client: str | None
    name: str | None
    weight: float
    rate: list[str]
    burst: int
    concurrency: int | None
    order: Literal["fair", "strict"]
    paused: bool
    resting_until: str | None
    resting_because: Literal["refusals", "quota"] | None
    declared: DeclaredPartition
    changed: list[str]
    waiting: int
    in_flight: int
    share: float | None
    links: Mapping[str, str]


class PartitionChanges(TypedDict, total=False):
    """A new weight, or new limits, of a partition; None takes an earlier change back."""

    weight: float | None
    rate: str | CalendarRate | Sequence[str | CalendarRate] | None
    burst: int | None
    concurrency: int | Literal["unlimited"] | None
    paused: bool | None


class DeliveryAttempt(TypedDict):
    """One attempt to send a webhook. `seconds` None: it goes on; `status` None: there was no answer."""

    number: int
    started_at: str
    seconds: float | None
    status: int | None
    error: str | None


class Delivery(TypedDict):
    """The sending of a job's end to its webhook, under the job's id. `created_at`: when the job ended."""

    id: str
    url: str
    state: Literal["waiting", "pending", "delivered", "failed"]
    event: EventName | None
    created_at: str | None
    next_attempt_at: str | None
    ended_at: str | None
    attempts: list[DeliveryAttempt]
    links: Mapping[str, str]


class WebhookSecret(TypedDict):
    """A secret that webhooks are signed with, without its text. `signs_until` None: until it is rotated."""

    id: str
    client_id: str
    created_at: str
    signs_until: str | None


class NewWebhookSecret(WebhookSecret):
    """One with its text, `whsec_…`, which is shown this once."""

    secret: str


class QueueScale(TypedDict):
    """The workers of a queue: those that live, the attempts that they run side by side, and how many could be used now.

    `because`: why so many, in words.
    """

    workers: int
    places: int
    wanted: int
    because: str


def _with(*members: str) -> Callable[[Any], Any]:
    """Makes a reader of documents; it raises LookupError for one without these members, as another server's is."""

    def read(document: Any) -> Any:
        for member in members:
            document[member]
        return document

    return read


def _scale(document: Any) -> dict[str, QueueScale]:
    return {queue: _QUEUE_SCALE(each) for queue, each in document["queues"].items()}


OPERATION: Callable[[Any], Operation] = _with("name", "downstream", "timeout", "backlog")
DOWNSTREAM: Callable[[Any], Downstream] = _with(
    *("name", "rate", "concurrency", "paused", "breaker_open", "resting_until"),
    *("backlog", "in_flight", "released", "changed"),
)
PARTITION: Callable[[Any], Partition] = _with(
    *("client", "name", "weight", "rate", "concurrency", "paused", "changed"), *("waiting", "in_flight", "share")
)
DELIVERY: Callable[[Any], Delivery] = _with("id", "url", "state", "event", "created_at", "attempts")
WEBHOOK_SECRET: Callable[[Any], WebhookSecret] = _with("id", "client_id", "created_at", "signs_until")
NEW_WEBHOOK_SECRET: Callable[[Any], NewWebhookSecret] = _with("id", "secret")
_QUEUE_SCALE: Callable[[Any], QueueScale] = _with("workers", "places", "wanted", "because")
SCALE: Callable[[Any], dict[str, QueueScale]] = _scale


def SENT_AGAIN(document: Any) -> int:  # noqa: N802 - it stands among the readers above
    """How many deliveries are sent again."""
    return int(document["sent_again"])
