"""SQL conditions and counts of places: how much of each downstream's concurrency and each queue's workers is taken."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import FromClause, and_, case, func, literal, or_, select, tuple_, union_all

from tidegate.database.schema import attempts, jobs, workers
from tidegate.database.time import database_now
from tidegate.dispatch.lane import LAST_LIFE, Occupancy
from tidegate.jobs.transitions import NOW
from tidegate.operations.queues import Queue


def is_held(attempt: FromClause = attempts) -> Any:
    """Condition: the attempt has not ended. It has a place of its own, unless it follows one that has not ended either.

    A place that ran out by the clock is still held until the sweep, which knows whether the clock can be believed, ends
    it.
    """
    return attempt.c.ended_at.is_(None)


def follows_open_call() -> Any:
    """Condition: the attempt waits on the place of another that is open, so that both are one place.

    For a query of a single attempt.
    """
    before = attempts.alias("before")
    return (
        select(before.c.job_id)
        .where(before.c.job_id == attempts.c.follows_job, before.c.fence == attempts.c.follows_fence, is_held(before))
        .exists()
    )


def is_among_followers() -> Any:
    """As `follows_open_call`, for a query of many attempts: the open ones are read once and hashed.

    A subquery for each would use whichever index old statistics make look small. If they are of a time when nothing was
    out, that is the index of all open attempts, and the cost is the square of their number.
    """
    before = attempts.alias("before")
    is_out = select(before.c.job_id, before.c.fence).where(is_held(before))
    followed = tuple_(attempts.c.follows_job, attempts.c.follows_fence)
    # The first condition keeps IN a hashed subplan. Alone, PostgreSQL would make it a join by index.
    return and_(attempts.c.follows_job.is_not(None), followed.in_(is_out))


def is_kept(attempt: FromClause = attempts) -> Any:
    """Condition, of an attempt that is held: its call has ended, and the place is kept while its job is polled.

    No worker has it. Each poll follows it, so that both are one place; it ends with the job.
    """
    return and_(attempt.c.claimed_at.is_not(None), attempt.c.worker.is_(None))


def follows_kept_place() -> Any:
    """Condition: the attempt waits on the place of another that is kept, and so for long. As `follows_open_call`."""
    before = attempts.alias("kept")
    own = and_(before.c.job_id == attempts.c.follows_job, before.c.fence == attempts.c.follows_fence)
    return select(before.c.job_id).where(own, is_held(before), is_kept(before)).exists()


def has_place() -> Any:
    """Condition: the attempt takes one of its downstream's places."""
    return and_(is_held(), ~is_among_followers())


def is_lost() -> Any:
    """Condition: the attempt was claimed by a worker whose heartbeat has run out: nothing says that it ever ends."""
    alive = select(workers.c.id).where(workers.c.seen_until > database_now())
    return and_(attempts.c.claimed_at.is_not(None), attempts.c.worker.not_in(alive))


def rides_along() -> Any:
    """Condition: the attempt is made in another's call, which has the message and the place."""
    return and_(attempts.c.batch_id.is_not(None), attempts.c.follows_job.is_not(None))


def may_kill_no_other(job: FromClause = jobs) -> Any:
    """Condition: the job may be released without putting another job in danger of a shared process death.

    A job that one more death would fail is kept apart from others like it, for one of them kills its process. With
    a process for each job, or with lives to spare, there is no danger.
    """
    other = jobs.alias("other")
    is_out = (
        select(attempts.c.job_id)
        .join(other, and_(other.c.id == attempts.c.job_id, other.c.fence == attempts.c.fence))
        .where(
            attempts.c.ended_at.is_(None),
            attempts.c.queue == job.c.queue,
            other.c.losses >= LAST_LIFE,
            other.c.slot_at.is_not(None),
        )
        .exists()
    )
    return or_(job.c.losses < LAST_LIFE, job.c.queue == Queue.CPU, ~is_out)


def counts() -> Any:
    """SELECT of all places taken, the sizes of the live workers, and the clock, in one statement."""
    out = func.sum(case((rides_along(), 0), (~is_lost(), 1), else_=0))
    own = func.sum(case((is_among_followers(), 0), else_=1))
    kept = func.sum(case((is_kept(), 1), else_=0))
    polls = func.sum(case((attempts.c.follows_job == attempts.c.job_id, 1), else_=0))
    none = literal(0)
    held = select(*_named(literal("held"), attempts.c.downstream, attempts.c.queue, own, out, kept, polls))
    size = func.sum(workers.c.size)
    sizes = select(*_named(literal("size"), literal(""), workers.c.queue, size, none, none, none))
    return union_all(
        held.where(is_held()).group_by(attempts.c.downstream, attempts.c.queue),
        sizes.where(workers.c.seen_until > database_now()).group_by(workers.c.queue),
        select(*_named(literal("now"), literal(""), literal(""), NOW, none, none, none)),
    )


def _named(*columns: Any) -> Sequence[Any]:
    return [column.label(name) for name, column in zip(Count._fields, columns, strict=True)]


class Count(NamedTuple):
    """A row of `counts`, by `kind`.

    `held`: places of a downstream in a queue, of which `kept` are those of jobs that are polled; `polls`: open ones of
    these, which have no place of their own. `size`: of a queue's live workers; `now`: the clock. The last two have
    their number in `own`.
    """

    kind: str
    downstream: str
    queue: str
    own: int
    out: int
    kept: int
    polls: int


def occupancy(counts: Iterable[Sequence[Any]]) -> Occupancy:
    """The value of what `counts` returned, each row as the fields of a Count."""
    now = 0
    held: dict[str, int] = {}
    kept: dict[str, int] = {}
    polled: dict[str, int] = {}
    out: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    for kind, downstream, queue, own, number, number_kept, number_polled in counts:
        if kind == "held":
            held[downstream] = held.get(downstream, 0) + own
            out.setdefault(queue, {})[downstream] = number
            if number_kept or number_polled:
                kept[downstream] = kept.get(downstream, 0) + number_kept
                polled[downstream] = polled.get(downstream, 0) + number_polled
        elif kind == "size":
            sizes[queue] = own
        else:
            now = own
    return Occupancy(now=now, held=held, out=out, sizes=sizes, kept=kept, polled=polled)
