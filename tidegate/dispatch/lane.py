"""A lane as values: a downstream's row, what is out and what waits there, and a sample of it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from tidegate import rate_limit
from tidegate.jobs.job import MAX_LOSSES
from tidegate.operations.operation import Limits, Queue

LAST_LIFE = MAX_LOSSES - 1
"""So many losses, and one more fails the job."""
Mark: TypeAlias = tuple[datetime, int]


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """A downstream's row. `limits` holds now: `declared`, overlaid by `changes`. `released`: jobs ever.
    `next_slot_at`: when the next call may start. `seen_at`: the database's clock."""

    name: str
    limits: Limits
    declared: Limits
    changes: Mapping[str, Any]
    paused: bool
    paused_until: datetime | None
    refusals: int
    failures: int
    released: int
    next_slot_at: datetime
    seen_at: datetime
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)

    @property
    def is_broken(self) -> bool:
        """Whether its breaker is open: it gets nothing, then one call at a time, until one succeeds."""
        return 0 < self.limits.breaker_after <= self.failures

    @property
    def rests_until(self) -> datetime | None:
        """Until when nothing goes out because of the downstream's own answers; None: not resting."""
        return self.paused_until if self.paused_until and self.paused_until > self.seen_at else None


@dataclass(frozen=True, kw_only=True)
class LaneRow:
    """What gate and claims read of a downstream's row. Instants in microseconds; `call_seconds`: how long a place is
    taken by one call, by Little's law."""

    name: str
    allowance: rate_limit.Allowance
    pace: rate_limit.Pace
    concurrency: int | None
    breaker_after: int
    failures: int
    refusals: int
    paused: bool
    paused_until: int
    call_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A downstream's row, with what is out at this moment. Instants in microseconds.

    `held`: its places taken; a follower has none of its own. `out`: by queue, what waits for the live workers or runs
    on them; a dead worker's call may still be open at the downstream, but takes nothing from a queue. `out_by_queue`:
    of all lanes. `sizes`: of the live workers, by queue. `call_seconds`: how long a place is taken by one call, as far
    as that is known. `is_troubled`: its downstream failed or refused last.
    """

    name: str
    allowance: rate_limit.Allowance
    pace: rate_limit.Pace
    concurrency: int | None
    is_broken: bool
    is_troubled: bool
    call_seconds: float | None
    now: int
    held: int
    out: dict[str, int]
    out_by_queue: dict[str, int]
    sizes: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many more jobs of a lane may be let go: by queue, onto places that are free, queues without any left out;
    and how many of the threads of the queue `io` would idle all the same, so that followers may have them."""

    by_queue: Mapping[str, int]
    idle_threads: int = 0


class WaitingJob(NamedTuple):
    """A job that may be released, as far as the gate reads it: columns of `jobs`."""

    id: str
    fence: int
    queue: str
    operation: str
    run_at: datetime
    deadline: datetime
    paced_by_calls: bool
    losses: int
    traceparent: str | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at a lane. `marks`: (run_at, jobs queued before it), rising. `per_second`: releases while there was a
    backlog, smoothed; `held_mean`: places taken meanwhile. Zero: not known yet. `settled`: an instant before which all
    that could run was sure to be seen, and how many those were; None: count them all."""

    downstream: str
    taken_at: datetime
    backlog: int
    by_client: dict[str, int]
    marks: tuple[Mark, ...]
    held: int = 0
    released: int
    per_second: float = 0.0
    held_mean: float = 0.0
    settled: Mark | None = None


def allowance_of(rates: Iterable[str], burst: int) -> rate_limit.Allowance:
    """The pacing's form of a row's rates."""
    return rate_limit.Allowance(rates=tuple(rate_limit.Rate.parse(rate) for rate in rates), burst=burst)


def is_kept_apart(job: WaitingJob) -> bool:
    """Whether only one such job of a queue may be let go; see `may_kill_no_other` for those that are out already."""
    return job.losses >= LAST_LIFE and job.queue != Queue.CPU
