"""Statements of the sweep. Each is guarded by itself, so any number of sweeps may run side by side."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, not_, select, update
from sqlalchemy.sql import Select

from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, bodies, deliveries, jobs, stewards, workers
from tidegate.database.statement import Prepared, required
from tidegate.database.time import database_now, statement_now
from tidegate.dispatch.partitions.idle import IdlePartitions
from tidegate.dispatch.places import is_lost
from tidegate.dispatch.release import CLAIM_WITHIN
from tidegate.dispatch.undo_release import take_back
from tidegate.execution.heartbeat_store import lost
from tidegate.intake import idempotency
from tidegate.jobs.transitions import (
    ENDS,
    IN_TIME,
    IS_OPEN,
    IS_WAITING,
    count_ends,
    forget_attempts,
    is_among,
    is_released,
    lock_rows,
    wait_briefly,
)
from tidegate.jobs.waited_for import expired
from tidegate.maintenance import clock_step
from tidegate.maintenance.cluster_facts import Outlook
from tidegate.metrics.counters import Counts
from tidegate.states import State
from tidegate.webhooks.delivery import GIVE_UP_AFTER, DeliveryState
from tidegate.webhooks.send_store import IS_PENDING

PRUNE_BYTES = 8 * 1024**2
"""Bytes of bodies that one transaction deletes: SQLite has one writer, which freeing a gigabyte takes seconds."""
_FORGET_WORKERS_AFTER = timedelta(hours=1)
_LATE = timedelta(hours=1)
# Short: the gate runs in the same process and must not wait long.
_PRUNE_SECONDS = 0.25


_DEADLINE_IS_OVER = and_(jobs.c.finished_at.is_(None), jobs.c.deadline <= statement_now())
_LEASE_IS_OVER = jobs.c.lease_until <= statement_now()
_PLACE_IS_OVER = and_(attempts.c.ended_at.is_(None), attempts.c.place_until <= statement_now())
_OUTLOOK = Prepared(
    select(
        database_now().label("now"),
        select(jobs.c.id).where(_DEADLINE_IS_OVER).exists().label("deadlines"),
        select(jobs.c.id).where(_LEASE_IS_OVER).exists().label("leases"),
        select(attempts.c.job_id).where(_PLACE_IS_OVER).exists().label("places"),
        select(jobs.c.id).where(IS_WAITING).exists().label("jobs_wait"),
        select(deliveries.c.job_id).where(IS_PENDING).exists().label("webhooks_wait"),
        select(func.aggregate_strings(stewards.c.id, " "))
        .where(stewards.c.seen_until > statement_now())
        .scalar_subquery()
        .label("schedulers"),
    ),
    lambda row: Outlook(**{**row, "schedulers": frozenset((row["schedulers"] or "").split())}),
)


class MaintenanceStore:
    """Statements of the sweep. Every method moves at most so many rows, and returns how many they were."""

    def __init__(self, database: Database, counts: Counts) -> None:
        self._database = database
        self._counts = counts
        self._idle_partitions = IdlePartitions(database)

    def read_outlook(self) -> Outlook:
        """Reads, in one statement, whether any repair, release of a job or delivery of a webhook may be due.

        Nearly always there is nothing. Each part is one step in an index.
        """
        return required(self._database.fetch_one(_OUTLOOK))

    def expire(self, most: int) -> int:
        """Expires jobs whose deadline has passed."""
        late = select(jobs.c.id).where(_DEADLINE_IS_OVER).order_by(jobs.c.deadline).limit(most)
        return self._update_jobs(late, and_(IS_OPEN, not_(IN_TIME)), expired())

    def rescue(self, most: int, *, until: datetime) -> int:
        """Takes back running jobs whose lease ran out before `until`, however late the statement is done.

        Their places stay held: the calls may still be open.
        """
        is_over = jobs.c.lease_until <= until
        expired = select(jobs.c.id).where(is_over).order_by(jobs.c.lease_until)
        return self._update_jobs(expired.limit(most), and_(jobs.c.state == State.RUNNING, is_over), lost())

    def put_right(self, *, lease: timedelta, longest_wait: timedelta, is_known: bool) -> int:
        """Repairs instants that a clock which was set back left in the future; returns the number of rows.

        `is_known`: it was set back; else it is done only if the rows show that.
        """
        with self._database.transaction() as connection:
            wait_briefly(connection)
            if not (is_known or clock_step.shows(connection)):
                return 0
            return clock_step.put_right(connection, lease=lease, longest_wait=longest_wait)

    def take_back_unclaimed(self, most: int) -> int:
        """Takes back releases that nobody claimed in 5 s although a worker was free: their message was lost.

        With every worker busy the message just waits in the broker, and a second one would only be noise; the
        look is put off by another 5 s. Of a job that was erased meanwhile nobody can claim the release.
        """
        stands = is_released(attempts.c.job_id, attempts.c.fence).label("stands")
        found = (
            select(attempts.c.job_id, attempts.c.fence, attempts.c.queue, stands)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(_PLACE_IS_OVER, attempts.c.claimed_at.is_(None))
            .limit(most)
        )
        has_job = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id).exists()
        erased = delete(attempts).where(_PLACE_IS_OVER, attempts.c.claimed_at.is_(None), ~has_job)
        with self._database.transaction() as connection:
            # Jobs are locked before attempts, as a claim does it: the other order could deadlock.
            rows = connection.execute(lock_rows(found, of=jobs)).all()
            if not rows:
                return connection.execute(erased).rowcount
            claimed = (
                select(attempts.c.queue, func.count())
                .where(attempts.c.ended_at.is_(None), attempts.c.claimed_at.is_not(None), ~is_lost())
                .group_by(attempts.c.queue)
            )
            alive = (
                select(workers.c.queue, func.sum(workers.c.size))
                .where(workers.c.seen_until > database_now())
                .group_by(workers.c.queue)
            )
            busy = {queue: int(count) for queue, count in connection.execute(claimed)}
            size = {queue: int(total) for queue, total in connection.execute(alive)}
            has_free = {queue for queue, places in size.items() if places > busy.get(queue, 0)}
            waiting = {(row.job_id, row.fence) for row in rows if row.stands and row.queue not in has_free}
            if waiting:
                look_again = update(attempts).where(is_among(waiting)).values(place_until=database_now(CLAIM_WITHIN))
                connection.execute(look_again)
            lost = [call for row in rows if (call := (row.job_id, row.fence)) not in waiting]
            return take_back(self._database, connection, lost, outcome="unclaimed")

    def free_places(self, most: int, *, until: datetime) -> int:
        """Ends attempts whose `place_until` lies before `until` and whose process never ended them: frees places."""
        is_over = and_(attempts.c.ended_at.is_(None), attempts.c.place_until <= until)
        over = select(attempts.c.job_id, attempts.c.fence).where(is_over, attempts.c.claimed_at.is_not(None))
        with self._database.transaction() as connection:
            wait_briefly(connection)
            calls = [(row.job_id, row.fence) for row in connection.execute(lock_rows(over.limit(most)))]
            if calls:
                ended_now = {"ended_at": database_now(), "outcome": "lost"}
                connection.execute(update(attempts).where(is_among(calls)).values(ended_now))
                forget_attempts(connection, [job_id for job_id, _ in calls])
        return len(calls)

    def prune(self, most: int, *, retention: timedelta) -> int:
        """Deletes jobs that have been final for longer than `retention`, with all that belongs to them.

        In transactions of `PRUNE_BYTES` of bodies at the most, or of one job, for a quarter of a second. A job
        whose webhook is still to be sent is kept as long as that may be tried, and an hour more for a late worker; not
        longer, for where no worker sends webhooks nothing else would end the delivery.
        """
        ends_at = clock.monotonic() + _PRUNE_SECONDS
        erased, are_more = 0, True
        while are_more:
            some, are_more = self._prune_some(most - erased, retention)
            erased += some
            are_more = are_more and clock.monotonic() < ends_at
        self._idle_partitions.forget()
        return erased

    def _prune_some(self, most: int, retention: timedelta) -> tuple[int, bool]:
        """Deletes one transaction's worth; returns how many, and whether others were left for their size."""
        untold = select(deliveries.c.job_id).where(
            deliveries.c.job_id == jobs.c.id,
            deliveries.c.state == DeliveryState.PENDING,
            deliveries.c.began_at > statement_now(-GIVE_UP_AFTER - _LATE),
        )
        # length() of a long body needs no read of its content, on either database.
        size = select(func.sum(func.length(bodies.c.content))).where(bodies.c.job_id == jobs.c.id).scalar_subquery()
        old = (
            select(jobs.c.id, size.label("size"))
            .where(jobs.c.finished_at <= statement_now(-retention), ~(jobs.c.has_webhook & untold.exists()))
            .order_by(jobs.c.finished_at)
        )
        with self._database.transaction() as connection:
            found = connection.execute(lock_rows(old.limit(most), of=jobs)).all()
            ids = _within(PRUNE_BYTES, {row.id: int(row.size or 0) for row in found})
            idempotency.prune(connection, ids)
            connection.execute(delete(workers).where(workers.c.seen_until <= statement_now(-_FORGET_WORKERS_AFTER)))
            if ids:
                connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
            forget_attempts(connection, ids)
        return len(ids), len(ids) < len(found)

    def _update_jobs(self, found: Select[tuple[str]], still: ColumnElement[bool], changes: dict[str, Any]) -> int:
        locked = lock_rows(found)
        if not self._database.is_sqlite:
            # A CTE runs once; a plain subquery may run again for each row, and then its LIMIT means nothing.
            # SQLite does run it once.
            locked = select(locked.cte("locked").c.id)
        statement = update(jobs).where(jobs.c.id.in_(locked), still).values(**changes)
        with self._database.transaction() as connection:
            wait_briefly(connection)
            moved = connection.execute(statement.returning(*ENDS)).all()
        count_ends(self._counts, moved)
        return len(moved)


def _within(most: int, sizes: Mapping[str, int]) -> list[str]:
    """The first ids whose sizes together stay within `most` bytes; at least one."""
    total = 0
    ids: list[str] = []
    for job_id, size in sizes.items():
        total += size
        if ids and total > most:
            break
        ids.append(job_id)
    return ids
