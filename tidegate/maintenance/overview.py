"""Queries of the live page over many jobs: those that run now, how many there are, lanes that release nothing."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, literal, null, select, union_all

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, final_jobs, jobs
from tidegate.database.time import statement_now
from tidegate.jobs.job import Job
from tidegate.jobs.transitions import IS_WAITING, JOB_COLUMNS, job_from
from tidegate.states import FINAL_STATES, State

_OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class JobCount:
    """How many jobs are kept. `final`: by state; `counted_at`: when a scheduler counted those, None: never.

    `is_whole`: those that ended since are in it, too; else there are more. `open`: the others; None: too many to count.
    """

    open: int | None
    final: dict[State, int]
    counted_at: datetime | None
    is_whole: bool


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

    def count(self, *, most: int) -> JobCount:
        """What a scheduler counted up to a minute ago; by their indexes up to `most` that ended since, or are open."""
        last = select(func.coalesce(func.max(final_jobs.c.counted_at), 0)).scalar_subquery()
        since = select(jobs.c.state).where(jobs.c.finished_at > last).limit(most).subquery()
        some_open = select(jobs.c.deadline).where(jobs.c.finished_at.is_(None)).limit(most).subquery()
        rows = self._database.fetch_all(
            union_all(
                select(
                    literal(False).label("is_since"), final_jobs.c.state, final_jobs.c.number, final_jobs.c.counted_at
                ),
                select(literal(True), since.c.state, func.count(), null()).group_by(since.c.state),
                select(literal(False), literal(_OPEN), func.count(), null()).select_from(some_open),
            )
        )
        final = Counter[str](dict.fromkeys(sorted(FINAL_STATES), 0))
        for row in rows:
            final[row.state] += row.number
        open_ones = final.pop(_OPEN)
        return JobCount(
            open=open_ones if open_ones < most else None,
            final={State(state): number for state, number in final.items()},
            counted_at=max((row.counted_at for row in rows if row.counted_at), default=None),
            is_whole=sum(row.number for row in rows if row.is_since) < most,
        )

    def newest(self, client_id: str, *, most: int) -> dict[State, int]:
        """How many of the client's newest jobs, no more than `most`, are in each state."""
        newest = (
            select(jobs.c.state).where(jobs.c.client_id == client_id).order_by(jobs.c.id.desc()).limit(most).subquery()
        )
        counted = select(newest.c.state, func.count().label("number")).group_by(newest.c.state)
        return dict.fromkeys(State, 0) | {State(row.state): row.number for row in self._database.fetch_all(counted)}

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
