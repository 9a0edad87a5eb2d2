"""Every error of the client.

    TidegateError
    ├── Refused            the gateway did not take the request; nothing was recorded
    │   └── OutcomeUnknown     or so it seems: it can't say whether it was done, however often it was tried
    ├── SomeRefused        of many jobs some were taken and some were not
    ├── NotDone            the time to wait is over and the job still goes on; also a TimeoutError
    ├── ConnectionFailed   the gateway could not be reached, however often it was tried; also a ConnectionError
    ├── InvalidWebhook     what arrived as a webhook was not sent by the gateway, or not lately; also a ValueError
    ├── UnexpectedAnswer   something answered that does not speak as the gateway does, such as a proxy
    └── JobEnded           the job is final and has no result
        ├── JobFailed          the operation or its downstream gave a final error
        ├── JobExpired         there was no result before its deadline
        └── JobCancelled       its owner called it off

Their arguments are what they are made of, so that they can be pickled; `str()` gives the sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from tidegate_client.snapshot import Snapshot, State, instant

TYPE_PREFIX = "urn:tidegate:problem:"
AnyJob = TypeVar("AnyJob")


class TidegateError(Exception):
    """Root of the tree; never raised itself."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: at the JSON pointer (RFC 6901) of an input, or in a header of the request."""

    pointer: str
    detail: str
    header: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, str]) -> Self:
        """Reads one of a problem's `errors`."""
        return cls(document.get("pointer", ""), document["detail"], document.get("header"))

    def __str__(self) -> str:
        return f"{self.header or self.pointer or '/'}: {self.detail}"


class Refused(TidegateError):  # noqa: N818 - a refusal is an answer, and the glossary says so
    """The gateway did not take the request; nothing was recorded.

    `status` of HTTP; `kind` is the end of the problem's type, such as "invalid-input" or "cannot-finish-in-time";
    `faults` say what is wrong with an input; `retry_after` seconds from now it is worth another try, where the gateway
    says so; `earliest_finish` is when a job would be done that is refused because it could not make its deadline.
    """

    def __init__(self, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(problem, retry_after)
        self.problem = problem
        self.status: int = problem["status"]
        self.kind = str(problem["type"]).removeprefix(TYPE_PREFIX)
        self.detail: str = problem.get("detail") or problem.get("title") or self.kind
        self.faults = tuple(Fault.of(fault) for fault in problem.get("errors", ()))
        self.retry_after = retry_after
        self.earliest_finish: datetime | None = instant(problem.get("earliest_finish"))

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well be taken in a moment: the gateway is busy, or was away."""
        return self.status in PASSING and self.kind != "cannot-finish-in-time"

    def __str__(self) -> str:
        faults = "".join(f"\n  {fault}" for fault in self.faults)
        return f"{self.detail} ({self.status} {self.kind}){faults}"


PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses, said by the gateway or a proxy about a request and not about a job, that another try may not get."""


class OutcomeUnknown(Refused):
    """The gateway's database went away in the middle: what was asked may have been done, or may not.

    The same again under the same idempotency key does no harm, and was tried for as long as the client is patient.
    """

    KIND = "outcome-unknown"


class SomeRefused(TidegateError, Generic[AnyJob]):  # noqa: N818 - as above
    """Of many jobs some were refused: `refusals` by their index in what was submitted. The others are in `jobs`.

    They are a `Client`'s Job or an `AsyncClient`'s AsyncJob.
    """

    def __init__(self, jobs: Mapping[int, AnyJob], refusals: Mapping[int, Refused]) -> None:
        super().__init__(jobs, refusals)
        self.jobs = jobs
        self.refusals = refusals

    def __str__(self) -> str:
        index, refusal = next(iter(self.refusals.items()))
        total = len(self.jobs) + len(self.refusals)
        return f"{len(self.refusals)} of {total} jobs were refused; the first of them, number {index}: {refusal}"


class NotDone(TidegateError, TimeoutError):  # noqa: N818 - said of a job
    """The time to wait is over. The job goes on: `job` is how it was seen last, and it may be waited for again."""

    def __init__(self, job: Snapshot) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"job {self.job.id} is still {self.job.state}, {self.job.percent} %"


class ConnectionFailed(TidegateError, ConnectionError):  # noqa: N818 - said of a connection
    """The gateway at `url` could not be reached, or did not answer, for as long as the client is patient."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no answer from {self.url}: {self.reason}"


class InvalidWebhook(TidegateError, ValueError):  # noqa: N818 - said of a webhook
    """What arrived as a webhook is not to be believed; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the webhook is not to be believed: {self.reason}"


class UnexpectedAnswer(TidegateError):  # noqa: N818 - said of an answer
    """`url` gave an answer that is not the gateway's: a proxy's error page, a redirect, another service."""

    def __init__(self, url: str, status: int, beginning: str) -> None:
        super().__init__(url, status, beginning)
        self.url = url
        self.status = status
        self.beginning = beginning

    @property
    def is_passing(self) -> bool:
        """Whether another try may get the gateway's own answer."""
        return self.status in PASSING

    def __str__(self) -> str:
        told = f"{self.url} answered {self.status}, and not as Tidegate does: {self.beginning}"
        return f"{told}\nIs that the gateway's address? A proxy or another service may stand there."


class JobEnded(TidegateError):  # noqa: N818 - said of a job
    """The job is final and has no result. `job` is the job, `error` says why."""

    def __init__(self, job: Snapshot) -> None:
        super().__init__(job)
        self.job = job
        self.error = job.error

    def __str__(self) -> str:
        return f"job {self.job.id} {self.job.state}: {self.error.message if self.error else 'no reason was given'}"


class JobFailed(JobEnded):
    """The operation or its downstream gave a final error; `error.downstream_status` and `_body` are its words."""


class JobExpired(JobEnded):
    """There was no result before the job's deadline."""


class JobCancelled(JobEnded):
    """The job was called off before it had a result."""


ENDS: Mapping[State, type[JobEnded]] = {
    State.FAILED: JobFailed,
    State.EXPIRED: JobExpired,
    State.CANCELLED: JobCancelled,
}
"""What is raised for each final state without a result."""
