"""Queries of jobs: many by their ids in one statement, with or without results, and filtered lists page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    select,
    text,
)

from tidegate.database.connection import Database
from tidegate.database.json_rows import SMALL
from tidegate.database.schema import UNSUCCESSFUL, bodies, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import database_now, statement_now
from tidegate.jobs.filter import Filter, Page
from tidegate.jobs.job import Job, JobWithResult, StoredBody
from tidegate.jobs.transitions import JOB_COLUMNS, job_from, job_of
from tidegate.states import FINAL_STATES, OPEN_STATES, State

MOST_AT_ONCE = 32
"""How many callers share one of these statements: more would wait for it longer than they save."""
MOST_READ = 512
"""How many jobs one of these statements can be asked for."""


_SIZES = (1, 2, 4, 8, 16, MOST_AT_ONCE, 128, MOST_READ)
_RESULT_COLUMNS = (
    bodies.c.content_type.label("result_type"),
    bodies.c.is_json.label("result_is_json"),
    case((bodies.c.is_json & (func.length(bodies.c.content) <= SMALL), bodies.c.content)).label("result"),
)


def read_jobs(database: Database, job_ids: Sequence[str]) -> Sequence[Job | None]:
    """Reads these jobs in one statement; answers in their order, None where there is none."""
    found = {job.id: job for job in database.fetch_all(_JOBS[_size_for(job_ids)], _named(job_ids))}
    return [found.get(job_id) for job_id in job_ids]


def read_jobs_with_results(database: Database, job_ids: Sequence[str]) -> Sequence[JobWithResult | None]:
    """As `read_jobs`, with the jobs' results."""
    rows = database.fetch_all(_JOBS_WITH_RESULTS[_size_for(job_ids)], _named(job_ids))
    found = {job.id: (job, result) for job, result in rows}
    return [found.get(job_id) for job_id in job_ids]


def _of(statement: Select[Any], size: int) -> Select[Any]:
    return statement.where(jobs.c.id.in_([bindparam(f"job_{n}", type_=jobs.c.id.type) for n in range(size)]))


def _size_for(job_ids: Sequence[str]) -> int:
    """Rounds the number of ids up to one of a few sizes: each size is a statement to prepare."""
    return next(size for size in _SIZES if size >= len(job_ids))


def _named(job_ids: Sequence[str]) -> dict[str, str]:
    """The ids as parameters; the places that are left over repeat the last id."""
    named = {f"job_{n}": job_id for n, job_id in enumerate(job_ids)}
    last = named[f"job_{len(named) - 1}"]
    return {f"job_{n}": last for n in range(len(named), _size_for(job_ids))} | named


def _job_with_result(columns: Mapping[str, Any]) -> JobWithResult:
    values = dict(columns)
    content_type, is_json, content = values.pop("result_type"), values.pop("result_is_json"), values.pop("result")
    job = job_of(values)
    if content_type is None:
        return job, None
    return job, StoredBody(content=content or b"", content_type=content_type, is_json=is_json)


_ITS_RESULT = (bodies.c.job_id == jobs.c.id) & (bodies.c.kind == "result")
_WITH_RESULTS = select(*JOB_COLUMNS, *_RESULT_COLUMNS).select_from(jobs.outerjoin(bodies, _ITS_RESULT))
_JOBS = {size: Prepared(_of(select(*JOB_COLUMNS), size), job_of) for size in _SIZES}
_JOBS_WITH_RESULTS = {size: Prepared(_of(_WITH_RESULTS, size), _job_with_result) for size in _SIZES}

MOST_LOOKED_AT = 10_000
"""Rows, for one page; see the HTTP contract."""
LIMIT = timedelta(seconds=2)
"""How long a list may take: with rows that nobody has read for long each of them may be a read of the disk."""
_COLUMNS = {column.key: column for column in JOB_COLUMNS}
_UNSUCCESSFUL = FINAL_STATES - {State.SUCCEEDED}


def page(database: Database, wanted: Filter) -> Page:
    """Reads one page of the jobs that fit. Raises DatabaseTooSlowError."""
    parts = [_part(database, way, wanted) for way in _ways(wanted)]
    # A merge of sorted parts: nothing older than what every part has reached; it comes with the next page.
    reached = max((part.before_id for part in parts if part.before_id is not None), default=None)
    found = sorted((job for part in parts for job in part.jobs), key=lambda job: job.id, reverse=True)
    if reached is not None:
        found = [job for job in found if job.id >= reached]
    if len(found) > wanted.limit:
        found = found[: wanted.limit]
        reached = found[-1].id
    return Page(jobs=[_as_told(job) for job in found], before_id=reached)


def all_of(database: Database, wanted: Filter) -> Sequence[Job]:
    """Reads the jobs that fit, up to the filter's limit, page after page. Raises DatabaseTooSlowError."""
    found: list[Job] = []
    before_id = wanted.before_id
    while True:
        part = page(database, replace(wanted, before_id=before_id, limit=wanted.limit - len(found)))
        found += part.jobs
        if part.before_id is None or len(found) == wanted.limit:
            return found
        before_id = part.before_id


def number(database: Database, wanted: Filter, most: int) -> int:
    """Counts the jobs that fit, whatever the filter's limit; stops at `most`. Raises DatabaseTooSlowError."""
    found = 0
    for way in _ways(wanted):
        some = _fitting(_looked_at(way, wanted), wanted).limit(most - found).subquery()
        found += required(database.fetch_one(select(func.count()).select_from(some), limit=LIMIT))[0]
    return found


def _ways(wanted: Filter) -> Sequence[ColumnElement[bool] | None]:
    """The index conditions that together cover the wanted states; None: the index of all jobs."""
    if not wanted.states or not _UNSUCCESSFUL.issuperset(wanted.states):
        return [None]
    # One query for each state, so that each comes in the index's order. Literals: so a partial index is found to fit.
    ways: list[ColumnElement[bool]] = [
        and_(text(UNSUCCESSFUL), literal_column("state") == literal_column(f"'{state.value}'"))
        for state in sorted(wanted.states)
    ]
    if State.EXPIRED in wanted.states:
        ways.append(and_(jobs.c.finished_at.is_(None), jobs.c.deadline <= statement_now()))
    return ways


def _part(database: Database, way: ColumnElement[bool] | None, wanted: Filter) -> Page:
    """One page by one index; it has one job more than the limit when there are more."""
    looked_at = _looked_at(way, wanted)
    fitting = _fitting(looked_at.limit(MOST_LOOKED_AT), wanted).limit(wanted.limit + 1)
    found = [job_from(row) for row in database.fetch_all(fitting, limit=LIMIT)]
    if len(found) > wanted.limit:
        return Page(jobs=found, before_id=None)
    last = database.fetch_one(looked_at.with_only_columns(jobs.c.id).limit(1).offset(MOST_LOOKED_AT - 1), limit=LIMIT)
    return Page(jobs=found, before_id=last.id if last else None)


def _looked_at(way: ColumnElement[bool] | None, wanted: Filter) -> Select[tuple[object, ...]]:
    """SELECT of the rows to filter, newest first, in the order of an index."""
    conditions: list[ColumnElement[bool]] = [] if way is None else [way]
    if wanted.client_id is not None:
        conditions.append(jobs.c.client_id == wanted.client_id)
    if wanted.before_id is not None:
        conditions.append(jobs.c.id < wanted.before_id)
    if wanted.from_id is not None:
        conditions.append(jobs.c.id >= wanted.from_id)
    return select(jobs).where(*conditions).order_by(jobs.c.id.desc())


def _fitting(looked_at: Select[tuple[object, ...]], wanted: Filter) -> Select[tuple[object, ...]]:
    """SELECT of those among them that fit the filter."""
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
