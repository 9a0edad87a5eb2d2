"""Statements about when a claimed job may call: takes a new slot, or asks whether a follower's turn has come."""

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, case, func, or_, select, type_coerce, update

from tidegate import clock, rate_limit
from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.time import Instant
from tidegate.dispatch import limiter_row as lane_pace
from tidegate.dispatch.places import follows_open_call
from tidegate.execution.attempt import Offer, Turn
from tidegate.jobs.job import Claim
from tidegate.jobs.transitions import IN_TIME, NOW, is_mine

_PAUSED_LOOK_SECONDS = 0.5


class SlotStore:
    """Statements by which a worker learns when it may call the downstream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, claim: Claim, *, within: timedelta) -> Offer:
        """Reserves a slot for one call of a claimed job: in place of one that it missed, or for its next call.

        So the calls of workers that stood still do not fall together afterwards. A lane that is paused, and an
        attempt that no longer counts, get none.
        """
        with self._database.transaction() as connection:
            lane = lane_pace.locked(self._database, connection, claim.downstream)
            if lane is None or connection.execute(select(jobs.c.id).where(_counts(claim))).one_or_none() is None:
                return Offer(counts=False)
            now, at = _now(connection), clock.monotonic()
            if lane.rests(now):
                return Offer(wait_seconds=max((lane.paused_until - now) / 1e6, _PAUSED_LOOK_SECONDS))
            slots, pace = rate_limit.take_slots(
                lane.allowance, lane.pace, now=now, wanted=1, horizon=within // MICROSECOND
            )
            kept = lane_pace.kept_pace(claim.downstream, pace)
            if not slots:
                if pace.free_at < lane.pace.free_at:  # of a clock that was set back: else each look would put it off
                    self._database.execute(lane_pace.KEEP_PACE, kept, within=connection)
                return Offer(wait_seconds=(rate_limit.next_slot(lane.allowance, pace, now=now) - now) / 1e6)
            self._database.execute(lane_pace.KEEP_PACE, kept, within=connection)
            connection.execute(
                update(attempts)
                .where(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
                .values(slot_at=from_microseconds(slots[0]), **(_ends_later(slots[0]) if claim.is_paced else {}))
            )
        return Offer(due=at + (slots[0] - now) / 1e6)

    def turn(self, claim: Claim) -> Turn:
        """Reads whether an attempt that waits for another's call to end may call now: for when no message came."""
        rests = or_(downstreams.c.paused, func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0) > NOW)
        statement = (
            select(rests.label("rests"), follows_open_call().label("waits"))
            .select_from(jobs)
            .join(downstreams, downstreams.c.name == jobs.c.downstream)
            .join(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence))
            .where(_counts(claim))
        )
        row = self._database.fetch_one(statement)
        if row is None or row.rests:
            return Turn.NEVER
        return Turn.LATER if row.waits else Turn.NOW


def _counts(claim: Claim) -> Any:
    return and_(is_mine(claim), IN_TIME, ~jobs.c.cancel_requested)


def _ends_later(slot: int) -> dict[str, Any]:
    """Moves the end of an attempt that begins at this slot in place of its own, so that it has its whole timeout."""
    claimed_late = attempts.c.claimed_at > attempts.c.slot_at
    moved_by = slot - type_coerce(case((claimed_late, attempts.c.claimed_at), else_=attempts.c.slot_at), BigInteger)
    return {
        column.name: type_coerce(type_coerce(column, BigInteger) + moved_by, Instant())
        for column in (attempts.c.ends_at, attempts.c.place_until)
    }


def _now(connection: Connection) -> int:
    now: int = connection.execute(select(NOW)).scalar_one()
    return now
