"""Finding jobs by what they are: a page of them, or the ids of all that an operator means."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, exists, func, select
from sqlalchemy.sql import Select

from tidegate.database_time import database_now
from tidegate.models import jobs
from tidegate.states import State
from tidegate.store.moves import IS_OPEN, JOB_COLUMNS


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which jobs. None: whatever. `states`: one of these as callers are told it, and none means any. `before_id`:
    older than this one, `from_id`: not older (ids sort by time). `not_retried`: without those that were submitted
    again."""

    client_id: str | None = None
    states: Collection[State] = ()
    operation: str | None = None
    downstream: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None
    not_retried: bool = False
    from_id: str | None = None
    limit: int = 50


def shown_state() -> ColumnElement[str]:
    """The state as a caller is told: past its deadline a job is expired, whether or not a sweep has seen it."""
    return case((and_(IS_OPEN, jobs.c.deadline <= database_now()), State.EXPIRED.value), else_=jobs.c.state)


def page(wanted: Filter) -> Select[tuple[object, ...]]:
    """SELECT of the jobs, newest first."""
    return select(*JOB_COLUMNS).where(*_conditions(wanted)).order_by(jobs.c.id.desc()).limit(wanted.limit)


def number(wanted: Filter, most: int) -> Select[int]:
    """SELECT of how many there are, whatever the filter's limit; counted up to `most`."""
    return select(func.count()).select_from(select(jobs.c.id).where(*_conditions(wanted)).limit(most).subquery())


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.client_id is not None:
        conditions.append(jobs.c.client_id == wanted.client_id)
    if wanted.states:
        conditions.append(shown_state().in_(sorted(wanted.states)))
    if wanted.operation is not None:
        conditions.append(jobs.c.operation == wanted.operation)
    if wanted.downstream is not None:
        conditions.append(jobs.c.downstream == wanted.downstream)
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    if wanted.before_id is not None:
        conditions.append(jobs.c.id < wanted.before_id)
    if wanted.not_retried:
        retries = jobs.alias()
        conditions.append(~exists().where(retries.c.retry_of == jobs.c.id))
    if wanted.from_id is not None:
        conditions.append(jobs.c.id >= wanted.from_id)
    return conditions
