"""Values about the whole cluster: statistics for /metrics, and which kinds of work wait for a scheduler."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

MOST_DELIVERIES = 10_000
"""Webhooks that are yet to be sent are counted up to here."""

MOST_OPEN = 1_000_000
"""Jobs that are not final are counted up to here."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Statistics of the cluster at one moment.

    `oldest_due_seconds`: by downstream, for how long its first job could have gone; 0: none could. `released`: on their
    way to a worker. `final`: kept, by state, as counted up to a minute ago. `oldest_snapshot`: so many transactions
    have begun since the oldest for which PostgreSQL keeps old row versions; SQLite keeps none.
    """

    oldest_due_seconds: dict[str, float]
    running: int
    released: int
    workers: dict[str, int]
    stewards: int
    deliveries: int
    final: dict[str, int]
    oldest_snapshot: int


@dataclass(frozen=True, kw_only=True)
class Rest:
    """What many downstreams are together: jobs that wait, and how many of them are paused, rest or are broken.

    `resting`: because a downstream asked for it.
    """

    backlog: int
    paused: int
    resting: int
    broken: int


@dataclass(frozen=True, kw_only=True)
class BusyPartition:
    """A partition in the metrics, or all that have no series of their own as one. `client`: the client's name.

    `waiting`: its jobs that wait; `open`: places that it has taken; `oldest_seconds`: for how long its first job could
    have gone; 0: none could.
    """

    lane: str
    client: str
    name: str
    waiting: int
    open: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class SharedLane:
    """A downstream's partitions in which jobs wait, and how many wait in the one that has the most."""

    partitions: int
    most_waiting: int


@dataclass(frozen=True, kw_only=True)
class PartitionFacts:
    """The busiest partitions, all others as one, and the downstreams with the largest backlogs."""

    busiest: Sequence[BusyPartition]
    rest: BusyPartition
    lanes: Mapping[str, SharedLane]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is due for a scheduler, by the database's clock, `now`: whether its steps have anything to do.

    `deadlines` of open jobs, `leases` of running ones and `places`: whether any ran out. `jobs_wait`: some have their
    release before them. `webhooks_wait`: some are not delivered yet. `schedulers`: ids of those that live.
    """

    now: datetime
    deadlines: bool
    leases: bool
    places: bool
    jobs_wait: bool
    webhooks_wait: bool
    schedulers: frozenset[str]
