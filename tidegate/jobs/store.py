"""Statements of the API on jobs that exist: read, list, cancel, erase."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from sqlalchemy import ColumnElement, Connection, bindparam, case, delete, select, update

from tidegate.database.batching import BatchedStatement
from tidegate.database.connection import Database
from tidegate.database.schema import bodies, idempotency_keys, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import CLOCK, database_now
from tidegate.jobs.filter import Filter, Page
from tidegate.jobs.job import Job, JobWithResult, StoredBody, headers_of, is_whole
from tidegate.jobs.listing import all_of, number, page
from tidegate.jobs.reads import MOST_AT_ONCE, MOST_READ, read_jobs, read_jobs_with_results
from tidegate.jobs.transitions import (
    ENDS,
    IN_TIME,
    IS_OPEN,
    JOB_COLUMNS,
    count_ends,
    ended,
    forget_attempts,
    job_from,
    lock_rows,
)
from tidegate.jobs.waited_for import expired
from tidegate.metrics.counters import Counts
from tidegate.states import FINAL_STATES, State

_BODY = Prepared(
    select(bodies.c.content, bodies.c.content_type, bodies.c.is_json, bodies.c.headers).where(
        bodies.c.job_id == bindparam("the_job", type_=jobs.c.id.type),
        bodies.c.kind == bindparam("the_kind", type_=bodies.c.kind.type),
    ),
    lambda row: StoredBody(**{**row, "headers": headers_of(row["headers"])}),
)


class JobStore:
    """Statements of the API on jobs that exist.

    `retention`: how long the idempotency key of an erased job still answers that it was erased.
    """

    def __init__(self, database: Database, counts: Counts, *, retention: timedelta = timedelta(days=7)) -> None:
        self._database = database
        self.counts = counts
        self._retention = retention
        self._jobs = BatchedStatement(partial(read_jobs, database), most=MOST_AT_ONCE)
        self._jobs_with_results = BatchedStatement(partial(read_jobs_with_results, database), most=MOST_AT_ONCE)

    def now(self) -> datetime:
        """Reads the database's clock."""
        return required(self._database.fetch_one(CLOCK))

    def get(self, job_id: str, client_id: str | None) -> Job | None:
        """The job as it is now; one past its deadline is expired first, even if no sweep runs. None: no such job."""
        job = self._jobs.run(job_id)
        if job and _is_late(job):
            self._expire(jobs.c.id == job_id)
            job = self._jobs.run(job_id)
        return job if job and client_id in {None, job.client_id} else None

    def get_with_result(self, job_id: str, client_id: str | None) -> JobWithResult | None:
        """As `get`, with the job's result as it stands in the job's document."""
        found = self._jobs_with_results.run(job_id)
        if found is None or client_id not in {None, found[0].client_id}:
            return None
        job, result = found
        if _is_late(job):
            now = self.get(job_id, client_id)
            return (now, None) if now else None
        if not is_whole(found):
            result = self.body(job_id, "result")
        return job, result

    def read_current(self, job_ids: Collection[str]) -> dict[str, JobWithResult]:
        """Reads these jobs as they are now, with their results, a statement for some hundreds of them.

        Those past their deadline are expired first, in two more statements. Of a long result there is only the content
        type. Ids without a job are left out.
        """
        found = self._find(job_ids)
        if late := [job.id for job, _ in found.values() if _is_late(job)]:
            rows = select(jobs.c.id).where(jobs.c.id.in_(late), IS_OPEN, ~IN_TIME)
            # FOR UPDATE SKIP LOCKED: two transactions that end several jobs could deadlock.
            self._expire(jobs.c.id.in_(lock_rows(rows)))
            found |= self._find(late)
        return found

    def versions(self, job_ids: Collection[str]) -> dict[str, int]:
        """The versions of these jobs, by id; ids without a job are left out."""
        rows = self._database.fetch_all(select(jobs.c.id, jobs.c.version).where(jobs.c.id.in_(job_ids)))
        return {row.id: row.version for row in rows}

    def list(self, wanted: Filter) -> Page:
        """A page of jobs, newest first, each in the state that `get` would tell."""
        return page(self._database, wanted)

    def list_all(self, wanted: Filter) -> Sequence[Job]:
        """The jobs that fit the filter, newest first, up to its limit."""
        return all_of(self._database, wanted)

    def count(self, wanted: Filter, *, most: int) -> int:
        """Counts the jobs that fit the filter; stops at `most`."""
        return number(self._database, wanted, most)

    def body(self, job_id: str, kind: Literal["input", "result"]) -> StoredBody | None:
        """The job's input or result; None: there is none."""
        return self._database.fetch_one(_BODY, {"the_job": job_id, "the_kind": kind})

    def delete(self, job_id: str, client_id: str | None) -> bool:
        """Erases a final job with all that belongs to it; False when there is none of this id, or it goes on."""
        self.get(job_id, client_id)  # past its deadline it is final
        is_final = jobs.c.state.in_(sorted(FINAL_STATES))
        with self._database.transaction() as connection:
            erased = connection.execute(
                delete(jobs).where(jobs.c.id == job_id, *_of_client(client_id), is_final)
            ).rowcount
            if erased:
                _keep_key(connection, job_id, self._retention)
                forget_attempts(connection, [job_id])
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
        moved = self._database.fetch_all(
            update(jobs)
            .where(jobs.c.id == job_id, *_of_client(client_id), IS_OPEN, IN_TIME, ~jobs.c.cancel_requested)
            .values(**values, version=jobs.c.version + 1, cancel_requested=True)
            .returning(*JOB_COLUMNS)
        )
        count_ends(self.counts, moved)
        # RETURNING, not a second read: if that one failed, the caller would get an error for a cancel that was done.
        return job_from(moved[0]) if moved else self.get(job_id, client_id)

    def _find(self, job_ids: Collection[str]) -> dict[str, JobWithResult]:
        ids = [*job_ids]
        parts = [ids[begin : begin + MOST_READ] for begin in range(0, len(ids), MOST_READ)]
        return {each[0].id: each for part in parts for each in read_jobs_with_results(self._database, part) if each}

    def _expire(self, which: ColumnElement[bool]) -> None:
        late = update(jobs).where(which, IS_OPEN, ~IN_TIME).values(**expired())
        moved = self._database.fetch_all(late.returning(*ENDS))
        count_ends(self.counts, moved)


def _is_late(job: Job) -> bool:
    """Whether the deadline had passed when the job was read, and its row did not say so yet."""
    return not job.state.is_final and job.deadline <= job.seen_at


def _keep_key(connection: Connection, job_id: str, keep: timedelta) -> None:
    """Keeps the idempotency key of an erased job for a while; it answers that the job was erased."""
    connection.execute(
        update(idempotency_keys)
        .where(idempotency_keys.c.job_id == job_id)
        .values(job_id=None, expires_at=database_now(keep))
    )


def _of_client(client_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if client_id is None else (jobs.c.client_id == client_id,)
