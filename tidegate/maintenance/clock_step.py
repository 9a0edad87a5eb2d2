"""Repairs after the database's clock was set back: instants in rows that now lie in the future.

Each rule looks at the rows alone, so that any process may do it, and twice.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, case, false, func, or_, select, type_coerce, update

from tidegate.clock import MICROSECOND
from tidegate.database.schema import attempts, deliveries, downstreams, jobs, partitions, samples, stewards, workers
from tidegate.database.time import Instant, statement_now
from tidegate.dispatch.partitions.writes import count_change
from tidegate.dispatch.release import CLAIM_WITHIN
from tidegate.jobs.transitions import IS_POLLED, IS_WAITING
from tidegate.states import State

# A difference that two clocks which agree may show.
_NOTHING = timedelta(seconds=1)
# The longest pause of a lane, and the longest lease of a delivery.
_LONGEST_REST = timedelta(minutes=5)
_LONGEST_SIGN_OF_LIFE = timedelta(seconds=30)


def shows(connection: Connection) -> bool:
    """Whether rows show that the clock was set back: work in the future, or a scheduler's lease that is too long."""
    newest = select(jobs.c.created_at).order_by(jobs.c.id.desc()).limit(1).scalar_subquery()
    is_out = attempts.c.ended_at.is_(None)
    signs = (
        func.coalesce(newest > statement_now(_NOTHING), false()),
        select(attempts.c.job_id).where(is_out, attempts.c.released_at > statement_now(_NOTHING)).exists(),
        select(stewards.c.id).where(stewards.c.seen_until > statement_now(_LONGEST_SIGN_OF_LIFE)).exists(),
    )
    return bool(connection.execute(select(or_(*signs))).scalar_one())


def put_right(connection: Connection, *, lease: timedelta, longest_wait: timedelta) -> int:
    """Repairs the instants in this transaction; returns the number of rows changed.

    `longest_wait`: how long a job waits at most before it is tried again.
    A job that was made in the future may run now; so may one that came back from an attempt and waits for longer than
    that. The caller's own Job-Not-Before stands. Leases and signs of life end one lease from now, places as long after
    now as after their claim.
    """
    changed = 0
    for statement in (
        _waiting(longest_wait),
        update(jobs)
        .where(jobs.c.state == State.RUNNING, jobs.c.lease_until > statement_now(2 * lease))
        .values(lease_until=statement_now(lease)),
        *(
            update(table).where(table.c.seen_until > statement_now(2 * lease)).values(seen_until=statement_now(lease))
            for table in (workers, stewards)
        ),
        _claimed(),
        update(attempts)
        .where(attempts.c.ended_at.is_(None), attempts.c.claimed_at.is_(None))
        .where(attempts.c.place_until > statement_now(2 * CLAIM_WITHIN))
        .values(place_until=statement_now(CLAIM_WITHIN)),
        update(downstreams)
        .where(downstreams.c.paused_until > statement_now(_LONGEST_REST + _NOTHING))
        .values(paused_until=statement_now(_LONGEST_REST)),
        # Its resets are of the clock before. The next answer tells what is left.
        update(downstreams).where(downstreams.c.announced.is_not(None)).values(announced=None),
        update(samples).where(samples.c.taken_at > statement_now(_NOTHING)).values(taken_at=statement_now()),
        *_deliveries(),
    ):
        changed += connection.execute(statement).rowcount
    return changed + _partitions(connection)


def _partitions(connection: Connection) -> int:
    """As of downstreams, for those that refuse by partition; who has copies of these rows reads them anew."""
    rests_longer = partitions.c.rests_until > statement_now(_LONGEST_REST + _NOTHING)
    is_ahead = or_(rests_longer, partitions.c.announced.is_not(None))
    changed = 0
    for (lane,) in connection.execute(
        select(partitions.c.downstream).where(is_ahead).distinct().order_by("downstream")
    ):
        rests_until = case((rests_longer, statement_now(_LONGEST_REST)), else_=partitions.c.rests_until)
        values = {"rests_until": rests_until, "announced": None, "changed": count_change(connection, lane)}
        its = update(partitions).where(partitions.c.downstream == lane, is_ahead)
        changed += connection.execute(its.values(values)).rowcount
    return changed


def _waiting(longest_wait: timedelta) -> Any:
    # Not equality: the run_at of a bulk submit's jobs lie a microsecond apart.
    was_to_go_at_once = _micro(jobs.c.run_at) - _micro(jobs.c.created_at) < _NOTHING // MICROSECOND
    is_new = and_(jobs.c.created_at > statement_now(_NOTHING), was_to_go_at_once)
    # A job that was started once has its Job-Not-Before behind it.
    came_back = and_(jobs.c.started_at.is_not(None), jobs.c.run_at > statement_now(longest_wait))
    # Others wait for its place meanwhile. Its last release says by which clock the next poll was fixed.
    last = and_(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence)
    is_ahead = select(attempts.c.job_id).where(last, attempts.c.released_at > statement_now(_NOTHING)).exists()
    is_polled = and_(IS_POLLED, jobs.c.run_at > statement_now(_NOTHING), is_ahead)
    return update(jobs).where(IS_WAITING, or_(is_new, came_back, is_polled)).values(run_at=statement_now())


def _claimed() -> Any:
    """Moves the instants of open attempts back, so that a dead worker's places are not held for too long."""
    ahead = _micro(attempts.c.claimed_at) - type_coerce(statement_now(), BigInteger)
    # Without a worker it is a place that is kept while its job is polled: until the deadline, which stays.
    is_out = and_(attempts.c.ended_at.is_(None), attempts.c.worker.is_not(None))
    is_ahead = and_(is_out, attempts.c.claimed_at > statement_now(_NOTHING))
    columns = (attempts.c.claimed_at, attempts.c.ends_at, attempts.c.place_until)
    return update(attempts).where(is_ahead).values({c.name: type_coerce(_micro(c) - ahead, Instant()) for c in columns})


def _deliveries() -> Any:
    is_pending = deliveries.c.state == "pending"
    is_new = and_(is_pending, deliveries.c.tries == 0, deliveries.c.created_at > statement_now(_NOTHING))
    is_out = and_(is_pending, deliveries.c.lease_until > statement_now(_LONGEST_REST))
    return (
        update(deliveries).where(is_new, deliveries.c.lease_until.is_(None)).values(run_at=statement_now()),
        update(deliveries).where(is_out).values(run_at=statement_now(), lease_until=statement_now()),
    )


def _micro(instant: ColumnElement[Any]) -> ColumnElement[int]:
    return type_coerce(instant, BigInteger)
