"""How an attempt can end: values that the runner records in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """`error.code` of a job that did not succeed."""

    DEADLINE_EXCEEDED = "deadline_exceeded"
    DOWNSTREAM_ERROR = "downstream_error"
    OPERATION_ERROR = "operation_error"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """The result is there."""

    content: bytes
    content_type: str
    is_json: bool


@dataclass(frozen=True, kw_only=True)
class Failed:
    """No attempt will do better. `detail` goes into the job's `error` beside code and message."""

    code: ErrorCode
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TryAgain:
    """This attempt failed; another may succeed. `retry_after`: not before, if the downstream said so."""

    code: ErrorCode
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The downstream has no capacity now (429, 503): the whole lane waits, and the attempt is given back."""

    message: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """The attempt did not happen or was broken off by us (its slot is too far): it is given back, for `after`."""

    reason: str
    after: timedelta = timedelta(0)


Outcome = Succeeded | Failed | TryAgain | Refused | HandedBack
