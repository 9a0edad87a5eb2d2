"""Queries of the live page over many jobs: those that run now, and lanes whose due jobs are not being released."""

from datetime import timedelta

from sqlalchemy import select

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.time import statement_now
from tidegate.jobs.job import Job
from tidegate.jobs.transitions import IS_WAITING, JOB_COLUMNS, job_from


class OverviewStore:
    """Queries of the live page. Their cost does not grow with the number of jobs there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def running(self, client_id: str | None, *, most: int) -> list[Job]:
        """The running jobs, of one client or of all, newest first; no more than `most`."""
        mine = () if client_id is None else (jobs.c.client_id == client_id,)
        # Ordered as the index of leases: ordered by id, every job that ever ran would be read.
        found = (
            select(*JOB_COLUMNS)
            .where(jobs.c.lease_until > statement_now(timedelta(days=-1)), *mine)
            .order_by(jobs.c.lease_until)
            .limit(most)
        )
        running = [job_from(row) for row in self._database.fetch_all(found)]
        return sorted(running, key=lambda job: job.id, reverse=True)

    def overdue(self, longer_than: timedelta) -> frozenset[str]:
        """The lanes with a job that has been due for so long and was not released; one index step a lane."""
        waits = (
            select(jobs.c.id)
            .where(
                jobs.c.downstream == downstreams.c.name,
                IS_WAITING,
                jobs.c.run_at <= statement_now(-longer_than),
            )
            .exists()
        )
        return frozenset(row.name for row in self._database.fetch_all(select(downstreams.c.name).where(waits)))
