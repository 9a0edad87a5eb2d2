"""The outcomes of an attempt, as values: success, failure, retry, a busy downstream, work to be polled, handed back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tidegate.operations.quota_fields import Quota


class ErrorCode(StrEnum):
    """The `error.code` of a job that ended without a result."""

    DEADLINE_EXCEEDED = "deadline_exceeded"
    DOWNSTREAM_ERROR = "downstream_error"
    OPERATION_ERROR = "operation_error"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """The attempt succeeded; this is the result. `quotas`: what the downstream's answer announced as left."""

    content: bytes
    content_type: str
    is_json: bool
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The attempt failed for good. `detail` goes into the job's `error` beside code and message."""

    code: ErrorCode
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TryAgain:
    """The attempt failed; another may succeed. `retry_after`: not before, if the downstream said so."""

    code: ErrorCode
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    retry_after: timedelta | None = None
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The downstream has no capacity now (429, 503): its whole lane pauses, and the attempt is not counted."""

    message: str
    retry_after: timedelta | None = None
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Polls:
    """The downstream has accepted the work and not done it yet: it is asked at `url` how far it is.

    `after`: so much later, as the downstream said; None: it did not. The attempt is not counted.
    """

    url: str
    after: timedelta | None = None
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """The attempt did not happen, or we broke it off (its slot is too far): the job is queued again, for `after`.

    `was_called`: its call went out all the same, and the next one takes a slot of its own.
    """

    reason: str
    was_called: bool = False
    after: timedelta = timedelta(0)


Outcome = Succeeded | Failed | TryAgain | Refused | Polls | HandedBack


@dataclass(frozen=True, kw_only=True)
class Split:
    """A batch failed as a whole, and what it contains may be the reason: its halves are tried at once.

    It costs no attempt while more than one job is left. `alone` is the outcome of a job that was the only one.
    """

    alone: Failed | TryAgain

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the downstream's answer announced as left."""
        return self.alone.quotas


BatchOutcome = Split | TryAgain | Refused | HandedBack | Sequence[Outcome]
"""What became of a batch: halves, the whole again (three ways), or an outcome for each of its jobs."""
