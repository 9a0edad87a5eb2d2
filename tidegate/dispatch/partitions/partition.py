"""Values of partitions and of clients that share a downstream, and what a release changes of them. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tidegate import rate_limit
from tidegate.dispatch.lane import WaitingJob, allowance_of
from tidegate.dispatch.partitions.fair_share import Share
from tidegate.operations.sharing import PartitionLimits, key_of, named_by


@lru_cache(maxsize=1024)
def own_allowance(limits: PartitionLimits) -> rate_limit.Allowance:
    """The rate limiter's form of a partition's own rates."""
    return allowance_of(limits.rates, limits.burst, 0)


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition with jobs that wait: its share, its limits in force, and the state of its own rates' limiter."""

    client: str
    name: str
    share: Share
    limits: PartitionLimits
    paused: bool = False
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)

    @property
    def key(self) -> str:
        """As jobs name it."""
        return key_of(self.client, self.name)


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
            partitions[key] = replace(partitions[key], share=partitions[key].share.given_back())
            clients[client] = replace(clients[client], share=clients[client].share.given_back())
        return replace(self, partitions=partitions, clients=clients)
