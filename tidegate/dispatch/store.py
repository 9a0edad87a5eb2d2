"""The gate's statements: find the lanes that are due, and release jobs of one lane under the lock of its row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, func, select, type_coerce

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database, Within
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.dispatch import limiter_row as lane_pace
from tidegate.dispatch import prefetch
from tidegate.dispatch.due_jobs import first_waiting
from tidegate.dispatch.lane import Lane, Room, is_kept_apart
from tidegate.dispatch.optimistic import release_few
from tidegate.dispatch.places import counted, has_place, lane_of
from tidegate.dispatch.plan import Choice, chosen, released_at
from tidegate.dispatch.release import let_go
from tidegate.dispatch.undo_release import take_back
from tidegate.jobs.job import Released
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.operations.operation import Queue


@dataclass(frozen=True, kw_only=True)
class Due:
    """A lane that has queued jobs: when the first may run, in microseconds; `now` is the database's clock."""

    name: str
    queue: str
    next_run_at: int
    paused_until: int
    now: int


def _due() -> Any:
    first = (
        select(jobs.c.run_at, jobs.c.queue)
        .where(jobs.c.downstream == downstreams.c.name, IS_WAITING)
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


_DUE = Prepared(_due(), lambda row: Due(**row) if row["next_run_at"] is not None else None)


class LaneStore:
    """Statements on downstreams and the release of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self) -> Sequence[Due]:
        """Every lane with queued jobs, and when the first of each may run.

        Its cost does not grow with the backlog: one index step for each downstream.
        """
        return [due for due in self._database.ask_all(_DUE, {}) if due]

    def release(
        self, name: str, room_in: Callable[[Lane], Room], *, horizon: timedelta, are_few: bool = False
    ) -> tuple[Sequence[Released], float | None] | None:
        """Takes slots and releases as many jobs of one lane: those that are returned have both, no other has either.

        `room_in` says how many there is room for. Returns the released jobs and, where a rate holds the rest back, the
        seconds until the next slot. None: another scheduler holds this lane just now. `are_few`: only few jobs are
        expected to wait, and with PostgreSQL they go without the lane's lock, in two round trips instead of six; the
        slot of one that another moved meanwhile is lost.
        """
        if are_few and not self._database.is_sqlite:
            released = release_few(self._database, name, room_in, horizon=horizon)
            if released is not None:
                return released
        with self._database.asking() as within:
            row = lane_pace.locked(self._database, within, name, wait=False)
            if row is None:
                return None
            lane = lane_of(row, counted(self._database, within))
            if row.paused or row.paused_until > lane.now:
                return [], None
            room = room_in(lane)
            choice = chosen(lane, first_waiting(self._database, within, name, room.by_queue), horizon=horizon)
            if choice.released:
                now = from_microseconds(lane.now)
                let_go(self._database, within, name, choice.released, now=now, pace=choice.pace)
            following = self._let_follow(within, lane, choice, room.idle_threads)
        return [*choice.released, *following], choice.held_back

    def _let_follow(self, within: Within, lane: Lane, choice: Choice, idle_threads: int) -> Sequence[Released]:
        """Releases the next jobs as followers of open calls. They take a rate's slot when their turn comes."""
        most = prefetch.most(lane, idle_threads, released=len(choice.released))
        before = prefetch.followed(self._database, within, lane.name, most) if most else []
        if not before:
            return []
        waiting = first_waiting(self._database, within, lane.name, {Queue.IO: len(before)})
        now = from_microseconds(lane.now)
        following = [released_at(job, now, now) for job in waiting if not is_kept_apart(job)]
        if following:
            let_go(self._database, within, lane.name, following, now=now, pace=choice.pace, follow=before)
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
            take_back(self._database, connection, [(job.job_id, job.fence) for job in released], outcome="not sent")
