"""Statements about when a claimed job may call: takes a new slot, or asks whether a follower's turn has come."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, or_, select, type_coerce, update

from tidegate import clock, rate_limit
from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.database.clock_sync import DatabaseClock
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.dispatch import limiter_row
from tidegate.dispatch.announced import with_one_less
from tidegate.dispatch.lane import Lane
from tidegate.dispatch.partitions.throttle import keep_partition_budgets, read_throttled
from tidegate.dispatch.partitions.writes import keep_own_pace, own_pace
from tidegate.dispatch.places import follows_kept_place, follows_open_call
from tidegate.execution.attempt import Offer, Turn, late_seconds
from tidegate.execution.attempt_times import ends_later
from tidegate.jobs.job import Claim
from tidegate.jobs.own_partition import RESTED_UNTIL, partition_rests
from tidegate.jobs.transitions import IN_TIME, NOW, is_mine

_PAUSED_LOOK_SECONDS = 0.5
# No slot is passed over for being near that lies further ahead than this (microseconds).
_FURTHEST = 250_000
_SLOT = type_coerce(attempts.c.slot_at, BigInteger)


class SlotStore:
    """Statements by which a worker learns when it may call the downstream."""

    def __init__(self, database: Database, database_clock: DatabaseClock) -> None:
        self._database = database
        self._clock = database_clock
        self._write_seconds = 0.0  # how long the last reservation took once it had the lock

    def reserve(self, claim: Claim, *, within: timedelta) -> Offer:
        """Reserves a slot for one call of a claimed job: in place of one that it missed, or for its next call.

        So the calls of workers that stood still do not fall together afterwards. A lane that is paused, and an
        attempt that no longer counts, get none.
        """
        with self._database.transaction() as connection:
            lane = limiter_row.locked(self._database, connection, claim.downstream)
            asked_at = clock.monotonic()
            own_attempt = connection.execute(_own_attempt(claim).where(_counts(claim))).one_or_none()
            if lane is None or own_attempt is None:
                return Offer(counts=False)
            slot, partition, rested_until, now = own_attempt
            self._clock.update(now, asked_at=asked_at, answered_at=clock.monotonic())
            rested_until = max(lane.paused_until, rested_until or 0)
            if lane.paused or rested_until > now:
                return Offer(wait_seconds=max((rested_until - now) / 1e6, _PAUSED_LOOK_SECONDS))
            # The release stands for one call only where the attempt is one.
            throttled = read_throttled(self._database, claim, within=connection) if claim.paced_by_calls else None
            if claim.paced_by_calls and 0 in {lane.announced_room(now, held=0), throttled and throttled.room(now)}:
                return Offer(wait_seconds=_PAUSED_LOOK_SECONDS)
            # It missed this slot, so no call was made at it. If it gets no other, it gives it back with the job.
            is_missed = claim.is_paced and claim.follows is None
            own = own_pace(connection, lane, partition)
            limiters = [
                (allowance, _without([slot] if is_missed else [], allowance, pace, now))
                for allowance, pace in ((lane.allowance, lane.pace), *([own] if own else []))
            ]
            soonest = now + (self._missed_soon(lane) if claim.is_paced else 0)
            at = rate_limit.common_slot(limiters, now=soonest)
            if at > now + within // MICROSECOND or _passes_slots_over(limiters, at, soonest):
                self._settle(connection, lane, now)
                return Offer(wait_seconds=(at - now) / 1e6)
            pace, *own_after = (rate_limit.take_slots(*each, now=at, wanted=1, horizon=0)[1] for each in limiters)
            kept = limiter_row.kept_pace(claim.downstream, pace)
            self._database.execute(limiter_row.KEEP_PACE, kept, within=connection)
            if own and partition:
                keep_own_pace(connection, claim.downstream, partition, (own[0], own_after[0]))
            if claim.paced_by_calls and lane.budgets:
                self._database.execute(
                    limiter_row.KEEP_BUDGETS,
                    limiter_row.kept_budgets(claim.downstream, with_one_less(lane.budgets)),
                    within=connection,
                )
            if throttled and throttled.budgets:
                keep_partition_budgets(connection, claim, throttled, with_one_less(throttled.budgets))
            connection.execute(
                update(attempts)
                .where(_is_of_call(claim))
                .values(slot_at=from_microseconds(at), **(ends_later(at) if claim.is_paced else {}))
            )
        self._write_seconds = clock.monotonic() - asked_at
        late = late_seconds(jitter=lane.jitter, clock_error=self._clock.error)
        return Offer(due=self._clock.due(at), late_seconds=late)

    def postpone(self, claim: Claim, began: float) -> None:
        """Counts a call from the instant at which it began (monotonic), which was late for its slot.

        Slots that are not given yet then keep their distance from it.
        """
        with self._database.transaction() as connection:
            lane = limiter_row.locked(self._database, connection, claim.downstream)
            own_attempt = connection.execute(_own_attempt(claim)).one_or_none()
            if lane and own_attempt:
                slot, partition, _, _ = own_attempt
                pace = rate_limit.postponed(lane.pace, slot, to=self._clock.shown(began))
                kept = limiter_row.kept_pace(claim.downstream, pace)
                self._database.execute(limiter_row.KEEP_PACE, kept, within=connection)
                if partition and (own := own_pace(connection, lane, partition)):
                    later = rate_limit.postponed(own[1], slot, to=self._clock.shown(began))
                    keep_own_pace(connection, claim.downstream, partition, (own[0], later))

    def _missed_soon(self, lane: Lane) -> int:
        """How near a slot is, in microseconds, that its call would miss before this is written; of most lanes 0.

        On a machine that is overloaded it takes longer than a call may be late.
        """
        return max(0, min(_FURTHEST, int(2e6 * self._write_seconds) - lane.allowance.late))

    def _settle(self, connection: Connection, lane: Lane, now: int) -> None:
        """Of a clock that was set back, each look would put the slot off."""
        pace = rate_limit.settle(lane.allowance, lane.pace, now=now)
        if pace.free_at < lane.pace.free_at:
            self._database.execute(limiter_row.KEEP_PACE, limiter_row.kept_pace(lane.name, pace), within=connection)

    def turn(self, claim: Claim) -> Turn:
        """Reads whether an attempt that waits for another's call to end may call now: for when no message came."""
        statement = (
            select(
                or_(limiter_row.RESTS, partition_rests(), follows_kept_place()).label("rests"),
                follows_open_call().label("waits"),
            )
            .select_from(jobs)
            .join(downstreams, downstreams.c.name == jobs.c.downstream)
            .join(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence))
            .where(_counts(claim))
        )
        row = self._database.fetch_one(statement)
        if row is None or row.rests:
            return Turn.NEVER
        return Turn.LATER if row.waits else Turn.NOW


def _without(
    missed: Sequence[int], allowance: rate_limit.Allowance, pace: rate_limit.Pace, now: int
) -> rate_limit.Pace:
    """A limiter's state as if these slots had not been given."""
    return rate_limit.settle(allowance, rate_limit.given_back(pace, missed, spacing=allowance.spacing), now=now)


def _passes_slots_over(limiters: Sequence[tuple[rate_limit.Allowance, rate_limit.Pace]], at: int, now: int) -> bool:
    """Whether the lane's own next slots would be lost to others: no slot is given before one that is promised."""
    lane = limiters[0]
    return bool(lane[0].rates) and at > rate_limit.next_slot(*lane, now=now) + lane[0].spacing


def _is_of_call(claim: Claim) -> Any:
    """Condition: the attempt, and those that are made in the same call."""
    own = and_(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
    if not claim.is_batch:
        return own
    follows = and_(attempts.c.follows_job == claim.job_id, attempts.c.follows_fence == claim.fence)
    return or_(own, and_(follows, attempts.c.batch_id.is_not(None)))


def _own_attempt(claim: Claim) -> Any:
    """SELECT of the attempt's slot, the partition whose turn it took, until when that of its job rests, the time."""
    own = and_(jobs.c.id == claim.job_id, attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
    return select(_SLOT, attempts.c.partition, RESTED_UNTIL, NOW.label("now")).select_from(jobs).join(attempts, own)


def _counts(claim: Claim) -> Any:
    return and_(is_mine(claim), IN_TIME, ~jobs.c.cancel_requested)
