"""Reading jobs by their ids, several in one statement, with their results where these are wanted."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import Select, bindparam, case, func, select

from tidegate.database import Database
from tidegate.job import Job, StoredBody
from tidegate.models import bodies, jobs
from tidegate.prepared import Prepared
from tidegate.store.given_rows import SMALL
from tidegate.store.moves import JOB_COLUMNS, job_of

MOST_AT_ONCE = 32
"""How many callers share one of these statements: more would wait for it longer than they save."""
MOST_READ = 512
"""How many jobs one of these statements can be asked for."""

JobWithResult: TypeAlias = tuple[Job, StoredBody | None]
"""A job, and what it brought. Of a result that is not JSON, and so does not stand in the job's document, it is only the
content type; of a long one, too: its content is empty, which no JSON is."""

_SIZES = (1, 2, 4, 8, 16, MOST_AT_ONCE, 128, MOST_READ)
_RESULT_COLUMNS = (
    bodies.c.content_type.label("result_type"),
    bodies.c.is_json.label("result_is_json"),
    case((bodies.c.is_json & (func.length(bodies.c.content) <= SMALL), bodies.c.content)).label("result"),
)


def is_whole(found: JobWithResult) -> bool:
    """Whether the result stands there as the job's document shows it: a long one has to be read by itself."""
    _, result = found
    return result is None or not result.is_json or bool(result.content)


def read_jobs(database: Database, job_ids: Sequence[str]) -> Sequence[Job | None]:
    """Each of these jobs as its row says, in their order; None: there is none."""
    found = {job.id: job for job in database.ask_all(_jobs(_size_for(job_ids)), _named(job_ids))}
    return [found.get(job_id) for job_id in job_ids]


def read_jobs_with_results(database: Database, job_ids: Sequence[str]) -> Sequence[JobWithResult | None]:
    """As `read_jobs`, with what they brought."""
    rows = database.ask_all(_jobs_with_results(_size_for(job_ids)), _named(job_ids))
    found = {job.id: (job, result) for job, result in rows}
    return [found.get(job_id) for job_id in job_ids]


@cache
def _jobs(size: int) -> Prepared[Job]:
    return Prepared(_of(select(*JOB_COLUMNS), size), job_of)


@cache
def _jobs_with_results(size: int) -> Prepared[JobWithResult]:
    its_result = (bodies.c.job_id == jobs.c.id) & (bodies.c.kind == "result")
    statement = select(*JOB_COLUMNS, *_RESULT_COLUMNS).select_from(jobs.outerjoin(bodies, its_result))
    return Prepared(_of(statement, size), _job_with_result)


def _of(statement: Select[Any], size: int) -> Select[Any]:
    return statement.where(jobs.c.id.in_([bindparam(f"job_{n}", type_=jobs.c.id.type) for n in range(size)]))


def _size_for(job_ids: Sequence[str]) -> int:
    """A few sizes are enough: each is a statement that the database has to know."""
    return next(size for size in _SIZES if size >= len(job_ids))


def _named(job_ids: Sequence[str]) -> dict[str, str]:
    """Places that are left over ask for the last of the jobs again."""
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
