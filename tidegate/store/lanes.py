"""The gate's statements: one lane at a time, under the lock of its downstream's row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from typing import Any

from sqlalchemy import BigInteger, Integer, bindparam, func, select, type_coerce

from tidegate import pacing
from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.database import Database, Within, statement_now
from tidegate.job import Released
from tidegate.models import attempts, downstreams, jobs
from tidegate.operations import Queue
from tidegate.prepared import Prepared
from tidegate.states import State
from tidegate.store import followers
from tidegate.store import pace as lane_pace
from tidegate.store.letting_go import let_go
from tidegate.store.moves import IN_TIME, NOW, lock_rows, take_back_release
from tidegate.store.places import Lane, Room, WaitingJob, has_place, is_kept_apart, lane_of, may_kill_no_other


@dataclass(frozen=True, kw_only=True)
class Due:
    """When a lane next has something to do, in microseconds; `now` is the database's clock at the look."""

    name: str
    queue: str
    next_run_at: int
    paused_until: int
    now: int


def _due() -> Any:
    first = (
        select(jobs.c.run_at, jobs.c.queue)
        .where(jobs.c.downstream == downstreams.c.name, jobs.c.state == State.QUEUED, jobs.c.slot_at.is_(None))
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
    )
    return select(
        downstreams.c.name,
        first.with_only_columns(type_coerce(jobs.c.run_at, BigInteger)).scalar_subquery().label("next_run_at"),
        first.with_only_columns(jobs.c.queue).scalar_subquery().label("queue"),
        func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0).label("paused_until"),
        NOW.label("now"),
    ).where(~downstreams.c.paused)


# Fewer are filled up with one of them.
_QUEUES = [f"one_queue_{number}" for number, _ in enumerate(Queue)]
_DUE = Prepared(_due(), lambda row: Due(**row) if row["next_run_at"] is not None else None)
_FIRST = (
    select(*(jobs.c[name] for name in WaitingJob._fields))
    .where(
        jobs.c.downstream == bindparam("lane"),
        jobs.c.state == State.QUEUED,
        jobs.c.slot_at.is_(None),
        jobs.c.run_at <= statement_now(),
        jobs.c.queue.in_([bindparam(name) for name in _QUEUES]),
        IN_TIME,
        may_kill_no_other(),
    )
    .order_by(jobs.c.run_at, jobs.c.id)
    .limit(bindparam("most", type_=Integer))
)
_WAITING, _WAITING_SQLITE = (
    Prepared(lock_rows(_FIRST, is_sqlite=is_sqlite), lambda row: WaitingJob(**row)) for is_sqlite in (False, True)
)


class LaneStore:
    """Statements about downstreams and the release of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first = _WAITING_SQLITE if database.is_sqlite else _WAITING

    def due(self) -> Sequence[Due]:
        """Every lane with jobs that wait for their release, and the instant of the first. Its cost does not grow
        with the backlog: one look into the index per downstream."""
        return [due for due in self._database.ask_all(_DUE, {}) if due]

    def release(
        self, name: str, room_in: Callable[[Lane], Room], *, horizon: timedelta
    ) -> tuple[list[Released], float | None] | None:
        """Takes slots and lets go as many jobs, in one transaction: all of it happens or nothing.

        `room_in` says how many there is room for. Returns the released jobs and, where a rate holds the rest back, the
        seconds until the next slot. None: another steward holds this lane just now.
        """
        with self._database.asking() as within:
            row = lane_pace.locked(self._database, within, name, wait=False)
            if row is None:
                return None
            lane = lane_of(self._database, within, row)
            if row.paused or row.paused_until > lane.now:
                return [], None
            room = room_in(lane)
            waiting = self._waiting(within, name, room.by_queue)
            paced = [job for job in waiting if not job.paced_by_calls]
            slots, pace = pacing.take(
                lane.allowance, lane.pace, now=lane.now, wanted=len(paced), horizon=horizon // MICROSECOND
            )
            slot_of = {job.id: slot for job, slot in zip(paced, slots, strict=False)}
            slot_of |= {job.id: lane.now for job in waiting if job.paced_by_calls}
            held_back = None
            if len(slots) < len(paced):
                held_back = (pacing.next_slot(lane.allowance, pace, now=lane.now) - lane.now) / 1e6
            now = from_microseconds(lane.now)
            released = [_released(job, from_microseconds(slot_of[job.id]), now) for job in waiting if job.id in slot_of]
            if released:
                let_go(self._database, within, name, released, now=now, pace=pace)
            released += self._let_follow(within, lane, pace, room.idle_threads, released=len(released))
        return released, held_back

    def _let_follow(
        self, within: Within, lane: Lane, pace: pacing.Pace, idle_threads: int, *, released: int
    ) -> Sequence[Released]:
        """Releases the next jobs as followers of the calls that are open. A rate's slot they take at their turn."""
        most = followers.most(lane, idle_threads, released=released)
        before = followers.followed(self._database, within, lane.name, most) if most else []
        if not before:
            return []
        waiting = self._waiting(within, lane.name, {Queue.IO: len(before)})
        now = from_microseconds(lane.now)
        following = [_released(job, now, now) for job in waiting if not is_kept_apart(job)]
        if following:
            let_go(self._database, within, lane.name, following, now=now, pace=pace, follow=before)
        return following

    def held(self) -> dict[str, int]:
        """How many places are taken, by downstream."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(attempts.c.downstream, func.count()).where(has_place()).group_by(attempts.c.downstream)
            )
            return {downstream: int(count) for downstream, count in rows}

    def take_back(self, released: Sequence[Released]) -> None:
        """Undoes releases whose messages were surely not sent; those that were claimed meanwhile stay."""
        with self._database.writing() as connection:
            for job in released:
                take_back_release(connection, job.job_id, job.fence, outcome="not sent")

    def _waiting(self, within: Within, name: str, rooms: Mapping[str, int]) -> Sequence[WaitingJob]:
        left = {str(queue): rooms[queue] for queue in Queue if queue in rooms}  # the queue of webhooks has workers, too
        if not left:
            return []
        waiting: list[WaitingJob] = []
        has_one_apart: set[str] = set()
        queues = dict(zip(_QUEUES, cycle(left), strict=False))
        wanted = {"lane": name, **queues, "most": max(left.values())}
        for job in self._database.ask_all(self._first, wanted, within=within):
            if left[job.queue] <= 0 or (is_kept_apart(job) and job.queue in has_one_apart):
                continue
            waiting.append(job)
            left[job.queue] -= 1
            if is_kept_apart(job):
                has_one_apart.add(job.queue)
        return waiting


def _released(job: WaitingJob, slot_at: datetime, now: datetime) -> Released:
    return Released(
        job_id=job.id,
        fence=job.fence + 1,
        queue=job.queue,
        operation=job.operation,
        slot_at=slot_at,
        deadline=job.deadline,
        waited=max(timedelta(0), now - job.run_at),
        traceparent=job.traceparent,
    )
