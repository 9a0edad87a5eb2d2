"""The statements of a submit: look up idempotency keys, order jobs of the same instant, insert."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, select

from tidegate.clock import MICROSECOND
from tidegate.database.batching import BatchedStatement
from tidegate.database.connection import Database
from tidegate.database.json_rows import MOST_ROWS
from tidegate.database.schema import jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.intake import idempotency
from tidegate.intake.insert import can_be_recorded_at_once, record, record_at_once
from tidegate.intake.submission import KeyUse, NewJob, StoredKey
from tidegate.jobs.job import Job
from tidegate.jobs.transitions import IS_WAITING

# Job-Not-Before has whole seconds where it is an HTTP-date: so many jobs may be for one instant.
_SAME_INSTANT = timedelta(seconds=1)


class SubmissionStore:
    """Statements of a submit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new_jobs = BatchedStatement(partial(record_at_once, database), most=MOST_ROWS)

    def now_and_turn(self, downstream: str, not_before: datetime) -> tuple[datetime, datetime]:
        """The database's clock, and the `run_at` of a job that must not run before this instant.

        It comes behind the jobs of its lane that were submitted for the same instant, a microsecond each, so that each
        has a position of its own.
        """
        turns = select(jobs.c.run_at).where(
            jobs.c.downstream == downstream,
            IS_WAITING,
            jobs.c.run_at >= not_before,
            jobs.c.run_at < not_before + _SAME_INSTANT,
        )
        last_turn = turns.order_by(jobs.c.run_at.desc()).limit(1).scalar_subquery()
        now, last = required(self._database.fetch_one(select(database_now(), last_turn)))
        return now, not_before if last is None else last + MICROSECOND

    def keys(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoredKey]:
        """The stored keys among these (client id, idempotency key)."""
        wanted = set(names)
        if not wanted:
            return {}
        return idempotency.by_name(self._database.fetch_all(idempotency.stored(wanted)))

    def insert(
        self, new: Sequence[NewJob], check: Callable[[NewJob, StoredKey], None] | None = None
    ) -> list[Job | StoredKey]:
        """Inserts jobs and their inputs in one transaction; when this returns they are committed.

        In place of a job whose idempotency key is used already: the stored key. `check` is called with these
        before the commit; when it raises, nothing is recorded. A thousand jobs are a handful of statements.
        """
        if not new:
            return []
        if len(new) == 1 and can_be_recorded_at_once(new[0]):
            return [self._new_jobs.run(new[0])]
        uses = [
            KeyUse(client_id=job.client_id, key=job.idempotency_key, fingerprint=job.fingerprint, job_id=job.id)
            for job in new
            if job.idempotency_key is not None and job.fingerprint is not None
        ]

        def insert(connection: Connection) -> list[Job | StoredKey]:
            used = idempotency.use(connection, uses, is_sqlite=self._database.is_sqlite) if uses else {}
            if check:
                for job in new:
                    if job.id in used:
                        check(job, used[job.id])
            recorded = record(self._database, connection, [job for job in new if job.id not in used])
            return [used.get(job.id) or recorded[job.id] for job in new]

        return self._database.batched(insert)
