"""Values of a job: its row as a snapshot, its release, and a worker's claim on it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from tidegate.operations.operation import Body
from tidegate.states import State

Call: TypeAlias = tuple[str, int]
"""A job's id and the fence of its release."""
TOGETHER = timedelta(milliseconds=10)
"""The jobs of one submit may run so soon after it: a microsecond apart, in their order."""
_BATCHES = UUID("5f0c7f3e-6d6a-4a0e-9d0e-7c1f6c2b8a11")  # the name space of batches' ids
MAX_LOSSES = 3
"""So many processes may die under a job; then it fails."""


class Wait(StrEnum):
    """Why a job is queued and not running: `waiting.reason`."""

    PACE = "pace"
    CONCURRENCY = "concurrency"
    SHARE = "share"
    PARTITION_PACE = "partition_pace"
    PARTITION_CONCURRENCY = "partition_concurrency"
    PARTITION_ORDER = "partition_order"
    PAUSED = "paused"
    BREAKER = "breaker"
    RETRY = "retry"
    POLL = "poll"
    NOT_BEFORE = "not_before"
    DISPATCH = "dispatch"
    NO_WORKER = "no_worker"
    UNKNOWN_OPERATION = "unknown_operation"


@dataclass(frozen=True, kw_only=True)
class InBatch:
    """A job's part in a batch, which is many jobs in one call: its id, how many it has, and the index of this, from 0.

    The id is made of the jobs' ids: a call that is made again for the same jobs has the same one.
    """

    id: str
    size: int
    index: int

    @classmethod
    def among(cls, job_ids: Sequence[str]) -> "Sequence[InBatch]":
        """The parts of these jobs, in this order, in the batch that they make together."""
        batch_id = str(uuid5(_BATCHES, " ".join(job_ids)))
        return [cls(id=batch_id, size=len(job_ids), index=index) for index in range(len(job_ids))]

    @classmethod
    def parse(cls, text: str) -> "InBatch":
        """Reads what `text` wrote."""
        batch_id, index, size = text.split("/")
        return cls(id=batch_id, size=int(size), index=int(index))

    @property
    def text(self) -> str:
        """As its column holds it."""
        return f"{self.id}/{self.index}/{self.size}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A snapshot of one row of `jobs`, without what only workers need.

    `seen_at`: the database's clock at the read. `is_replay`: found by an idempotency key that had been used before.
    """

    id: str
    client_id: str
    operation: str
    downstream: str
    queue: str
    state: State
    version: int
    created_at: datetime
    run_at: datetime
    deadline: datetime
    started_at: datetime | None
    finished_at: datetime | None
    slot_at: datetime | None
    attempt: int
    max_attempts: int
    waits_for: Wait | None
    cancel_requested: bool
    percent: int
    done: int | None
    total: int | None
    note: str | None
    error: Mapping[str, Any] | None
    traceparent: str | None
    retry_of: str | None
    has_webhook: bool
    partition: str | None
    priority: int
    batch: InBatch | None
    seen_at: datetime
    is_replay: bool = False


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a job does not run yet, its position, and estimates of start and end; None: can't be told.

    `in_time`: its estimated end does not lie behind its deadline.
    """

    reason: Wait
    in_time: bool = True
    position: int | None = None
    estimated_start: datetime | None = None
    estimated_finish: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class StoredBody(Body):
    """A stored input or result; `is_json`: it is valid JSON, so a document may have it as it is."""

    is_json: bool


def headers_text(body: Body) -> str | None:
    """The headers of an input as its column holds them."""
    return json.dumps(dict(body.headers)) if body.headers else None


def headers_of(text: str | None) -> Mapping[str, str]:
    """The headers of an input, of their column."""
    return dict(json.loads(text)) if text else {}


def input_of(row: Mapping[str, Any]) -> Body | None:
    """The input that a row has; None: it was erased."""
    content, content_type, headers = row["content"], row["content_type"], headers_of(row["headers"])
    return None if content is None else Body(content=content, content_type=content_type, headers=headers)


JobWithResult: TypeAlias = tuple[Job, StoredBody | None]
"""A job and its result. Of a result that is not JSON, and so does not stand in the job's document, only the
content type; of a long one, too: its content is empty, which no JSON is."""


def is_whole(found: JobWithResult) -> bool:
    """Whether the result was read in full; a long one was left out, and has to be read by itself."""
    _, result = found
    return result is None or not result.is_json or bool(result.content)


@dataclass(frozen=True, kw_only=True)
class Released:
    """A release of a job by the gate: what its Celery message is made of. `waited`: since it could have gone.

    `partition`, `turn`: whose turn it was, and its number, where the calls of the downstream are shared. `batch`: those
    of the same batch have one message and one call.
    """

    job_id: str
    fence: int
    queue: str
    operation: str
    slot_at: datetime
    deadline: datetime
    waited: timedelta
    traceparent: str | None
    partition: str | None = None
    turn: int | None = None
    batch: InBatch | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One worker's claim on a job: what the attempt needs to know. Every write of the worker carries `fence`.

    `slot_due` and `deadline_due` are instants of this process's monotonic clock; a call may begin `late_seconds` after
    its slot. `is_paced`: its lane or its partition has a rate, and an attempt is one call; `paced_by_calls`: an attempt
    is as many as it takes slots for. `refusals`: of its downstream, in a row, just now; of its partition's calls alone
    where they `were_of_partition`. `waited_seconds`: since it could have run.
    `follows`: the call (job id and fence) on whose place it rides, and that must end first.
    `may_be_followed`: its end is told to others. `poll_url`: the downstream has accepted the work, and is asked here
    how far it is; `polls`: how often it was before. `is_batch`: it is made with others in one call.
    `input`: what the caller sent; None: the job was erased meanwhile.
    """

    job_id: str
    fence: int
    operation: str
    downstream: str
    attempt: int
    max_attempts: int
    losses: int
    is_paced: bool
    paced_by_calls: bool
    refusals: int
    traceparent: str | None
    waited_seconds: float
    partition: str | None = None
    were_of_partition: bool = False
    follows: tuple[str, int] | None = None
    may_be_followed: bool = False
    poll_url: str | None = None
    polls: int = 0
    is_batch: bool = False
    slot_due: float
    late_seconds: float = 0.0
    deadline_due: float
    input: Body | None

    @property
    def is_last(self) -> bool:
        """Whether no further attempt is left; those that were lost with their process do not count."""
        return self.attempt - self.losses >= self.max_attempts
