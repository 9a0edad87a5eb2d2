"""The SELECT of a lane's jobs that may be released, in order of run_at."""

from typing import Any

from sqlalchemy import Integer, bindparam, select

from tidegate.database.schema import downstreams, jobs
from tidegate.database.time import statement_now
from tidegate.dispatch.places import may_kill_no_other
from tidegate.jobs.transitions import IN_TIME, IS_WAITING


def waiting_first(*columns: Any) -> Any:
    """SELECT of these columns of the first jobs of a downstream's row that may be released, at `most` so many."""
    return (
        select(*columns)
        .where(
            jobs.c.downstream == downstreams.c.name,
            IS_WAITING,
            jobs.c.run_at <= statement_now(),
            IN_TIME,
            may_kill_no_other(),
        )
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(bindparam("most", type_=Integer))
        .correlate(downstreams)
    )
