"""Admission control: refuses a job that could not be done in time, or for which there is no room."""

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeAlias

from tidegate import clock
from tidegate.dispatch.forecast import earliest_finish
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.cache import PartitionCache
from tidegate.dispatch.uncounted import Submitted
from tidegate.errors import BacklogFull, CannotFinishInTime, Refusal, Unavailable
from tidegate.intake.partition_admission import BACKLOG_RETRY, PartitionAdmission, PartitionWish
from tidegate.intake.submission import PartitionPlace
from tidegate.jobs.job import Job
from tidegate.operations.operation import Operation

_DISK_RETRY = timedelta(minutes=1)
_DISK_LOOK_SECONDS = 5.0
_DISK_FULL = 0.9
# The last count decides if the job would be admitted even with so many times as many jobs as we submitted since,
_MARGIN = 8
# and, when it is older than this, with another process's largest bulk submit besides.
_YOUNG_SECONDS = 0.01
_BULK = 1_000
# The last count refuses without a new one for so long, or for so many times as long as counting took.
_REFUSED_FOR_SECONDS = 0.05
_REFUSED_FOR_COUNTS = 4


class Disk:
    """The free space of the data folder's disk, read every few seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = float("-inf")
        self._left: int | None = None

    def left(self) -> int | None:
        """Bytes until 90 % of the disk is used: the database needs the rest to bring accepted jobs to their end.

        None: there is no such folder yet; the database will say what is wrong.
        """
        if clock.monotonic() - self._looked_at > _DISK_LOOK_SECONDS:
            try:
                usage = shutil.disk_usage(self._folder)
            except OSError:
                return None
            self._left = max(0, int(usage.total * _DISK_FULL) - usage.used)
            self._looked_at = clock.monotonic()
        return self._left


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The rules of admission. `max_backlog`: queued jobs of one client, or partition, in one lane.

    `disk` None: not on our disk.
    """

    lanes: LaneCache
    partitions: PartitionCache
    max_backlog: int
    disk: Disk | None = None

    def submitted(self, *jobs: Job) -> None:
        """Notes jobs that were recorded together: they go before what comes, whether or not a count has seen them."""
        self.lanes.submitted(*jobs)
        self.partitions.submitted(*jobs)

    def request(self, jobs: int) -> "RequestAdmission":
        """Opens the admission control of one request, which submits so many jobs."""
        return RequestAdmission(self, is_bulk=jobs > 1)


@dataclass(frozen=True, kw_only=True)
class Later:
    """When a job with Job-Not-Before may start: not before `run_at`, as asked for at `now`; the database's clock."""

    now: datetime
    run_at: datetime


class RequestAdmission:
    """Admission control for the jobs of one request, one after the other.

    Those that it admits count for every other request of this process until the end of the block: by then they are
    recorded, or will not be.
    It decides by a count of the lane's jobs. The last one, up to a second old, does if the job would be admitted even
    with a bulk submit of another process and eight times as many jobs as this process submitted since before it; else
    the lane is counted at once. A request for many jobs counts it first.
    """

    def __init__(self, admission: Admission, *, is_bulk: bool) -> None:
        self._rules = admission
        self._lanes = admission.lanes
        self._is_bulk = is_bulk
        self._counted: set[str] = set()
        self._let_in: dict[tuple[str, str], int] = {}  # by lane and client
        self._shared = PartitionAdmission(
            lanes=admission.lanes,
            partitions=admission.partitions,
            max_backlog=admission.max_backlog,
            is_bulk=is_bulk,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lanes.deciding:
            for (lane, client_id), number in self._let_in.items():
                self._lanes.last_known(lane)[1].expect(client_id, -number)
        self._shared.close()

    def check(
        self,
        operation: Operation,
        *,
        client_id: str,
        timeout: timedelta,
        later: Later | None,
        place: PartitionPlace | None = None,
    ) -> None:
        """Raises Unavailable, BacklogFull, TooManyPartitions or CannotFinishInTime.

        `later`: when the job may start at the earliest; None: at once. `place`: where its downstream is shared, its
        partition. Exact but for what other processes are about to record this moment.
        """
        if self._rules.disk and self._rules.disk.left() == 0:
            raise Unavailable("the data disk is 90 % full", _DISK_RETRY)
        if place:
            when = {"now": later.now, "run_at": later.run_at} if later else {}
            self._shared.check(PartitionWish(operation=operation, place=place, timeout=timeout, **when))
            return
        wish = (operation, client_id, timeout, later)
        lane = operation.downstream
        if self._is_bulk:
            if lane not in self._counted:
                self._lanes.counted(lane, anew=True)
                self._counted.add(lane)
            refusal = self._decide(wish)
        else:
            self._lanes.counted(lane)
            refusal = self._decide_by_last_count(wish)
        if refusal:
            raise refusal

    def _decide_by_last_count(self, wish: "_Wish") -> Refusal | None:
        """Decides by the last count, or by a new one where that may decide otherwise."""
        lane = wish[0].downstream
        age, took = self._lanes.last_count(lane)
        if self._decide(wish, margin=_MARGIN, others=_BULK if age > _YOUNG_SECONDS else 0) is None:
            return None
        if age <= max(_REFUSED_FOR_SECONDS, _REFUSED_FOR_COUNTS * took):
            with self._lanes.deciding:
                refusal = self._refusal(wish, *self._lanes.last_known(lane))
            if refusal:
                return refusal
        self._lanes.counted(lane, anew=True)
        return self._decide(wish)

    def _decide(self, wish: "_Wish", *, margin: int = 0, others: int = 0) -> Refusal | None:
        operation, client_id, *_ = wish
        with self._lanes.deciding:
            lane, uncounted = self._lanes.last_known(operation.downstream)
            refusal = self._refusal(wish, lane, uncounted, margin, others)
            if refusal is None:
                uncounted.expect(client_id, 1)
                which = operation.downstream, client_id
                self._let_in[which] = self._let_in.get(which, 0) + 1
            return refusal

    def _refusal(
        self, wish: "_Wish", lane: LaneView | None, uncounted: Submitted, margin: int = 0, others: int = 0
    ) -> Refusal | None:
        """Why the job is refused; None: it is admitted.

        `margin`: so many times what the count has not seen, and `others`, may come beside it.
        """
        if lane is None:
            return None
        operation, client_id, timeout, later = wish
        beside = margin * (len(uncounted) + uncounted.expected + 1) + others
        if lane.backlog_of(client_id) + uncounted.of_client(client_id) + beside >= self._rules.max_backlog:
            return BacklogFull(
                f"{self._rules.max_backlog} of your jobs wait for {operation.downstream}, more are not taken",
                BACKLOG_RETRY,
            )
        if not operation.admission:
            return None
        # With Job-Not-Before `now` is of the same clock reading as run_at, not of the sample, which is older.
        now = later.now if later else lane.downstream.seen_at
        before = uncounted.before(later.run_at) if later else uncounted.before_next(now)
        finish = earliest_finish(
            lane,
            later.run_at if later else now,
            before + uncounted.expected + beside,
            queue=operation.queue,
            longest_run=operation.attempt_timeout,
        )
        if finish is None or finish <= now + timeout:
            return None
        state = "paused, and busy" if lane.downstream.paused else "busy"
        return CannotFinishInTime(
            f"{operation.downstream} is {state}: it would not be done within its {timeout.total_seconds():g} seconds",
            retry_after=finish - now - timeout,
            earliest_finish=finish,
        )


_Wish: TypeAlias = tuple[Operation, str, timedelta, Later | None]
"""One job to decide about: operation, client, timeout, when."""
