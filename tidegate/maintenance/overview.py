"""What the live page shows of many jobs at once: what runs now, and which lanes nobody looks after."""

from datetime import timedelta

from sqlalchemy import select

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.time import statement_now
from tidegate.jobs.job import Job
from tidegate.jobs.transitions import IS_WAITING, JOB_COLUMNS, job_from


class OverviewStore:
    """Statements of the live page. Their cost does not grow with the number of jobs there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def running(self, client_id: str | None, *, most: int) -> list[Job]:
        """The jobs that run, of one client or of all, newest first; no more than `most`."""
        mine = () if client_id is None else (jobs.c.client_id == client_id,)
        # In the order of the index of leases: in that of the ids all that ever ran would be looked through.
        found = (
            select(*JOB_COLUMNS)
            .where(jobs.c.lease_until > statement_now(timedelta(days=-1)), *mine)
            .order_by(jobs.c.lease_until)
            .limit(most)
        )
        with self._database.reading() as connection:
            running = [job_from(row) for row in connection.execute(found)]
        return sorted(running, key=lambda job: job.id, reverse=True)

    def overdue(self, longer_than: timedelta) -> frozenset[str]:
        """The lanes with a job that has been due for so long and was not let go; one look into the index a lane."""
        waits = (
            select(jobs.c.id)
            .where(
                jobs.c.downstream == downstreams.c.name,
                IS_WAITING,
                jobs.c.run_at <= statement_now(-longer_than),
            )
            .exists()
        )
        with self._database.reading() as connection:
            return frozenset(connection.execute(select(downstreams.c.name).where(waits)).scalars())
