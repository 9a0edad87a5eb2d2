"""A delivery, the sending of one job's end to its webhook: what it is, and what can become of an attempt."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

QUEUE = "webhooks"
"""The queue of the workers that send; no operation runs there."""
GIVE_UP_AFTER = timedelta(days=1)
PROMPT_SECONDS = 3.0
OUTCOMES = ("delivered", "not_taken", "no_answer", "not_sent")
"""Of one attempt, in a word."""


class DeliveryState(StrEnum):
    """Where a delivery is. WAITING: its job has not ended. PENDING: to be sent, or sent again."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where a job's end is to be told. `base_url`: of the links in its document."""

    url: str
    base_url: str


@dataclass(frozen=True, kw_only=True)
class DeliveryAttempt:
    """One try. `seconds` None: it goes on, or nobody knows how it ended. `status` None: there was no answer."""

    number: int
    started_at: datetime
    seconds: float | None
    status: int | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery as its row says it is. It has its job's id: a job ends once and is told once."""

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
class ReleasedDelivery:
    """What a Celery message is made of."""

    job_id: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """A delivery in the hands of one worker; every write of the worker carries `fence`.

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
    """How an attempt went. `status` None: no answer, and `error` says why. `retry_after`: what the receiver asked for.
    `was_sent` False: it did not come to that, and says nothing about the receiver."""

    seconds: float
    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None
    was_sent: bool = True

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        if not self.was_sent:
            return "not_sent"
        if self.status is None:
            return "no_answer"
        return "delivered" if self.is_delivered else "not_taken"

    @property
    def is_delivered(self) -> bool:
        """Any 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_unwanted(self) -> bool:
        """410: the receiver wants no more of this (Standard Webhooks)."""
        return self.status == 410

    @property
    def is_prompt(self) -> bool:
        """Whether the receiver answered, whatever it said, and soon."""
        return self.status is not None and self.seconds <= PROMPT_SECONDS


def receiver_of(client_id: str, host: str) -> str:
    """What places are counted by. Of one client: another's trouble with the same host is not its own."""
    return f"{client_id} {host}"
