"""A cache of partitions' counts for the API's forecasts and admission: each is counted at most once a second."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tidegate import clock
from tidegate.clock import EPOCH
from tidegate.database.connection import UNREACHABLE
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.counts import PartitionCountStore
from tidegate.dispatch.partitions.forecast import PartitionCount, PartitionLane, partition_lane, rank_of
from tidegate.dispatch.partitions.view import Where
from tidegate.dispatch.uncounted import Submitted
from tidegate.jobs.job import Job
from tidegate.operations.limits import Limits
from tidegate.operations.sharing import PartitionLimits, Sharing, named_by

# A count is repeated after so long, or so many times as long as it took, unless admission needs it sooner.
_COUNT_SECONDS, _REST, _LONGEST_REST_SECONDS = 1.0, 50, 5.0
# While the database can't be reached it is asked so rarely.
_AWAY_SECONDS = 0.5
_KEPT, _KEPT_SECONDS = 10_000, 10.0
# So many new partitions of a client may come beside by way of other processes.
_MARGIN = 50


class Stores(Protocol):
    """The store that the cache reads (`tidegate.stores.Store` has it)."""

    partition_counts: PartitionCountStore


class PartitionCache:
    """Counts of the partitions that were asked for lately, and what this process submitted to each since.

    `declared`: the limits of downstreams by name, with how their calls are shared.
    """

    def __init__(self, store: Stores, declared: Mapping[str, Limits]) -> None:
        self._store = store
        self._declared = declared
        self.deciding = threading.RLock()  # guards what follows; held for microseconds
        self._known: dict[Where, _Known] = {}
        self._numbers: dict[tuple[str, str], _Number] = {}

    def sharing(self, lane: str) -> Sharing | None:
        """How the calls of a downstream are shared; None: they are not."""
        limits = self._declared.get(lane)
        return limits.sharing if limits else None

    def counted(self, where: Where, *, anew: bool = False, within: float | None = None) -> PartitionCount:
        """The partition as of a moment ago; `anew`: as of after this call began; `within`: so many seconds are enough.

        While the database can't be reached, as it was known last.
        """
        known, asked_at = self._of(where), clock.monotonic()
        with known.counting:
            is_due = clock.monotonic() >= known.due_at and asked_at - known.counted_at >= (within or 0.0)
            if known.counted_at < asked_at if anew else is_due:
                self._count(where, known)
        return known.count

    def last_count(self, where: Where) -> tuple[float, float]:
        """The seconds since the partition's last count began, and those that it took."""
        known = self._of(where)
        return clock.monotonic() - known.counted_at, known.took

    def last_known(self, where: Where) -> tuple[PartitionCount, Submitted]:
        """The last count, and the jobs which it has not seen; call it while holding `deciding`."""
        known = self._of(where)
        return known.count, known.submitted

    def limits_of(self, where: Where, count: PartitionCount) -> PartitionLimits:
        """A partition's limits in force: the declared ones, overlaid by what an operator changed."""
        sharing = self.sharing(where.lane) or Sharing()
        return sharing.limits_of(named_by(where.key)[1]).changed(count.changes)

    def lane_of(
        self, job: Job, lane: LaneView | None, *, within: float | None = None
    ) -> tuple[PartitionLane, int] | None:
        """The lane as this job has it, and how many jobs before it no count has seen; None: it has no partition.

        `within`: as in `counted`.
        """
        sharing = self.sharing(job.downstream)
        if lane is None or sharing is None or job.partition is None:
            return None
        where = Where(job.downstream, job.partition)
        count = self.counted(where, within=within)
        limits = self.limits_of(where, count)
        rank_at = rank_of(job, sharing, limits)
        with self.deciding:
            behind = self._of(where).submitted.before(rank_at)
        return partition_lane(lane, count, limits, rank_at), behind

    def submitted(self, *jobs: Job) -> None:
        """Notes jobs that were recorded together and that perhaps no count has seen yet."""
        with self.deciding:
            for job in jobs:
                sharing = self.sharing(job.downstream)
                if sharing and job.partition is not None:
                    where = Where(job.downstream, job.partition)
                    known = self._of(where)
                    limits = self.limits_of(where, known.count)
                    known.submitted.add(replace(job, run_at=rank_of(job, sharing, limits)))
                    known.forget_seen()

    def number_of(self, lane: str, client: str, *, most: int) -> int:
        """In how many partitions of the client jobs wait; exact where it comes near `most`, up to that."""
        name = (lane, client)
        with self.deciding:
            number = self._numbers.setdefault(name, _Number())
            is_young = clock.monotonic() < number.due_at
            near = number.counted + len(number.new) + number.since + _MARGIN >= most
            if is_young and not near:
                return number.counted + len(number.new) + number.since
            since = number.since
        began = clock.monotonic()
        try:
            counted = self._store.partition_counts.number_of(lane, client, most=most)
        except UNREACHABLE:
            counted = number.counted
        with self.deciding:
            number.counted, number.since = counted, number.since - since
            number.due_at = began + max(_COUNT_SECONDS, _REST * (clock.monotonic() - began))
            return number.counted + len(number.new) + number.since

    def expect_partition(self, where: Where, jobs: int) -> None:
        """Counts a partition with its first jobs, admitted and not recorded yet; a negative number ends their wait."""
        with self.deciding:
            number = self._numbers.setdefault((where.lane, named_by(where.key)[0]), _Number())
            number.new[where.key] += jobs
            if number.new[where.key] <= 0:
                del number.new[where.key]
                number.since += 1

    def is_expected(self, where: Where) -> bool:
        """Whether the partition's first jobs were admitted and are not recorded yet."""
        number = self._numbers.get((where.lane, named_by(where.key)[0]))
        return number is not None and where.key in number.new

    def _of(self, where: Where) -> "_Known":
        known = self._known.get(where)
        if known is None:
            with self.deciding:
                if len(self._known) >= _KEPT:
                    self._forget()
                known = self._known.setdefault(where, _Known(counting=threading.Lock()))
        known.asked_at = clock.monotonic()
        return known

    def _forget(self) -> None:
        """Forgets those that nobody asked for lately; what was just submitted is counted by then."""
        since = clock.monotonic() - _KEPT_SECONDS
        self._known = {
            where: known
            for where, known in self._known.items()
            if known.asked_at >= since or known.submitted.expected or known.counting.locked()
        }

    def _count(self, where: Where, known: "_Known") -> None:
        with self.deciding:
            newest = known.submitted.newest
        began = clock.monotonic()
        try:
            count = self._store.partition_counts.count(*where)
        except UNREACHABLE:
            known.due_at = clock.monotonic() + _AWAY_SECONDS
            return
        with self.deciding:
            known.count, known.counted_at, known.took = count, began, clock.monotonic() - began
            known.due_at = began + min(max(_COUNT_SECONDS, _REST * known.took), _LONGEST_REST_SECONDS)
            known.submitted.forget_until(newest)
            known.forget_seen()


@dataclass
class _Known:
    counting: threading.Lock
    count: PartitionCount = field(default_factory=lambda: PartitionCount(now=EPOCH, number=0))
    submitted: Submitted = field(default_factory=Submitted)
    counted_at: float = float("-inf")
    took: float = 0.0
    due_at: float = float("-inf")
    asked_at: float = 0.0

    def forget_seen(self) -> None:
        """Forgets submitted jobs that the count saw while we did not know yet that they were recorded."""
        if len(self.submitted):
            self.submitted.forget_seen({rank_at for rank_at, _ in self.count.marks})


@dataclass
class _Number:
    """Partitions of one client. `new`: admitted first jobs, by partition; `since`: partitions recorded since."""

    counted: int = 0
    due_at: float = float("-inf")
    since: int = 0
    new: Counter[str] = field(default_factory=Counter)
