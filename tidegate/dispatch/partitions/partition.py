"""Values of partitions and of clients that share a downstream, and what a release changes of them. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tidegate import rate_limit
from tidegate.dispatch.announced import Budgets, rests_until, room
from tidegate.dispatch.lane import WaitingJob, allowance_of
from tidegate.fairness import Share
from tidegate.operations.sharing import PartitionLimits, key_of, named_by


def own_allowance(limits: PartitionLimits, jitter: int) -> rate_limit.Allowance:
    """The rate limiter's form of a partition's own rates; `jitter`: that of its downstream, in microseconds."""
    return _own_allowance(limits, jitter)  # a cached function's arguments are checked by nobody


@lru_cache(maxsize=1024)
def _own_allowance(limits: PartitionLimits, jitter: int) -> rate_limit.Allowance:
    return allowance_of(limits.rates, limits.burst, jitter)


def own_next_slot(limits: PartitionLimits, pace: rate_limit.Pace, jitter: int) -> int | None:
    """When a partition's own rates have room behind its last call (microseconds); None: it has no rate of its own."""
    return rate_limit.next_slot(own_allowance(limits, jitter), pace, now=pace.last) if limits.rates else None


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition with jobs that wait: its share, its limits in force, and the state of its own rates' limiter.

    Where its downstream refuses by partition: `rested_until`, by its refusals, and `budgets`, what it announced as left
    of this partition's calls; these count by `released`, its jobs ever. Instants in microseconds.
    """

    client: str
    name: str
    share: Share
    limits: PartitionLimits
    paused: bool = False
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)
    rested_until: int = 0
    budgets: Budgets = field(default_factory=dict)
    released: int = 0

    @property
    def key(self) -> str:
        """As jobs name it."""
        return key_of(self.client, self.name)

    def rests_until(self, now: int, *, chosen: int = 0) -> int | None:
        """Until when it gets nothing because of the downstream's answers, beside so many calls that were just chosen.

        None: it may go on.
        """
        used_up = rests_until(self.budgets, released=self.released + chosen, now=now) or 0
        until = max(self.rested_until, used_up)
        return until if until > now else None

    def announced_room(self, now: int, *, held: int, chosen: int = 0) -> int | None:
        """How many more of its jobs may go by what was announced; None: any number."""
        return room(self.budgets, released=self.released + chosen, held=held, now=now)


@dataclass(frozen=True, kw_only=True)
class SharedClient:
    """A client of a downstream: its share, and the clock of its partitions' turns."""

    share: Share
    clock: int = 0


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The first jobs of a partition, in its order; `is_all`: there are no more that may go.

    `next_run_at`: when the first of those may run that may not yet (microseconds); None: none waits so.
    """

    jobs: Sequence[WaitingJob]
    is_all: bool
    next_run_at: int | None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a release changes of partitions and clients: each whose turn it was, as it is afterwards.

    `clock`: of the clients' turns. `turns`: the number of changes after it. `by_job`: the partition of each job.
    `leaves_none`: no other job waits in any partition. `apart`: the queues of which a job goes that is kept apart.
    """

    partitions: Mapping[str, Partition]
    clients: Mapping[str, SharedClient]
    clock: int
    turns: int
    by_job: Mapping[str, str]
    leaves_none: bool = False
    apart: frozenset[str] = frozenset()

    def with_only(self, gone: Collection[str]) -> "Chosen":
        """The same when only these jobs went: the others' turns are given back."""
        partitions, clients = dict(self.partitions), dict(self.clients)
        for job_id in self.by_job.keys() - {*gone}:
            key = self.by_job[job_id]
            client, _ = named_by(key)
            each = partitions[key]
            partitions[key] = replace(each, share=each.share.given_back(), released=each.released - 1)
            clients[client] = replace(clients[client], share=clients[client].share.given_back())
        return replace(self, partitions=partitions, clients=clients)
