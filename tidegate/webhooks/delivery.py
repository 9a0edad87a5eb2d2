"""Values of a delivery, the sending of one job's end to its webhook: its state, attempts, claim and their outcomes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

GIVE_UP_AFTER = timedelta(days=1)
PROMPT_SECONDS = 3.0
OUTCOMES = ("delivered", "not_taken", "no_answer", "not_sent")
"""Outcomes of one attempt: labels of a metric."""


class DeliveryState(StrEnum):
    """The state of a delivery. WAITING: its job has not ended. PENDING: to be sent, or sent again."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """The URL that a job's end is sent to. `base_url`: of the links in the document that is sent."""

    url: str
    base_url: str


@dataclass(frozen=True, kw_only=True)
class DeliveryAttempt:
    """One attempt to send. `seconds` None: it goes on, or nobody knows how it ended. `status` None: no answer."""

    number: int
    started_at: datetime
    seconds: float | None
    status: int | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A snapshot of a delivery's row. Its id is its job's: a job ends once and is told once."""

    job_id: str
    client_id: str
    url: str
    base_url: str
    state: DeliveryState
    event: str | None
    created_at: datetime | None
    run_at: datetime | None
    ended_at: datetime | None
    is_sending: bool
    attempts: tuple[DeliveryAttempt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """A filter of deliveries; None: any. `before_id`: of jobs submitted before this one."""

    client_id: str | None = None
    state: DeliveryState | None = None
    event: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class ReleasedDelivery:
    """A released delivery: what a Celery message is made of."""

    job_id: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """One worker's claim on a delivery; every write of the worker carries `fence`.

    `number`: of the attempt, ever; `tries`: since it began, this one included. `left`: until it is given up.
    `receiver_failures`: of its receiver, in a row; None: it never answered.
    """

    job_id: str
    fence: int
    client_id: str
    url: str
    base_url: str
    receiver: str
    event: str
    created_at: datetime
    number: int
    tries: int
    left: timedelta
    receiver_failures: int | None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The outcome of one attempt to send. `status` None: no answer, and `error` says why.

    `retry_after`: what the receiver asked for. `was_sent` False: it did not come to that, and says nothing about the
    receiver.
    """

    seconds: float
    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None
    was_sent: bool = True

    @property
    def outcome(self) -> str:
        """The outcome as a metric's label: one of OUTCOMES."""
        if not self.was_sent:
            return "not_sent"
        if self.status is None:
            return "no_answer"
        return "delivered" if self.is_delivered else "not_taken"

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_unwanted(self) -> bool:
        """Whether the receiver answered 410: it wants no more of this (Standard Webhooks)."""
        return self.status == 410

    @property
    def is_prompt(self) -> bool:
        """Whether the receiver answered, with any status, and soon."""
        return self.status is not None and self.seconds <= PROMPT_SECONDS


def receiver_of(client_id: str, host: str) -> str:
    """The key by which deliveries share places: client and host.

    One client's trouble with a host does not slow another's.
    """
    return f"{client_id} {host}"
