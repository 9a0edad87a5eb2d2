"""Queries of jobs by their ids: many in one statement, with or without results."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, case, func, select

from tidegate.database.connection import Database
from tidegate.database.json_rows import SMALL
from tidegate.database.schema import bodies, jobs
from tidegate.database.statement import Prepared
from tidegate.jobs.job import Job, JobWithResult, StoredBody
from tidegate.jobs.transitions import JOB_COLUMNS, job_of

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
