"""Values of a lane: the row of its downstream, what is released and running, what waits, and a sample. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tidegate import rate_limit
from tidegate.dispatch.announced import Budgets, room
from tidegate.jobs.job import MAX_LOSSES, InBatch
from tidegate.operations.queues import Queue
from tidegate.operations.sharing import Sharing
from tidegate.rate import Rate

LAST_LIFE = MAX_LOSSES - 1
"""So many losses, and one more fails the job."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The columns of a downstream's row that releases and calls go by: limits, state of the rate limiter, pauses.

    Instants in microseconds. `call_seconds`: how long a place is taken by one call, by Little's law. `released`: calls
    ever, by which `budgets` count. `sharing`: how its calls are shared by partitions; `shared_clock`, `turns`: as a
    PartitionBook has them.
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
    released: int
    budgets: Budgets
    sharing: Sharing | None = None
    shared_clock: int = 0
    turns: int = 0

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

    def announced_room(self, now: int, *, held: int) -> int | None:
        """How many more calls may be released by what the downstream announced; None: it announces nothing."""
        return room(self.budgets, released=self.released, held=held, now=now)


@dataclass(frozen=True, kw_only=True)
class DueLane:
    """A downstream with queued jobs: when the first may run, in microseconds; `now` is the database's clock.

    `version`: of its row, as in LaneState.
    """

    name: str
    version: str
    queue: str
    next_run_at: int
    paused_until: int
    now: int


class WaitingPoll(NamedTuple):
    """A queued job whose downstream has accepted the work, which is to be asked how far it is.

    `place_fence`: of the attempt whose place it keeps. `run_at`, in microseconds, may lie ahead.
    """

    job: "WaitingJob"
    place_fence: int


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
    batch: str | None = None

    @property
    def batch_id(self) -> str | None:
        """The batch that it goes again with."""
        return InBatch.parse(self.batch).id if self.batch else None


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """All places taken and all workers at one moment, of every lane; `now`: the database's clock, in microseconds.

    `held`: places taken, by downstream; a follower has none of its own. `out`: by queue and then by downstream, what
    waits for the live workers or runs on them; a dead worker's call may still be open at the downstream, but takes
    nothing from a queue. `sizes`: of the live workers, by queue. `kept`: of the places, those of jobs that are polled;
    `polled`: calls that ask for these, open on their places.
    """

    now: int
    held: Mapping[str, int]
    out: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    kept: Mapping[str, int] = field(default_factory=dict)
    polled: Mapping[str, int] = field(default_factory=dict)

    def out_in(self, queue: str) -> int:
        """What is out in a queue, of all lanes."""
        return sum(self.out.get(queue, {}).values())

    def with_released(self, downstream: str, queues: Iterable[str]) -> "Occupancy":
        """The occupancy after a release of a lane: a job in each of these queues, named as often as there are jobs."""
        released = Counter(queues)
        out = dict(self.out)
        for queue, number in released.items():
            out[queue] = {**self.out.get(queue, {}), downstream: self.out.get(queue, {}).get(downstream, 0) + number}
        held = {**self.held, downstream: self.held.get(downstream, 0) + released.total()}
        return replace(self, held=held, out=out)


@dataclass(frozen=True, kw_only=True)
class AllWaiting:
    """All jobs of a shared lane that may be released: those of each partition, in its order.

    `next_run_at`: when the first of the others that wait may run (microseconds); None: there are no others.
    """

    by_partition: Mapping[str, Sequence[WaitingJob]]
    next_run_at: int | None


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """A lane as read at one moment: its row, what is released or running, the workers, and the first waiting jobs.

    `version`: changes with every write of the row. `limit`: so many waiting jobs were asked for; fewer are all,
    where they are `of_all_queues`. `polls`: the first jobs that wait to be polled, due or not. `batched`: the
    operations whose jobs go many in one call. `apart`: the queues of which another lane releases a job that is kept
    apart. `all_waiting`: of a lane that was read as a shared one, where its waiting jobs are all known.
    `first_slot_at`: no slot is taken before, for its call would come too late.
    """

    lane: Lane
    version: str
    occupancy: Occupancy
    waiting: Sequence[WaitingJob] = ()
    limit: int = 0
    of_all_queues: bool = True
    polls: Sequence[WaitingPoll] = ()
    batched: AbstractSet[str] = frozenset()
    apart: AbstractSet[str] = frozenset()
    all_waiting: AllWaiting | None = None
    first_slot_at: int = 0

    @property
    def now(self) -> int:
        """The database's clock, in microseconds."""
        return self.occupancy.now

    @property
    def held(self) -> int:
        """How many places of the downstream are taken."""
        return self.occupancy.held.get(self.lane.name, 0)

    @property
    def has_kept(self) -> bool:
        """Whether places are kept for jobs that are polled."""
        return self.occupancy.kept.get(self.lane.name, 0) > 0

    @property
    def calls(self) -> int:
        """How many calls are released or open; a place that is kept between two polls is none."""
        name, places = self.lane.name, self.occupancy
        return self.held - places.kept.get(name, 0) + places.polled.get(name, 0)

    @property
    def jobs(self) -> Sequence[WaitingJob]:
        """All that were read: those that wait for a place, and those that wait to be polled."""
        return [*self.waiting, *(poll.job for poll in self.polls)] if self.polls else self.waiting

    @property
    def due_polls(self) -> Sequence[WaitingPoll]:
        """The jobs that could be polled now."""
        return [poll for poll in self.polls if poll.job.run_at <= self.now]

    def out_in(self, queue: str) -> int:
        """What is out of this lane in a queue."""
        return self.occupancy.out.get(queue, {}).get(self.lane.name, 0)

    @property
    def may_have_more(self) -> bool:
        """Whether more jobs may wait than were read."""
        return len(self.waiting) == self.limit


def allowance_of(rates: Iterable[str], burst: int, jitter: int) -> rate_limit.Allowance:
    """The rate limiter's form of a row's rates, burst and jitter (microseconds)."""
    late = rate_limit.LATE + jitter
    return rate_limit.Allowance(rates=tuple(map(Rate.parse, rates)), burst=burst, late=late)


def is_kept_apart(job: WaitingJob) -> bool:
    """Whether one more process death would fail the job: only one such job of a queue is released at a time.

    Not in the queue `cpu`, where each job has a process of its own; whether a queue of one's own has such the gate need
    not know, for one at a time is right in either. See `may_kill_no_other` for those that run already.
    """
    return job.losses >= LAST_LIFE and job.queue != Queue.CPU
