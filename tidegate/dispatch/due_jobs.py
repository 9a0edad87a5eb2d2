"""The SELECT of a lane's jobs that may be released, in order of run_at."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, select

from tidegate.database.schema import downstreams, jobs
from tidegate.database.time import statement_now
from tidegate.dispatch.places import may_kill_no_other
from tidegate.jobs.transitions import IN_TIME, IS_WAITING
from tidegate.operations.operation import Queue

# The IN has always so many parameters; for fewer queues, names are repeated.
_QUEUES = [f"one_queue_{number}" for number, _ in enumerate(Queue)]


def waiting_first(*columns: Any) -> Any:
    """SELECT of these columns of the first jobs of a downstream's row that may be released, at `most` so many.

    `of_queues` makes the parameters of the queues.
    """
    return (
        select(*columns)
        .where(
            jobs.c.downstream == downstreams.c.name,
            IS_WAITING,
            jobs.c.run_at <= statement_now(),
            queue_is_asked(),
            IN_TIME,
            may_kill_no_other(),
        )
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(bindparam("most", type_=Integer))
        .correlate(downstreams)
    )


def queue_is_asked() -> ColumnElement[bool]:
    """Condition: the job's queue is one of those asked for by `of_queues`."""
    return jobs.c.queue.in_([bindparam(name) for name in _QUEUES])


def of_queues(queues: Sequence[str]) -> dict[str, str]:
    """Parameters of `waiting_first`: the queues whose jobs may be released, at least one."""
    return dict(zip(_QUEUES, cycle(queues), strict=False))
