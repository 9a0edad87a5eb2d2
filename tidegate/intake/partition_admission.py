"""Admission control of shared downstreams: by the backlog of the job's own partition, and its share of the pace."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidegate.dispatch.forecast import earliest_finish
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.partitions.cache import PartitionCache
from tidegate.dispatch.partitions.forecast import PartitionCount, partition_lane
from tidegate.dispatch.partitions.view import Where
from tidegate.dispatch.uncounted import Submitted
from tidegate.errors import BacklogFull, CannotFinishInTime, Refusal, TooManyPartitions
from tidegate.intake.submission import PartitionPlace
from tidegate.operations.operation import Operation
from tidegate.operations.sharing import named_by

BACKLOG_RETRY = timedelta(seconds=30)
# The last count decides if the job would be admitted even with so many times as many jobs as we submitted since,
_MARGIN = 8
# and, when it is older than this, with another process's largest bulk submit besides.
_YOUNG_SECONDS = 0.01
_BULK = 1_000
# The last count refuses without a new one for so long, or for so many times as long as counting took.
_REFUSED_FOR_SECONDS = 0.05
_REFUSED_FOR_COUNTS = 4


@dataclass(frozen=True, kw_only=True)
class PartitionWish:
    """One job to decide about. `run_at`: when it may start, by the clock that says `now`; None: at once."""

    operation: Operation
    place: PartitionPlace
    timeout: timedelta
    now: datetime | None = None
    run_at: datetime | None = None

    @property
    def where(self) -> Where:
        """The partition in which it would wait."""
        return Where(self.operation.downstream, self.place.partition)


@dataclass(kw_only=True)
class PartitionAdmission:
    """Decides about the jobs of one request. `max_backlog`: of a partition that has no limit of its own."""

    lanes: LaneCache
    partitions: PartitionCache
    max_backlog: int
    is_bulk: bool
    _let_in: Counter[Where] = field(default_factory=Counter)
    _new: Counter[Where] = field(default_factory=Counter)
    _counted: set[Where] = field(default_factory=set)

    def close(self) -> None:
        """Ends the wait of the admitted jobs: they are recorded, or will not be."""
        with self.partitions.deciding:
            for where, number in self._let_in.items():
                self.partitions.last_known(where)[1].expect(named_by(where.key)[0], -number)
        for where, number in self._new.items():
            self.partitions.expect_partition(where, -number)

    def check(self, wish: PartitionWish) -> None:
        """Raises BacklogFull, TooManyPartitions or CannotFinishInTime; otherwise its place is taken."""
        where = wish.where
        self.partitions.counted(where, anew=self.is_bulk and where not in self._counted)
        self._check_number(where)
        age, took = self.partitions.last_count(where)
        is_exact = self.is_bulk and where in self._counted
        self._counted.add(where)
        others = _BULK if age > _YOUNG_SECONDS else 0
        refusal = self._decide(wish) if is_exact else self._decide(wish, margin=_MARGIN, others=others)
        if refusal and not is_exact:
            if age <= max(_REFUSED_FOR_SECONDS, _REFUSED_FOR_COUNTS * took):
                with self.partitions.deciding:
                    count, uncounted = self.partitions.last_known(where)
                    refusal = self._refusal(wish, count, uncounted)
                if refusal:
                    raise refusal
            self.partitions.counted(where, anew=True)
            refusal = self._decide(wish)
        if refusal:
            raise refusal

    def _check_number(self, where: Where) -> None:
        """Raises TooManyPartitions where this would be one more than the client may have."""
        sharing = self.partitions.sharing(where.lane)
        if sharing is None or sharing.by != "header":
            return
        with self.partitions.deciding:
            count, uncounted = self.partitions.last_known(where)
            is_new = not (count.number or len(uncounted) or uncounted.expected)
        most, client = sharing.max_partitions, named_by(where.key)[0]
        if is_new and self.partitions.number_of(where.lane, client, most=most) >= most:
            raise TooManyPartitions(
                f"jobs of {most} of your partitions wait for {where.lane}, those of another are not taken",
                BACKLOG_RETRY,
            )
        if is_new or self.partitions.is_expected(where):
            self.partitions.expect_partition(where, 1)
            self._new[where] += 1

    def _decide(self, wish: PartitionWish, *, margin: int = 0, others: int = 0) -> Refusal | None:
        with self.partitions.deciding:
            count, uncounted = self.partitions.last_known(wish.where)
            refusal = self._refusal(wish, count, uncounted, margin, others)
            if refusal is None:
                uncounted.expect(named_by(wish.where.key)[0], 1)
                self._let_in[wish.where] += 1
            return refusal

    def _refusal(
        self, wish: PartitionWish, count: PartitionCount, uncounted: Submitted, margin: int = 0, others: int = 0
    ) -> Refusal | None:
        """Why the job is refused; None: it is admitted. `margin`, `others` as in `RequestAdmission`."""
        operation, where = wish.operation, wish.where
        limits = self.partitions.limits_of(where, count)
        beside = margin * (len(uncounted) + uncounted.expected + 1) + others
        most = limits.max_backlog or self.max_backlog
        if count.number + len(uncounted) + uncounted.expected + beside >= most:
            return BacklogFull(
                f"{most} jobs of this partition wait for {operation.downstream}, more are not taken", BACKLOG_RETRY
            )
        lane = self.lanes.view(operation.downstream) or self.lanes.last_known(operation.downstream)[0]
        if not operation.admission or lane is None:
            return None
        now = wish.now or lane.downstream.seen_at
        run_at = wish.run_at or now
        rank_at = max(run_at, count.now) + wish.place.behind
        before = uncounted.before(rank_at) if wish.run_at else uncounted.before_next(rank_at)
        finish = earliest_finish(
            partition_lane(lane, count, limits, rank_at),
            run_at,
            before + uncounted.expected + beside,
            queue=operation.queue,
            longest_run=operation.attempt_timeout,
        )
        if finish is None or finish <= now + wish.timeout:
            return None
        is_paused = lane.downstream.paused or count.paused
        raised = "paused, and busy" if is_paused else "busy"
        return CannotFinishInTime(
            f"{operation.downstream} is {raised}: it would not be done within its {wish.timeout.total_seconds():g} s",
            retry_after=finish - now - wish.timeout,
            earliest_finish=finish,
        )
