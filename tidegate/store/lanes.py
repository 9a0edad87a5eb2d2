"""The gate's statements: one lane at a time, under the lock of its downstream's row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    case,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from tidegate import clock, pacing
from tidegate.clock import from_microseconds
from tidegate.database import Database, Instant, database_now
from tidegate.job import Claim, Released
from tidegate.models import attempts, downstreams, jobs
from tidegate.states import State
from tidegate.store.limits import allowance_of
from tidegate.store.moves import IN_TIME, NOW, is_mine, lock_rows, take_back_release
from tidegate.store.places import Lane, is_held, is_kept_apart, lane_of, may_kill_no_other

_PAUSED_LOOK_SECONDS = 0.5
# With the sweep's own second a lost message is made good within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Due:
    """When a lane next has something to do, in microseconds; `now` is the database's clock at the look."""

    name: str
    queue: str
    next_run_at: int
    paused_until: int
    now: int


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A slot at `due` of this process's monotonic clock; or none, and how long until another may be had.

    `counts` False: the attempt no longer counts and must stop.
    """

    due: float | None = None
    wait_seconds: float = 0.0
    counts: bool = True


class LaneStore:
    """Statements about downstreams and the release of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self) -> Sequence[Due]:
        """Every lane with jobs that wait for their release, and the instant of the first. Its cost does not grow
        with the backlog: one look into the index per downstream."""
        first = (
            select(jobs.c.run_at, jobs.c.queue)
            .where(jobs.c.downstream == downstreams.c.name, jobs.c.state == State.QUEUED, jobs.c.slot_at.is_(None))
            .order_by(jobs.c.run_at, jobs.c.id)
            .limit(1)
        )
        columns = select(
            downstreams.c.name,
            first.with_only_columns(type_coerce(jobs.c.run_at, BigInteger)).scalar_subquery().label("next_run_at"),
            first.with_only_columns(jobs.c.queue).scalar_subquery().label("queue"),
            func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0).label("paused_until"),
            NOW.label("now"),
        ).where(~downstreams.c.paused)
        with self._database.reading() as connection:
            rows = connection.execute(columns).all()
        return [
            Due(name=row.name, queue=row.queue, next_run_at=row.next_run_at, paused_until=row.paused_until, now=row.now)
            for row in rows
            if row.next_run_at is not None
        ]

    def release(
        self, name: str, rooms: Callable[[Lane], Mapping[str, int]], *, horizon: timedelta
    ) -> tuple[list[Released], float | None] | None:
        """Takes slots and lets go as many jobs, in one transaction: all of it happens or nothing.

        `rooms` says for how many there are places, by queue. Returns the released jobs and, where a rate holds the rest
        back, the seconds until the next slot. None: another steward holds this lane just now.
        """
        with self._database.writing() as connection:
            row = connection.execute(_locked(name, self._database.is_sqlite, wait=False)).one_or_none()
            if row is None:
                return None
            lane = lane_of(connection, row)
            if row.paused or (row.paused_until or 0) > lane.now:
                return [], None
            waiting = self._waiting(connection, name, rooms(lane))
            paced = [job for job in waiting if not job.paced_by_calls]
            slots, pace = pacing.take(
                lane.allowance, lane.pace, now=lane.now, wanted=len(paced), horizon=horizon // _MICROSECOND
            )
            slot_of = {job.id: slot for job, slot in zip(paced, slots, strict=False)}
            slot_of |= {job.id: lane.now for job in waiting if job.paced_by_calls}
            held_back = None
            if len(slots) < len(paced):
                held_back = (pacing.next_slot(lane.allowance, pace, now=lane.now) - lane.now) / 1e6
            released = [
                Released(
                    job_id=job.id,
                    fence=job.fence + 1,
                    queue=job.queue,
                    operation=job.operation,
                    slot_at=from_microseconds(slot_of[job.id]),
                    deadline=job.deadline,
                )
                for job in waiting
                if job.id in slot_of
            ]
            if released:
                _let_go(connection, name, released, from_microseconds(lane.now))
                _keep_pace(connection, name, pace, released=len(released))
        return released, held_back

    def held(self) -> dict[str, int]:
        """How many places are taken, by downstream."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(attempts.c.downstream, func.count()).where(is_held()).group_by(attempts.c.downstream)
            )
            return {downstream: int(count) for downstream, count in rows}

    def take_slot(self, claim: Claim, *, within: timedelta) -> Offer:
        """A slot for one call of a claimed job: in place of one that it missed, or for its next call.

        So the calls of workers that stood still do not fall together afterwards. A lane that is paused, and an
        attempt that no longer counts, get none.
        """
        with self._database.writing() as connection:
            row = connection.execute(_locked(claim.downstream, self._database.is_sqlite, wait=True)).one()
            counts = select(jobs.c.id).where(is_mine(claim), IN_TIME, ~jobs.c.cancel_requested)
            if connection.execute(counts).one_or_none() is None:
                return Offer(counts=False)
            now, at = _now(connection), clock.monotonic()
            if row.paused or (row.paused_until or 0) > now:
                return Offer(wait_seconds=max(((row.paused_until or 0) - now) / 1e6, _PAUSED_LOOK_SECONDS))
            allowance = allowance_of(orjson.loads(row.rates), row.burst)
            pace = pacing.Pace.from_json(orjson.loads(row.pace))
            slots, pace = pacing.take(allowance, pace, now=now, wanted=1, horizon=within // _MICROSECOND)
            if not slots:
                return Offer(wait_seconds=(pacing.next_slot(allowance, pace, now=now) - now) / 1e6)
            _keep_pace(connection, claim.downstream, pace, released=0)
            connection.execute(
                update(attempts)
                .where(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
                .values(slot_at=from_microseconds(slots[0]), **(_ends_later(slots[0]) if claim.is_paced else {}))
            )
        return Offer(due=at + (slots[0] - now) / 1e6)

    def take_back(self, released: Sequence[Released]) -> None:
        """Undoes releases whose messages were surely not sent; those that were claimed meanwhile stay."""
        with self._database.writing() as connection:
            for job in released:
                take_back_release(connection, job.job_id, job.fence, outcome="not sent")

    def _waiting(self, connection: Connection, name: str, rooms: Mapping[str, int]) -> Sequence[Any]:
        if not rooms:
            return []
        statement = (
            select(
                *(
                    jobs.c[name]
                    for name in ("id", "fence", "queue", "operation", "deadline", "paced_by_calls", "losses")
                )
            )
            .where(
                jobs.c.downstream == name,
                jobs.c.state == State.QUEUED,
                jobs.c.slot_at.is_(None),
                jobs.c.run_at <= database_now(),
                jobs.c.queue.in_(rooms),
                IN_TIME,
                may_kill_no_other(),
            )
            .order_by(jobs.c.run_at, jobs.c.id)
            .limit(max(rooms.values()))
        )
        left = dict(rooms)
        waiting: list[Any] = []
        has_one_apart: set[str] = set()
        for job in connection.execute(lock_rows(statement, is_sqlite=self._database.is_sqlite)):
            if left[job.queue] <= 0 or (is_kept_apart(job) and job.queue in has_one_apart):
                continue
            waiting.append(job)
            left[job.queue] -= 1
            if is_kept_apart(job):
                has_one_apart.add(job.queue)
        return waiting


def _ends_later(slot: int) -> dict[str, Any]:
    """Values of an attempt that begins at this slot in place of its own: it has its whole time from there."""
    claimed_late = attempts.c.claimed_at > attempts.c.slot_at
    moved_by = slot - type_coerce(case((claimed_late, attempts.c.claimed_at), else_=attempts.c.slot_at), BigInteger)
    return {
        column.name: type_coerce(type_coerce(column, BigInteger) + moved_by, Instant())
        for column in (attempts.c.ends_at, attempts.c.place_until)
    }


def _locked(name: str, is_sqlite: bool, *, wait: bool) -> Any:
    columns = select(
        downstreams.c.name,
        downstreams.c.rates,
        downstreams.c.burst,
        downstreams.c.concurrency,
        downstreams.c.breaker_after,
        downstreams.c.failures,
        downstreams.c.pace,
        downstreams.c.paused,
        type_coerce(downstreams.c.paused_until, BigInteger).label("paused_until"),
    ).where(downstreams.c.name == name)
    return columns if is_sqlite else columns.with_for_update(skip_locked=not wait)


def _let_go(connection: Connection, downstream: str, released: Sequence[Released], now: datetime) -> None:
    connection.execute(
        update(jobs)
        .where(jobs.c.id == bindparam("job"))
        .values(fence=bindparam("next_fence"), slot_at=bindparam("slot"), waits_for=None),
        [{"job": job.job_id, "next_fence": job.fence, "slot": job.slot_at} for job in released],
    )
    connection.execute(
        insert(attempts),
        [
            {
                "job_id": job.job_id,
                "fence": job.fence,
                "downstream": downstream,
                "queue": job.queue,
                "released_at": now,
                "slot_at": job.slot_at,
                "place_until": now + CLAIM_WITHIN,
            }
            for job in released
        ],
    )


def _now(connection: Connection) -> int:
    now: int = connection.execute(select(NOW)).scalar_one()
    return now


def _keep_pace(connection: Connection, name: str, pace: pacing.Pace, *, released: int) -> None:
    connection.execute(
        update(downstreams)
        .where(downstreams.c.name == name)
        .values(pace=orjson.dumps(pace.as_json()).decode(), released=downstreams.c.released + released)
    )
