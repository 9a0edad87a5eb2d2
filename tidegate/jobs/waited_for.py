"""SQL of what a job waited for when its deadline came: found by its downstream, its workers, its partition and the last
sample, which are all others by the time that somebody asks."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, exists, func, literal, or_, select, type_coerce, union_all

from tidegate.clock import MICROSECOND
from tidegate.database.schema import attempts, downstreams, jobs, partitions, samples, workers
from tidegate.database.time import database_now
from tidegate.jobs.job import TOGETHER, Wait
from tidegate.jobs.own_partition import of_partition, partition_rests
from tidegate.jobs.transitions import NOW, ended, stored_wait
from tidegate.states import State

# So many jobs of its own partition, and of the others, are counted: whoever stands so far behind has waited for them.
_COUNTED = 100


def expired() -> dict[str, Any]:
    """Values of an UPDATE that expires a job, with what a queued one waited for when its deadline came."""
    return {**ended(State.EXPIRED), "waits_for": _waited_for()}


def _waited_for() -> ColumnElement[Any]:
    """What a job waits for at this moment, told as `waiting.reason` is; NULL: it runs."""
    its_lane = downstreams.c.name == jobs.c.downstream
    is_broken = downstreams.c.breaker_after.between(1, downstreams.c.failures)
    is_full = samples.c.held >= downstreams.c.concurrency
    later_by = type_coerce(jobs.c.run_at, BigInteger) - type_coerce(jobs.c.created_at, BigInteger)
    is_for_later = and_(jobs.c.started_at.is_(None), later_by > TOGETHER // MICROSECOND)
    reasons: Sequence[tuple[ColumnElement[bool], Wait]] = (
        (jobs.c.slot_at.is_not(None), Wait.DISPATCH),
        (and_(jobs.c.run_at > jobs.c.deadline, jobs.c.waits_for == Wait.RETRY), Wait.RETRY),
        (and_(jobs.c.run_at > database_now(), jobs.c.waits_for == Wait.POLL), Wait.POLL),
        (and_(jobs.c.run_at > jobs.c.deadline, is_for_later), Wait.NOT_BEFORE),
        (exists().where(its_lane, downstreams.c.paused), Wait.PAUSED),
        (exists().where(its_lane, is_broken), Wait.BREAKER),
        (exists().where(its_lane, downstreams.c.paused_until > database_now()), Wait.PAUSED),
        (~exists().where(_runs_it()), Wait.NO_WORKER),
        (jobs.c.waits_for == Wait.POLL, Wait.POLL),
        *((and_(jobs.c.partition.is_not(None), holds), why) for holds, why in _of_partition()),
        (exists().where(its_lane, samples.c.downstream == downstreams.c.name, is_full), Wait.CONCURRENCY),
    )
    whys = [(holds, literal(stored_wait(why))) for holds, why in reasons]
    return case((jobs.c.state == State.RUNNING, None), *whys, else_=literal(stored_wait(Wait.PACE)))


def _of_partition() -> Sequence[tuple[ColumnElement[bool], Wait]]:
    """What holds a job that its lane holds no more than others; in the order of `PartitionLane.reason_of`."""
    opened = (
        select(func.count())
        .where(
            attempts.c.downstream == jobs.c.downstream,
            attempts.c.partition == jobs.c.partition,
            attempts.c.ended_at.is_(None),
        )
        .correlate(jobs)
        .scalar_subquery()
    )
    before = _before()
    most_open = of_partition(partitions.c.most_open)
    next_slot_at = of_partition(type_coerce(partitions.c.next_slot_at, BigInteger))
    is_paused = of_partition(case((partitions.c.paused, 1), else_=0)) == 1
    return (
        (or_(is_paused, partition_rests()), Wait.PAUSED),
        (and_(jobs.c.keeps_rank, opened + before > 0), Wait.PARTITION_ORDER),
        (opened >= most_open, Wait.PARTITION_CONCURRENCY),
        (next_slot_at > NOW, Wait.PARTITION_PACE),
        (_others() > before, Wait.SHARE),
    )


def _before() -> ColumnElement[int]:
    """How many jobs of its partition go before it and are still in time, as far as they are counted."""
    other = jobs.alias("own")
    first = (
        select(other.c.rank_at, other.c.id, other.c.deadline)
        .where(other.c.downstream == jobs.c.downstream, other.c.partition == jobs.c.partition, _waits(other))
        .order_by(other.c.rank_at, other.c.id)
        .limit(_COUNTED)
        .correlate(jobs)
        .subquery()
    )
    goes_before = or_(first.c.rank_at < jobs.c.rank_at, and_(first.c.rank_at == jobs.c.rank_at, first.c.id < jobs.c.id))
    in_time = first.c.deadline > database_now()
    return select(func.count()).select_from(first).where(goes_before, in_time).correlate(jobs).scalar_subquery()


def _others() -> ColumnElement[int]:
    """How many jobs of other partitions wait, as far as they are counted."""
    sides = []
    for number, is_other in enumerate(("before", "behind")):
        other = jobs.alias(f"others_{is_other}")
        there = other.c.partition > jobs.c.partition if number else other.c.partition < jobs.c.partition
        here = select(other.c.id).where(other.c.downstream == jobs.c.downstream, there, _waits(other))
        sides.append(select(here.limit(_COUNTED + 1).correlate(jobs).subquery().c.id))
    return select(func.count()).select_from(union_all(*sides).subquery()).scalar_subquery()


def _waits(job: Any) -> ColumnElement[bool]:
    """As IS_WAITING, in the words of the index of jobs in partitions."""
    return and_(job.c.state == State.QUEUED, job.c.slot_at.is_(None), job.c.partition.is_not(None))


def _runs_it() -> ColumnElement[bool]:
    """Condition: the worker lives, and runs the job's operation, as far as it says which ones it runs."""
    quoted = literal('"') + jobs.c.operation + literal('"')
    is_known = func.replace(workers.c.operations, quoted, "") != workers.c.operations
    lives = and_(workers.c.queue == jobs.c.queue, workers.c.seen_until > database_now())
    return and_(lives, or_(workers.c.operations.is_(None), is_known))
