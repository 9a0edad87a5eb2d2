"""Finding jobs by what they are: a page of them, or as many as an operator means.

A list goes from the newest job to older ones and looks at so many rows at the most, whatever it is asked for: a page
may be short, or empty, and still have another behind it. Where an index has just the jobs that are wanted it goes by
that.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, literal_column, select, text

from tidegate.database import Database
from tidegate.database_time import database_now, statement_now
from tidegate.job import Job
from tidegate.models import UNSUCCESSFUL, jobs
from tidegate.states import FINAL_STATES, OPEN_STATES, State
from tidegate.store.moves import JOB_COLUMNS, job_from

MOST_LOOKED_AT = 10_000
"""Rows, for one page; see the HTTP contract."""
LIMIT = timedelta(seconds=2)
"""How long a list may take: with rows that nobody has read for long each of them may be a read of the disk."""
_COLUMNS = {column.key: column for column in JOB_COLUMNS}
_UNSUCCESSFUL = FINAL_STATES - {State.SUCCEEDED}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which jobs. None: whatever. `states`: one of these as callers are told it, and none means any. `before_id`:
    older than this one, `from_id`: not older (ids sort by time). `not_retried`: without those that were submitted
    again. `limit`: on a page."""

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


@dataclass(frozen=True, kw_only=True)
class Page:
    """Jobs, newest first. `before_id`: where the next page goes on; None: there is nothing more."""

    jobs: Sequence[Job]
    before_id: str | None


def page(database: Database, wanted: Filter) -> Page:
    """One page. Raises DatabaseTooSlowError."""
    with database.long_reading(LIMIT) as connection:
        parts = [_part(connection, way, wanted) for way in _ways(wanted)]
    # What one way has not reached yet is left out of the others, too: it comes with the page that has both.
    reached = max((part.before_id for part in parts if part.before_id is not None), default=None)
    found = sorted((job for part in parts for job in part.jobs), key=lambda job: job.id, reverse=True)
    if reached is not None:
        found = [job for job in found if job.id >= reached]
    if len(found) > wanted.limit:
        found = found[: wanted.limit]
        reached = found[-1].id
    return Page(jobs=[_as_told(job) for job in found], before_id=reached)


def all_of(database: Database, wanted: Filter) -> Sequence[Job]:
    """As many as the limit says, from as many pages as it takes."""
    found: list[Job] = []
    before_id = wanted.before_id
    while True:
        part = page(database, replace(wanted, before_id=before_id, limit=wanted.limit - len(found)))
        found += part.jobs
        if part.before_id is None or len(found) == wanted.limit:
            return found
        before_id = part.before_id


def number(database: Database, wanted: Filter, most: int) -> int:
    """How many there are, whatever the filter's limit; counted up to `most`. Raises DatabaseTooSlowError."""
    with database.long_reading(LIMIT) as connection:
        found = 0
        for way in _ways(wanted):
            some = _fitting(_looked_at(way, wanted), wanted).limit(most - found).subquery()
            found += connection.execute(select(func.count()).select_from(some)).scalar_one()
        return found


def _ways(wanted: Filter) -> Sequence[ColumnElement[bool] | None]:
    """The conditions of the indexes that have all of it; None: that of all jobs."""
    if not wanted.states or not _UNSUCCESSFUL.issuperset(wanted.states):
        return [None]
    # Each state by itself, so that they come in order; and as literals, by which the databases know the index.
    ways: list[ColumnElement[bool]] = [
        and_(text(UNSUCCESSFUL), literal_column("state") == literal_column(f"'{state.value}'"))
        for state in sorted(wanted.states)
    ]
    if State.EXPIRED in wanted.states:
        ways.append(and_(jobs.c.finished_at.is_(None), jobs.c.deadline <= statement_now()))
    return ways


def _part(connection: Connection, way: ColumnElement[bool] | None, wanted: Filter) -> Page:
    """A page by one way: one job more than is asked for, if there is one."""
    looked_at = _looked_at(way, wanted)
    rows = connection.execute(_fitting(looked_at.limit(MOST_LOOKED_AT), wanted).limit(wanted.limit + 1)).all()
    found = [job_from(row) for row in rows]
    if len(found) > wanted.limit:
        return Page(jobs=found, before_id=None)
    last = looked_at.with_only_columns(jobs.c.id).limit(1).offset(MOST_LOOKED_AT - 1)
    return Page(jobs=found, before_id=connection.execute(last).scalar_one_or_none())


def _looked_at(way: ColumnElement[bool] | None, wanted: Filter) -> Select[tuple[object, ...]]:
    """The rows, newest first, in the order of an index."""
    conditions: list[ColumnElement[bool]] = [] if way is None else [way]
    if wanted.client_id is not None:
        conditions.append(jobs.c.client_id == wanted.client_id)
    if wanted.before_id is not None:
        conditions.append(jobs.c.id < wanted.before_id)
    if wanted.from_id is not None:
        conditions.append(jobs.c.id >= wanted.from_id)
    return select(jobs).where(*conditions).order_by(jobs.c.id.desc())


def _fitting(looked_at: Select[tuple[object, ...]], wanted: Filter) -> Select[tuple[object, ...]]:
    """Those of them that are wanted."""
    job = looked_at.subquery("job").c
    conditions: list[ColumnElement[bool]] = []
    if wanted.states:
        is_late = and_(job.state.in_(sorted(OPEN_STATES)), job.deadline <= database_now())
        conditions.append(case((is_late, State.EXPIRED.value), else_=job.state).in_(sorted(wanted.states)))
    if wanted.operation is not None:
        conditions.append(job.operation == wanted.operation)
    if wanted.downstream is not None:
        conditions.append(job.downstream == wanted.downstream)
    if wanted.created_after is not None:
        conditions.append(job.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(job.created_at < wanted.created_before)
    if wanted.not_retried:
        conditions.append(~exists().where(jobs.c.retry_of == job.id))
    columns = [job.get(name, expression) for name, expression in _COLUMNS.items()]
    return select(*columns).where(*conditions).order_by(job.id.desc())


def _as_told(job: Job) -> Job:
    if job.state.is_final or job.deadline > job.seen_at:
        return job
    return replace(job, state=State.EXPIRED, finished_at=job.deadline)
