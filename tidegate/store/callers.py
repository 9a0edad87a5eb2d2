"""What callers do to jobs: record, read, cancel, erase."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, Connection, case, delete, insert, select, update

from tidegate.database import Database, database_now
from tidegate.job import Job, StoredBody
from tidegate.models import bodies, jobs
from tidegate.operations import Body
from tidegate.states import FINAL_STATES, State
from tidegate.store import idempotency
from tidegate.store.idempotency import StoredKey
from tidegate.store.listing import Filter, page
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
    not_before: datetime | None = None
    max_attempts: int
    paced_by_calls: bool = False
    traceparent: str | None = None
    retry_of: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    body: Body


class CallerStore:
    """Statements of the API. `retention`: how long the key of an erased job still says so."""

    def __init__(self, database: Database, *, retention: timedelta = timedelta(days=7)) -> None:
        self._database = database
        self._retention = retention

    def now(self) -> datetime:
        """The database's clock."""
        with self._database.reading() as connection:
            return connection.execute(select(database_now())).scalar_one()

    def key(self, client_id: str, key: str) -> StoredKey | None:
        """What the client's idempotency key stands for, if it was used."""
        with self._database.reading() as connection:
            return idempotency.find(connection, client_id, key)

    def insert(self, new: Sequence[NewJob]) -> list[Job | StoredKey]:
        """Records jobs and their inputs in one transaction; when this returns they are committed.

        In place of a job whose idempotency key is used already: what that stands for.
        """
        with self._database.writing() as connection:
            return [self._use_key(connection, job) or self._insert(connection, job) for job in new]

    def _use_key(self, connection: Connection, new: NewJob) -> StoredKey | None:
        if new.idempotency_key is None:
            return None
        return idempotency.use(
            connection,
            client_id=new.client_id,
            key=new.idempotency_key,
            fingerprint=new.fingerprint,
            job_id=new.id,
            is_sqlite=self._database.is_sqlite,
        )

    def _insert(self, connection: Connection, new: NewJob) -> Job:
        now = database_now()
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
                traceparent=new.traceparent,
                retry_of=new.retry_of,
                created_at=now,
                run_at=new.not_before or now,
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

    def get(self, job_id: str, client_id: str | None) -> Job | None:
        """The job as it is now: one past its deadline is expired first, whether or not a sweep runs."""
        job = self._read(job_id, client_id)
        if job and not job.state.is_final and job.deadline <= job.seen_at:
            self._expire(job_id)
            job = self._read(job_id, client_id)
        return job

    def list(self, wanted: Filter) -> list[Job]:
        """A page of jobs, newest first, each in the state that `get` would tell."""
        with self._database.reading() as connection:
            found = [job_from(row) for row in connection.execute(page(wanted))]
        return [
            replace(job, state=State.EXPIRED, finished_at=job.deadline)
            if not job.state.is_final and job.deadline <= job.seen_at
            else job
            for job in found
        ]

    def body(self, job_id: str, kind: Literal["input", "result"]) -> StoredBody | None:
        """What the caller sent, or what the job brought if it succeeded."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(bodies.c.content, bodies.c.content_type, bodies.c.is_json).where(
                    bodies.c.job_id == job_id, bodies.c.kind == kind
                )
            ).one_or_none()
        return StoredBody(content=row.content, content_type=row.content_type, is_json=row.is_json) if row else None

    def delete(self, job_id: str, client_id: str | None) -> bool:
        """Erases a final job with all that belongs to it; False when there is none of this id, or it goes on."""
        self.get(job_id, client_id)  # past its deadline it is final
        is_final = jobs.c.state.in_(sorted(FINAL_STATES))
        with self._database.writing() as connection:
            erased = connection.execute(
                delete(jobs).where(jobs.c.id == job_id, *_of_client(client_id), is_final)
            ).rowcount
            if erased:
                idempotency.job_erased(connection, job_id, self._retention)
        return erased == 1

    def cancel(self, job_id: str, client_id: str | None) -> Job | None:
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
                .where(jobs.c.id == job_id, *_of_client(client_id), IS_OPEN, IN_TIME, ~jobs.c.cancel_requested)
                .values(**values, version=jobs.c.version + 1, cancel_requested=True)
            )
        return self.get(job_id, client_id)

    def _read(self, job_id: str, client_id: str | None) -> Job | None:
        with self._database.reading() as connection:
            row = connection.execute(by_id(job_id).where(*_of_client(client_id))).one_or_none()
        return job_from(row) if row else None

    def _expire(self, job_id: str) -> None:
        with self._database.single_write() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == job_id, IS_OPEN, ~IN_TIME).values(**ended(State.EXPIRED))
            )


def _of_client(client_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if client_id is None else (jobs.c.client_id == client_id,)
