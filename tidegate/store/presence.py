"""Which workers live, and what becomes of the jobs of one that does not: the statements of the heartbeat."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import and_, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database import Database, database_now, later_of
from tidegate.models import attempts, jobs, workers
from tidegate.outcomes import ErrorCode
from tidegate.states import State
from tidegate.store.moves import come_back, error_text
from tidegate.store.workers import PLACE_MARGIN

MAX_LOSSES = 3
_SETTLED = timedelta(seconds=1)
LOST = error_text(
    {
        "code": ErrorCode.ATTEMPTS_EXHAUSTED,
        "message": f"the process that ran it died {MAX_LOSSES} times; it is not tried again",
    }
)
TIMED_OUT = error_text({"code": ErrorCode.OPERATION_ERROR, "message": "the attempt was ended by its hard time limit"})


class PresenceStore:
    """Statements of a worker process about itself and its children."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seen(self, worker: str, *, queue: str, size: int, until: timedelta) -> None:
        """Says that this worker lives and how many attempts it runs side by side."""
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        statement = insert(workers).values(id=worker, queue=queue, size=size, seen_until=database_now(until))
        with self._database.single_write() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[workers.c.id], set_={"seen_until": statement.excluded.seen_until, "size": size}
                )
            )

    def sizes(self) -> dict[str, int]:
        """How many attempts the live workers run side by side, by queue."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(workers.c.queue, func.sum(workers.c.size))
                .where(workers.c.seen_until > database_now())
                .group_by(workers.c.queue)
            )
            return {queue: int(size) for queue, size in rows}

    def renew(self, worker: str, *, lease: timedelta) -> int:
        """Renews the leases of all jobs in this worker's hands; how many those are."""
        with self._database.single_write() as connection:
            return connection.execute(
                update(jobs)
                .where(jobs.c.state == State.RUNNING, jobs.c.worker == worker)
                .values(lease_until=database_now(lease))
            ).rowcount

    def gone(self, worker: str) -> int:
        """The worker stops: its remaining jobs go back to be run elsewhere at once. How many those were."""
        return self._give_up(worker, keep_pids=(), lost=False, forget_worker=True)

    def child_died(self, worker: str, live_pids: Collection[int]) -> int:
        """Takes back at once what dead child processes held; how many jobs those were.

        An attempt past its time limit was ended by us and counts as failed; any other death counts as a loss.
        """
        return self._give_up(worker, keep_pids=live_pids, lost=True, forget_worker=False)

    def _give_up(self, worker: str, *, keep_pids: Collection[int], lost: bool, forget_worker: bool) -> int:
        own = attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence
        timed_out = (
            select(attempts.c.job_id)
            .where(*own, later_of(attempts.c.place_until, -PLACE_MARGIN) <= database_now())
            .exists()
        )
        spent = case(
            (timed_out, jobs.c.attempt - jobs.c.losses >= jobs.c.max_attempts), else_=jobs.c.losses + 1 >= MAX_LOSSES
        )
        changes = (
            {
                **come_back(spent=spent, after=timedelta(0), waits_for=None),
                "losses": case((timed_out, jobs.c.losses), else_=jobs.c.losses + 1),
                "error": case((timed_out, TIMED_OUT), else_=LOST),
            }
            if lost
            else {**come_back(spent=False, after=timedelta(0), waits_for=None), "attempt": jobs.c.attempt - 1}
        )
        of_worker = and_(jobs.c.state == State.RUNNING, jobs.c.worker == worker)
        if lost:
            # A child that started after the list of living ones was made may have claimed already.
            settled = select(attempts.c.job_id).where(*own, attempts.c.claimed_at <= database_now(-_SETTLED)).exists()
            of_worker = and_(of_worker, jobs.c.worker_pid.not_in(keep_pids), settled)
        with self._database.writing() as connection:
            moved = connection.execute(
                update(jobs).where(of_worker).values(**changes).returning(jobs.c.id, jobs.c.fence)
            ).all()
            for job_id, fence in moved:
                connection.execute(
                    update(attempts)
                    .where(attempts.c.job_id == job_id, attempts.c.fence == fence)
                    .values(ended_at=database_now(), outcome="lost" if lost else "handed back")
                )
            if forget_worker:
                connection.execute(delete(workers).where(workers.c.id == worker))
        return len(moved)
