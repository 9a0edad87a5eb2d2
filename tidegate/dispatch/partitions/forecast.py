"""Estimates for a job of a shared lane: its place in its own partition, and what others make before it. Pure."""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from tidegate import rate_limit
from tidegate.clock import from_microseconds, to_microseconds
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.forecast import waiting_of
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.partitions.partition import own_allowance
from tidegate.dispatch.sample import Mark
from tidegate.jobs.job import TOGETHER, Job, Wait, Waiting
from tidegate.operations.limits import Limits
from tidegate.operations.sharing import PartitionLimits, Sharing


@dataclass(frozen=True, kw_only=True)
class PartitionCount:
    """One look at a partition. `number`: jobs that wait in it; `marks`: (rank_at, jobs before it), rising.

    `opened`: its calls that are open. `changes`: the operator's; `rests_until`: by the downstream's answers, None: it
    does not. `among`: the clients of the lane, `within`: the partitions of its client, as sampled; None: it is alone
    there, as far as is known.
    """

    now: datetime
    number: int
    marks: tuple[Mark, ...] = ()
    opened: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    rests_until: datetime | None = None
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)
    among: Crowd | None = None
    within: Crowd | None = None

    def before(self, rank_at: datetime) -> int:
        """How many of its jobs go before one of this rank."""
        ranks = [at for at, _ in self.marks]
        after = bisect.bisect_left(ranks, rank_at)
        if after == len(ranks):
            return self.number
        if not after:
            return 0
        (left, low), (right, high) = self.marks[after - 1 : after + 1]
        first = min(low + 1, high)
        return first + int((rank_at - left) / (right - left) * (high - first))


@dataclass(frozen=True, kw_only=True)
class PartitionLane(LaneView):
    """A shared lane as one partition has it: positions are its own, and others' turns lie between its calls.

    `own_limits`: those in force; `rank_at`: that of the job that is asked for.
    """

    count: PartitionCount
    own_limits: PartitionLimits
    rank_at: datetime

    def backlog_of(self, client_id: str) -> int:  # noqa: ARG002 - it is of the partition
        """How many jobs wait in the partition; whose they are it does not matter."""
        return self.count.number

    def position_of(self, run_at: datetime, behind: int = 0) -> int:  # noqa: ARG002 - its rank says it
        """How many jobs of the partition go before it, with `behind` of them that the count has not seen."""
        return self.count.before(self.rank_at) + behind

    def calls_before(self, position: int) -> int:
        """How many calls the lane makes before a job that so many others of its partition precede.

        Each client makes one in a round, each partition of a client as many as its weight, as long as there are jobs;
        where others are in their round is not known: half of it.
        """
        own = self.calls_for(position)
        of_client = self._with_others(self.count.within, own + 0.5, self.own_limits.weight, self.count.number > 0)
        is_sampled = self.count.number > 0 or self.count.within is not None
        of_all = self._with_others(self.count.among, of_client, 1.0, is_sampled)
        return max(own, math.floor(of_all))

    def finds_free_place(self, queue: str, position: int) -> bool:
        """As that of the whole lane; and no limit of its own holds it."""
        now = self.downstream.seen_at
        if self._waits_for_own_place(position) or self._own_slot_at > now or self._rests_at(now):
            return False
        return self._whole.finds_free_place(queue, self.calls_before(position))

    def start_if_resumed(
        self,
        run_at: datetime,
        now: datetime,
        *,
        queue: str | None,
        behind: int,
        marks: Any = (),  # noqa: ARG002 - its rank says what goes before it
    ) -> datetime | None:
        """When its job will be released, were the downstream, and the partition, resumed now; None: can't be told."""
        position = self.position_of(run_at, behind)
        by_share = self._whole.start_if_resumed(run_at, now, queue=queue, behind=self.calls_before(position))
        return by_share and max(by_share, self.start_by_own_limits(run_at, now, position))

    def start_of(self, run_at: datetime, now: datetime, **given: Any) -> datetime | None:
        """As for the whole lane; None too where the partition is paused."""
        return None if self.count.paused else super().start_of(run_at, now, **given)

    def start_by_own_limits(self, run_at: datetime, now: datetime, position: int) -> datetime:
        """When it could go by what its partition may have beneath the downstream's limits."""
        start = max(run_at, now, self.count.rests_until or now)
        if self.own_limits.rates:
            limits = Limits(name=self.downstream.name, rates=self.own_limits.rates, burst=self.own_limits.burst)
            own = replace(
                Downstream.as_declared(limits, self.downstream.seen_at),
                pace=self.count.pace,
                next_slot_at=self._own_slot_at,
                paused_until=self.count.rests_until,
            )
            start = LaneView(downstream=own).start_of(run_at, now, behind=self.calls_for(position)) or start
        if (most := self.own_limits.most_open) and self._waits_for_own_place(position):
            before = self.count.opened + self.calls_for(position) - most
            start = max(start, now + self.run_time * ((before + 1) / most))
        return start

    def reason_of(self, run_at: datetime, now: datetime, position: int, usual: Wait) -> Wait:
        """Why a job waits that the whole lane holds back no more than others. `usual`: the lane's own reason."""
        if self.count.paused or self._rests_at(now):
            return Wait.PAUSED
        if self.own_limits.is_strict and self._waits_for_own_place(position):
            return Wait.PARTITION_ORDER
        own, before = self.calls_for(position), self.calls_before(position)
        by_share = self._whole.start_of(run_at, now, behind=before)
        if self._waits_for_own_place(position) and (not own or self.run_time > TOGETHER):
            return Wait.PARTITION_CONCURRENCY
        if self.own_limits.rates and self.start_by_own_limits(run_at, now, position) > max(by_share or now, now):
            return Wait.PARTITION_PACE
        return Wait.SHARE if before - own > own else usual

    @staticmethod
    def _with_others(crowd: Crowd | None, own: float, weight: float, is_sampled: bool) -> float:
        """The calls of all while one makes its `own`. `is_sampled`: the crowd has it among the others."""
        if crowd is None:
            return own
        return max(own, crowd.calls_by(own / weight) + (0.0 if is_sampled else own))

    def _waits_for_own_place(self, position: int) -> bool:
        most = self.own_limits.most_open
        return most is not None and self.count.opened + self.calls_for(position) >= most

    def _rests_at(self, now: datetime) -> bool:
        return self.count.rests_until is not None and self.count.rests_until > now

    @cached_property
    def _own_slot_at(self) -> datetime:
        if not self.own_limits.rates:
            return self.downstream.seen_at
        allowance = own_allowance(self.own_limits, self.downstream.limits.jitter)
        return from_microseconds(
            rate_limit.next_slot(allowance, self.count.pace, now=to_microseconds(self.downstream.seen_at))
        )

    @cached_property
    def _whole(self) -> LaneView:
        """The lane without its line: what goes before a job is given in calls, not looked up in the lane's order."""
        released, companions = self.downstream.released, self.downstream.companions
        sample = self.sample and replace(self.sample, marks=(), released=released, companions=companions, fill=1.0)
        return LaneView(
            downstream=self.downstream,
            sample=sample,
            sampled_at=self.sampled_at,
            worker_sizes=self.worker_sizes,
            held_in_all=self.held_in_all,
        )


def partition_lane(lane: LaneView, count: PartitionCount, limits: PartitionLimits, rank_at: datetime) -> PartitionLane:
    """A lane as a job of this rank has it, in a partition with these limits in force."""
    return PartitionLane(
        downstream=lane.downstream,
        sample=lane.sample,
        sampled_at=lane.sampled_at,
        worker_sizes=lane.worker_sizes,
        held_in_all=lane.held_in_all,
        declared_fill=lane.declared_fill,
        count=count,
        own_limits=limits,
        rank_at=rank_at,
    )


def rank_of(job: Job, sharing: Sharing, limits: PartitionLimits) -> datetime:
    """Where a job stands in its partition, as its row says."""
    if not limits.is_strict:
        return job.run_at + job.priority * sharing.priority_step
    return job.run_at if job.run_at - job.created_at < TOGETHER else job.created_at


def waiting_in_partition(job: Job, lane: PartitionLane, behind: int, *, is_known: bool) -> Waiting | None:
    """As `waiting_of`, for a job of a shared lane."""
    waiting = waiting_of(job, lane, behind, is_known=is_known)
    if waiting is None or waiting.reason not in {Wait.PACE, Wait.CONCURRENCY} or waiting.position is None:
        return waiting
    return replace(waiting, reason=lane.reason_of(job.run_at, job.seen_at, waiting.position, waiting.reason))
