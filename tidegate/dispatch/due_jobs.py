"""The SELECT of a lane's jobs that may be released, in order of run_at."""

from typing import Any

from sqlalchemy import Integer, and_, bindparam, or_, select, text

from tidegate.database.schema import WAITS_FOR_POLL, attempts, downstreams, jobs
from tidegate.database.time import statement_now
from tidegate.dispatch.places import may_kill_no_other
from tidegate.jobs.own_partition import partition_rests
from tidegate.jobs.transitions import IN_TIME, IS_POLLED, IS_WAITING


def waiting_first(*columns: Any) -> Any:
    """SELECT of these columns of the first jobs of a downstream's row that may be released, at `most` so many.

    Those that are polled are not among them: they have a place, and must not wait behind those that have none.
    """
    return (
        select(*columns)
        .where(
            jobs.c.downstream == downstreams.c.name,
            IS_WAITING,
            ~IS_POLLED,
            jobs.c.run_at <= statement_now(),
            IN_TIME,
            may_kill_no_other(),
        )
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(bindparam("most", type_=Integer))
        .correlate(downstreams)
    )


def polls(*columns: Any) -> Any:
    """SELECT of these columns of the first jobs of a `lane` that wait to be polled, at `most` so many, due or not.

    Not one whose last poll was lost and may still be open: on one place no two calls are open together. Nor one whose
    partition rests.
    """
    before = attempts.alias("before")
    is_poll = and_(before.c.job_id == jobs.c.id, before.c.follows_job == before.c.job_id)
    is_open = select(before.c.job_id).where(is_poll, before.c.ended_at.is_(None)).exists()
    return (
        select(*columns)
        .where(jobs.c.downstream == bindparam("lane"), text(WAITS_FOR_POLL), ~is_open, IN_TIME, may_kill_no_other())
        .where(or_(jobs.c.partition.is_(None), ~partition_rests()))
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(bindparam("most", type_=Integer))
    )
