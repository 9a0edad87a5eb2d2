"""Values of a lane: the row of its downstream, what is released and running, what waits, and a sample. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from tidegate import rate_limit
from tidegate.jobs.job import MAX_LOSSES
from tidegate.operations.operation import Limits, Queue
from tidegate.rate import Rate

LAST_LIFE = MAX_LOSSES - 1
"""So many losses, and one more fails the job."""
Mark: TypeAlias = tuple[datetime, int]


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """A snapshot of a downstream's row. `limits` are in force: `declared`, overlaid by `changes`.

    `released`: jobs released ever. `next_slot_at`: when the next call may start. `seen_at`: the database's clock.
    """

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
        """Whether its circuit breaker is open: no calls, then one at a time, until one succeeds."""
        return 0 < self.limits.breaker_after <= self.failures

    @property
    def rests_until(self) -> datetime | None:
        """Until when the downstream gets nothing because of its own answers; None: it is not paused so."""
        return self.paused_until if self.paused_until and self.paused_until > self.seen_at else None


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The columns of a downstream's row that releases and calls go by: limits, state of the rate limiter, pauses.

    Instants in microseconds. `call_seconds`: how long a place is taken by one call, by Little's law.
    """

    name: str
    allowance: rate_limit.Allowance
    jitter: int
    pace: rate_limit.Pace
    concurrency: int | None
    breaker_after: int
    failures: int
    refusals: int
    paused: bool
    paused_until: int
    call_seconds: float | None

    @property
    def is_broken(self) -> bool:
        """Whether its circuit breaker is open: no calls, then one at a time, until one succeeds."""
        return 0 < self.breaker_after <= self.failures

    @property
    def is_troubled(self) -> bool:
        """Whether its downstream failed or refused last."""
        return self.failures > 0 or self.refusals > 0

    def rests(self, now: int) -> bool:
        """Whether it is paused, by an operator or by the downstream's own answers."""
        return self.paused or self.paused_until > now


@dataclass(frozen=True, kw_only=True)
class DueLane:
    """A downstream with queued jobs: when the first may run, in microseconds; `now` is the database's clock."""

    name: str
    queue: str
    next_run_at: int
    paused_until: int
    now: int


class WaitingJob(NamedTuple):
    """A queued job that may be released: the columns of `jobs` that the gate reads, as the database writes them.

    Instants in microseconds; the id with or without dashes. Most of what is read stays, so only what goes is converted.
    """

    id: str
    fence: int
    queue: str
    operation: str
    run_at: int
    deadline: int
    paced_by_calls: bool
    losses: int
    traceparent: str | None


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """A lane as read at one moment: its row, what is released or running, the workers, and the first waiting jobs.

    `version`: changes with every write of the row. `now`: the database's clock, in microseconds. `held`: places taken;
    a follower has none of its own. `out`: by queue, what waits for the live workers or runs on them; a dead worker's
    call may still be open at the downstream, but takes nothing from a queue. `out_by_queue`: of all lanes. `sizes`: of
    the live workers, by queue. `limit`: so many waiting jobs were asked for; fewer are all.
    """

    lane: Lane
    version: str
    now: int
    held: int
    out: Mapping[str, int]
    out_by_queue: Mapping[str, int]
    sizes: Mapping[str, int]
    waiting: Sequence[WaitingJob] = ()
    limit: int = 0

    @property
    def may_have_more(self) -> bool:
        """Whether more jobs may wait than were read."""
        return len(self.waiting) == self.limit


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement of a lane's queue. `marks`: (run_at, jobs queued before it), rising.

    `per_second`: releases while there was a backlog, smoothed; `held_mean`: places taken meanwhile. Zero: not known
    yet. `settled`: an instant before which all that could run was sure to be seen, and how many those were; None: count
    them all.
    """

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


def allowance_of(rates: Iterable[str], burst: int, jitter: int) -> rate_limit.Allowance:
    """The rate limiter's form of a row's rates, burst and jitter (microseconds)."""
    late = rate_limit.LATE + jitter
    return rate_limit.Allowance(rates=tuple(map(Rate.parse, rates)), burst=burst, late=late)


def is_kept_apart(job: WaitingJob) -> bool:
    """Whether one more process death would fail the job: only one such job of a queue is released at a time.

    Not in the queue `cpu`, where each job has a process of its own. See `may_kill_no_other` for those that run already.
    """
    return job.losses >= LAST_LIFE and job.queue != Queue.CPU
