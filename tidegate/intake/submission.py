"""A submission: what a client asks for with one submit, before it is a job."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tidegate import tracing
from tidegate.errors import IdempotencyConflict, JobErased, NoPriorities
from tidegate.jobs.job import Job
from tidegate.operations.operation import Body
from tidegate.operations.sharing import USUAL_PRIORITY, Sharing, key_of, named_by
from tidegate.tracing import Value
from tidegate.webhooks.delivery import Webhook


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request to run an operation.

    `timeout`: shorter than the operation's own; None: that. `not_before`: no attempt starts earlier. The same
    `idempotency_key` from the same client names the same job; `quoted_key`: as an earlier version may have stored it,
    with the quotes of its header. `traceparent` goes with it to the downstream.
    Its end is told to `webhook`. `partition`: in whose name it waits, as the client says; `priority`: its place among
    those, 0 is the first. `names_shared`: that name is one of all clients, and not its client's own.
    """

    operation: str
    body: Body
    client_id: str
    timeout: timedelta | None = None
    not_before: datetime | None = None
    idempotency_key: str | None = None
    quoted_key: str | None = None
    traceparent: str | None = None
    retry_of: str | None = None
    webhook: Webhook | None = None
    partition: str | None = None
    priority: int | None = None
    names_shared: bool = False

    @property
    def keys(self) -> Sequence[tuple[str, str]]:
        """The names under which its idempotency key may be stored: client id and key."""
        return [(self.client_id, key) for key in (self.idempotency_key, self.quoted_key) if key is not None]

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of everything that must be equal under one idempotency key."""
        digest = hashlib.sha256()
        parts = (
            self.operation,
            self.body.content_type,
            str(self.timeout),
            str(self.not_before),
            str(self.retry_of),
            *([self.webhook.url] if self.webhook else []),
            *([f"partition {self.partition}"] if self.partition is not None else []),
            *([f"priority {self.priority}"] if self.priority is not None else []),
            *(f"{name.lower()}: {value}" for name, value in sorted(self.body.headers.items())),
        )
        for part in (*(text.encode("utf-8", "replace") for text in parts), self.body.content):
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()


@dataclass(frozen=True, kw_only=True)
class PartitionPlace:
    """Where a job stands in a partition. `partition`: its key; `behind`: so far behind jobs of the first priority.

    `keeps_rank`: it stands in the order of submit, whenever it may run.
    """

    partition: str
    priority: int
    behind: timedelta
    keeps_rank: bool


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to insert, with its input, idempotency key and webhook.

    `place`: where it stands in its partition; None: its downstream has none.
    """

    id: str
    client_id: str
    operation: str
    downstream: str
    queue: str
    timeout: timedelta
    not_before: datetime | None = None
    max_attempts: int
    paced_by_calls: bool = False
    traceparent: str | None = None
    retry_of: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    webhook: Webhook | None = None
    place: PartitionPlace | None = None
    body: Body

    @property
    def lane(self) -> str:
        """Where it waits, as the scheduler is told: its downstream, and its partition where that is shared."""
        return f"{self.downstream}/{self.place.partition}" if self.place else self.downstream


@dataclass(frozen=True)
class StoredKey:
    """A stored idempotency key; `job_id` None: its job was erased."""

    job_id: str | None
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True)
class KeyUse:
    """An idempotency key that a client uses for a new job."""

    client_id: str
    key: str
    fingerprint: bytes
    job_id: str


def place_in(sharing: Sharing | None, submission: Submission) -> PartitionPlace | None:
    """Where a submission stands in its partition of a downstream, None: that has none.

    A name and a priority say nothing where there is no partition by a name, or none at all: callers may send them
    everywhere. Raises NoPriorities.
    """
    if sharing is None:
        return None
    name = submission.partition or "" if sharing.by == "header" else ""
    is_strict = sharing.limits_of(name).is_strict
    if is_strict and submission.priority is not None:
        raise NoPriorities("Job-Priority: this partition keeps the order of submit")
    priority = USUAL_PRIORITY if submission.priority is None else submission.priority
    return PartitionPlace(
        partition=key_of("" if name and submission.names_shared else submission.client_id, name),
        priority=priority,
        behind=priority * sharing.priority_step,
        keeps_rank=is_strict,
    )


def order_of(sharing: Sharing | None, job: Job) -> dict[str, Any]:
    """The partition and priority by which a job is submitted again, as far as its downstream has them now."""
    if sharing is None or job.partition is None:
        return {}
    client, name = named_by(job.partition)
    named = {"partition": name, "names_shared": not client} if sharing.by == "header" and name else {}
    is_strict = sharing.limits_of(name if named else "").is_strict
    return named if is_strict or job.priority == USUAL_PRIORITY else {**named, "priority": job.priority}


@contextmanager
def traced(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    """Opens a span for the submit; yields the submissions with it as the parent of all that follows."""
    first = submissions[0]
    what: dict[str, Value] = {"operation": first.operation, "jobs": len(submissions)}
    with tracing.span("submit", parent=first.traceparent, kind="server", **what) as span:
        if not tracing.is_on():
            yield submissions
        else:
            yield [replace(each, traceparent=span.traceparent) for each in submissions]


def check_same(request: Submission | NewJob, key: StoredKey) -> None:
    """Raises IdempotencyConflict when the key stands for another request, and JobErased when its job was deleted."""
    if key.fingerprint != request.fingerprint:
        raise IdempotencyConflict("this Idempotency-Key was used for another request")
    if key.job_id is None:
        raise erased()


def erased() -> JobErased:
    """Makes the refusal of a key whose job was deleted."""
    return JobErased("the job of this Idempotency-Key was deleted")
