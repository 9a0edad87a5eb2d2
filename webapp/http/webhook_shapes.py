"""The JSON shapes of deliveries, webhook secrets, and the webhook itself, as TypedDicts; see `shapes`."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from tidegate.webhooks.delivery import DeliveryState
from webapp.http.shapes import Count, Instant, Job, JobId, Url, exact

EventName = Literal["job.succeeded", "job.failed", "job.expired", "job.cancelled"]
"""An event that a request may name."""
Event = Annotated[str, Field(pattern="^job\\.(succeeded|failed|expired|cancelled)$")]


@exact
class DeliveryAttempt(TypedDict):
    """One attempt to send a webhook."""

    number: Annotated[int, Field(ge=1)]
    started_at: Instant
    seconds: Annotated[float, Field(ge=0)] | None
    """None: it goes on, or nobody knows how it ended."""
    status: int | None
    """What the receiver answered; none: there was no answer."""
    error: str | None


@exact
class DeliveryLinks(TypedDict):
    """Absolute URLs of a delivery."""

    self: Url
    job: Url
    send: Url


@exact
class Delivery(TypedDict):
    """The sending of a job's end to its webhook. It has the job's id, and so has `webhook-id`."""

    id: JobId
    url: str
    state: DeliveryState
    """`waiting` for the job's end, `pending`: being sent or to be sent again, `delivered`, or `failed`."""
    event: Event | None
    created_at: Instant | None
    """When the job ended."""
    next_attempt_at: Instant | None
    ended_at: Instant | None
    attempts: list[DeliveryAttempt]
    links: DeliveryLinks


@exact
class DeliveryList(TypedDict):
    """A page of deliveries, newest job first."""

    deliveries: list[Delivery]
    next: Url | None
    """None: this is the last page."""


@exact
class SendCounts(TypedDict):
    """Counts of sending many deliveries again."""

    sent_again: Count


@exact
class WebhookSecret(TypedDict):
    """A secret that webhooks are signed with, without its text."""

    id: JobId
    client_id: str
    created_at: Instant
    signs_until: Instant | None
    """None: until it is rotated."""


@exact
class NewWebhookSecret(WebhookSecret):
    """A new secret with its text, which is shown this once."""

    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]{43}=$")]


@exact
class WebhookSecretList(TypedDict):
    """The secrets that sign now, newest first."""

    secrets: list[WebhookSecret]


@exact
class WebhookEvent(TypedDict):
    """The body of a webhook: the payload of Standard Webhooks."""

    type: Event
    timestamp: Instant
    """When the job ended."""
    data: Job
    """The job as `GET` shows it; a result of more than 256 KiB is left out, `links.result` has it."""
