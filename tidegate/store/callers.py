"""What callers do to jobs: record, read, cancel."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, insert, select, update

from tidegate.database import Database, database_now
from tidegate.job import Job, StoredBody
from tidegate.models import bodies, jobs
from tidegate.operations import Body
from tidegate.states import State
from tidegate.store.moves import IN_TIME, IS_OPEN, JOB_COLUMNS, by_id, ended, job_from


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a submit records."""

    id: str
    client_id: str
    operation: str
    downstream: str
    queue: str
    timeout: timedelta
    max_attempts: int
    paced_by_calls: bool = False
    body: Body


class CallerStore:
    """Statements of the API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, new: NewJob) -> Job:
        """Records a job and its input in one transaction; when this returns it is committed."""
        now = database_now()
        with self._database.writing() as connection:
            row = connection.execute(
                insert(jobs)
                .values(
                    id=new.id,
                    client_id=new.client_id,
                    operation=new.operation,
                    downstream=new.downstream,
                    queue=new.queue,
                    max_attempts=new.max_attempts,
                    paced_by_calls=new.paced_by_calls,
                    created_at=now,
                    run_at=now,
                    deadline=database_now(new.timeout),
                )
                .returning(*JOB_COLUMNS)
            ).one()
            connection.execute(
                insert(bodies).values(
                    job_id=new.id,
                    kind="input",
                    content_type=new.body.content_type,
                    is_json=False,
                    content=new.body.content,
                )
            )
        return job_from(row)

    def get(self, job_id: str, client_id: str) -> Job | None:
        """The job as it is now: one past its deadline is expired first, whether or not a sweep runs."""
        job = self._read(job_id, client_id)
        if job and not job.state.is_final and job.deadline <= job.seen_at:
            self._expire(job_id)
            job = self._read(job_id, client_id)
        return job

    def result(self, job_id: str) -> StoredBody | None:
        """What the job brought, if it succeeded."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(bodies.c.content, bodies.c.content_type, bodies.c.is_json).where(
                    bodies.c.job_id == job_id, bodies.c.kind == "result"
                )
            ).one_or_none()
        return StoredBody(content=row.content, content_type=row.content_type, is_json=row.is_json) if row else None

    def cancel(self, job_id: str, client_id: str) -> Job | None:
        """Cancels a queued job; marks a running one, whose attempt sees it at its next progress or slot.

        Returns the job after that, None when the client has none of this id. Against a finish and an expiry
        the first one wins; a final job stays as it is.
        """
        is_queued = jobs.c.state == State.QUEUED
        values = {
            name: case((is_queued, value), else_=jobs.c[name])
            for name, value in ended(State.CANCELLED).items()
            if name != "version"
        }
        with self._database.single_write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.client_id == client_id, IS_OPEN, IN_TIME, ~jobs.c.cancel_requested)
                .values(**values, version=jobs.c.version + 1, cancel_requested=True)
            )
        return self.get(job_id, client_id)

    def _read(self, job_id: str, client_id: str) -> Job | None:
        with self._database.reading() as connection:
            row = connection.execute(by_id(job_id).where(jobs.c.client_id == client_id)).one_or_none()
        return job_from(row) if row else None

    def _expire(self, job_id: str) -> None:
        with self._database.single_write() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == job_id, IS_OPEN, ~IN_TIME).values(**ended(State.EXPIRED))
            )
