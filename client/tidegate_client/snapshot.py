"""A job as it was seen at one moment: what the gateway's job document says, read-only and typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    """Where a job is. The first two are on the way, the others final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job stays like this for ever."""
        return self not in {State.QUEUED, State.RUNNING}


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a queued job waits, how many go before it, and the gateway's estimates.

    `in_time`: the estimated finish does not lie behind the deadline.
    """

    reason: str
    in_time: bool
    position: int | None
    estimated_start: datetime | None
    estimated_finish: datetime | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A job's part in a call that its downstream got for several jobs: which call, how many, which one of them."""

    id: str
    size: int
    index: int


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job ended without a result; the last three only when its downstream said why."""

    code: str
    message: str
    downstream_status: int | None = None
    downstream_content_type: str | None = None
    downstream_body: str | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One reading of a job. `percent` never goes down; `waiting` is None unless it waits; `document` is the JSON.

    `client`: the id of the client whose job it is; None: an older gateway does not tell. `partition`, `priority`: where
    its downstream has partitions, the name of its own, None: the client's unnamed one; and its place there, 0 is first.
    `batch`: of its last call, None: it was made alone, or waits.
    """

    id: str
    client: str | None
    operation: str
    state: State
    percent: int
    done: int | None
    total: int | None
    note: str | None
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime
    retry_of: str | None
    partition: str | None
    priority: int | None
    batch: Batch | None
    waiting: Waiting | None
    error: JobError | None
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Reads a job document; members that a newer gateway may add are left alone."""
        progress = document["progress"]
        return cls(
            id=document["id"],
            client=document.get("client"),
            operation=document["operation"],
            state=State(document["state"]),
            percent=progress["percent"],
            done=progress["done"],
            total=progress["total"],
            note=progress["note"],
            attempt=document["attempt"],
            max_attempts=document["max_attempts"],
            created_at=datetime.fromisoformat(document["created_at"]),
            started_at=instant(document["started_at"]),
            finished_at=instant(document["finished_at"]),
            deadline=datetime.fromisoformat(document["deadline"]),
            retry_of=document.get("retry_of"),
            partition=document.get("partition"),
            priority=document.get("priority"),
            batch=_batch(document.get("batch")),
            waiting=_waiting(document["waiting"]),
            error=_error(document["error"]),
            document=document,
        )


def instant(text: str | None) -> datetime | None:
    """An RFC 3339 instant; None stays None."""
    return datetime.fromisoformat(text) if text else None


def _batch(document: Mapping[str, Any] | None) -> Batch | None:
    return Batch(id=document["id"], size=document["size"], index=document["index"]) if document else None


def _waiting(document: Mapping[str, Any] | None) -> Waiting | None:
    if document is None:
        return None
    return Waiting(
        reason=document["reason"],
        in_time=document.get("in_time", True),  # an older gateway does not tell
        position=document["position"],
        estimated_start=instant(document["estimated_start"]),
        estimated_finish=instant(document["estimated_finish"]),
    )


def _error(document: Mapping[str, Any] | None) -> JobError | None:
    if document is None:
        return None
    return JobError(
        code=document["code"],
        message=document["message"],
        downstream_status=document.get("downstream_status"),
        downstream_content_type=document.get("downstream_content_type"),
        downstream_body=document.get("downstream_body"),
    )
