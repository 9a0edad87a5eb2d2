"""Statements of the heartbeat: which workers live, their jobs' leases, the jobs of workers and children that died."""

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import clock
from tidegate.clock import MICROSECOND
from tidegate.database.clock_sync import DatabaseClock
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs, workers
from tidegate.database.statement import Prepared, required
from tidegate.database.time import CLOCK, Instant, database_now
from tidegate.dispatch.known_operations import Known
from tidegate.jobs.job import MAX_LOSSES, Call
from tidegate.jobs.transitions import (
    ENDS,
    HANDED_BACK,
    NOW,
    come_back,
    count_ends,
    error_text,
    forget_attempts,
    is_among,
    lock_rows,
)
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import TAKEN_BACK
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.queues import Queue
from tidegate.states import State

_MOVED = (*ENDS, jobs.c.queue)
LOST = error_text(
    {
        "code": ErrorCode.ATTEMPTS_EXHAUSTED,
        "message": f"the process that ran it died {MAX_LOSSES} times; it is not tried again",
    }
)
TIMED_OUT = error_text({"code": ErrorCode.OPERATION_ERROR, "message": "the attempt was ended by its hard time limit"})


class HeartbeatStore:
    """Statements of a worker process about itself and its children."""

    def __init__(self, database: Database, counts: Counts, database_clock: DatabaseClock) -> None:
        self._database = database
        self._counts = counts
        self._clock = database_clock
        self._operations: tuple[Sequence[Any], dict[str, Known]] = (), {}

    def beat(self, worker: str, *, queue: str, size: int, until: timedelta) -> bool:
        """Records a heartbeat and how many attempts the worker runs side by side; returns whether it has open calls."""
        values = {"the_id": worker, "its_queue": queue, "its_size": size, "lasts": until // MICROSECOND}
        error = round(self._clock.error * 1e6)
        asked_at = clock.monotonic()
        row = required(self._database.fetch_one(_BEAT, {**values, "its_clock_error": error}))
        self._clock.update(row["now"], asked_at=asked_at, answered_at=clock.monotonic())
        return bool(row["has_calls"])

    @property
    def own_clock_error(self) -> float:
        """Seconds that this process may be wrong about the database's clock."""
        return self._clock.error

    def clock_error(self) -> int:
        """Microseconds that a live worker may be wrong about the database's clock, at the most."""
        worst = select(func.coalesce(func.max(workers.c.clock_error), 0)).where(workers.c.seen_until > database_now())
        return int(required(self._database.fetch_one(worst))[0])

    def sizes(self) -> dict[str, int]:
        """How many attempts the live workers run side by side, by queue."""
        return {queue: known.places for queue, known in self.operations().items()}

    def say_operations(self, worker: str, operations: Collection[str]) -> None:
        """Writes which operations a worker runs, after its first heartbeat."""
        names = orjson.dumps(sorted(operations)).decode()
        self._database.execute(update(workers).where(workers.c.id == worker).values(operations=names))

    def operations(self) -> dict[str, Known]:
        """Which operations the live workers run, and in how many places, by queue."""
        rows = self._database.fetch_all(
            select(workers.c.queue, workers.c.size, workers.c.operations).where(workers.c.seen_until > database_now())
        )
        read, known = self._operations
        if rows == read:
            return known  # names of thousands of operations are not parsed again and again
        said: dict[str, list[tuple[int, str | None]]] = {}
        for queue, size, operations in rows:
            said.setdefault(queue, []).append((size, operations))
        known = {
            queue: Known(
                places=sum(size for size, _ in each),
                operations=frozenset(name for _, names in each if names for name in orjson.loads(names)),
                is_all=all(names is not None for _, names in each),
            )
            for queue, each in said.items()
        }
        self._operations = rows, known
        return known

    def calls_of(self, worker: str, pids: Collection[int]) -> AbstractSet[Call]:
        """The open calls that these child processes of the worker have claimed."""
        of_children = and_(_open_calls(worker), attempts.c.worker_pid.in_(pids))
        rows = self._database.fetch_all(select(attempts.c.job_id, attempts.c.fence).where(of_children))
        return {(job_id, fence) for job_id, fence in rows}

    def renew(self, worker: str, calls: AbstractSet[Call], *, lease: timedelta) -> AbstractSet[Call]:
        """Renews the leases of these jobs and the places of their calls, also where the job has ended meanwhile.

        Those calls are still open.
        FOR UPDATE SKIP LOCKED: a row locked by another transaction is most likely ending just now. Returns those that
        run and were skipped, to be renewed soon.
        """
        until = database_now(lease)
        are_mine = and_(is_among(calls), _open_calls(worker))
        run = select(jobs.c.id, jobs.c.fence).where(jobs.c.id.in_([job_id for job_id, _ in calls]), _runs(are_mine))
        open_calls = select(attempts.c.job_id, attempts.c.fence).where(are_mine)
        with self._database.transaction() as connection:
            renewed = _calls(connection, lock_rows(run, of=jobs))
            still_run = jobs.c.id.in_([job_id for job_id, _ in renewed])
            connection.execute(update(jobs).where(still_run).values(lease_until=until))
            connection.execute(
                update(attempts)
                .where(is_among(_calls(connection, lock_rows(open_calls))))
                .values(place_until=case((attempts.c.place_until < until, until), else_=attempts.c.place_until))
            )
            return _calls(connection, run) - renewed if renewed != calls else set()

    def remove(self, worker: str) -> int:
        """Removes a worker that stops: its jobs are queued again at once. Returns how many those were."""
        open_calls = _open_calls(worker)
        values = {**come_back(spent=False, after=timedelta(0), waits_for=None), "attempt": jobs.c.attempt - 1}
        with self._database.transaction() as connection:
            moved = _move(connection, open_calls, values)
            _end(connection, open_calls, HANDED_BACK)
            connection.execute(delete(workers).where(workers.c.id == worker))
        self._count(moved, HANDED_BACK)
        return len(moved)

    def now(self) -> datetime:
        """Reads the database's clock."""
        return required(self._database.fetch_one(CLOCK))

    def child_died(self, worker: str, live_pids: Collection[int], *, claimed_until: datetime) -> int:
        """Takes back the jobs of dead child processes at once; returns how many those were.

        `claimed_until`: an instant of the database's clock before `live_pids` were listed. Who claimed later may have
        been born later, and this statement may be long on its way. An attempt past its time limit was ended by us and
        counts as failed; any other death counts as a loss.
        """
        dead = and_(
            attempts.c.ended_at.is_(None),
            attempts.c.worker == worker,
            attempts.c.worker_pid.not_in(live_pids),
            attempts.c.claimed_at <= claimed_until,
        )
        timed_out = and_(dead, attempts.c.ends_at <= database_now())
        is_last = jobs.c.attempt - jobs.c.losses >= jobs.c.max_attempts
        failed = {**come_back(spent=is_last, after=timedelta(0), waits_for=None), "error": TIMED_OUT}
        with self._database.transaction() as connection:
            ended = _move(connection, timed_out, failed)
            _end(connection, timed_out, "timed out")
            died = _move(connection, dead, lost())
            _end(connection, dead, "lost")
        self._count(ended, "timed out")
        self._count(died, "lost")
        return len(ended) + len(died)

    def _count(self, moved: Sequence[Row[Any]], reason: str) -> None:
        for row in moved:
            self._counts.add(TAKEN_BACK, row.queue, reason)
        count_ends(self._counts, moved)


def lost() -> dict[str, Any]:
    """Values of an UPDATE that ends an attempt whose process died.

    A job of io runs next in a child process of cpu, if there is a worker with such: whatever it did to its process, it
    does not do it to its neighbours again. One of a queue of one's own stays there: its workers have what it needs.
    """
    has_children = (
        select(workers.c.id).where(workers.c.queue == Queue.CPU, workers.c.seen_until > database_now()).exists()
    )
    return {
        **come_back(spent=jobs.c.losses + 1 >= MAX_LOSSES, after=timedelta(0), waits_for=None),
        "losses": jobs.c.losses + 1,
        "error": LOST,
        "queue": case((and_(jobs.c.queue == Queue.IO, has_children), Queue.CPU.value), else_=jobs.c.queue),
    }


def _open_calls(worker: str | ColumnElement[str]) -> ColumnElement[bool]:
    return and_(attempts.c.ended_at.is_(None), attempts.c.worker == worker)


def _runs(calls: ColumnElement[bool]) -> ColumnElement[bool]:
    """Condition: a job runs in one of these calls, under the same fence."""
    own = select(attempts.c.job_id).where(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence, calls)
    return and_(jobs.c.state == State.RUNNING, own.exists())


def _calls(connection: Connection, jobs_and_fences: Any) -> AbstractSet[Call]:
    return {(job_id, fence) for job_id, fence in connection.execute(jobs_and_fences)}


def _move(connection: Connection, calls: ColumnElement[bool], values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    """Updates the jobs that run in these calls."""
    # Locked in the order of ids, as everywhere where several are waited for: another order could deadlock.
    connection.execute(select(jobs.c.id).where(_runs(calls)).order_by(jobs.c.id).with_for_update(of=jobs))
    return connection.execute(update(jobs).where(_runs(calls)).values(**values).returning(*_MOVED)).all()


def _end(connection: Connection, calls: ColumnElement[bool], outcome: str) -> None:
    """Ends the calls whose job no longer runs in them: one that was claimed since the jobs were moved goes on."""
    runs = select(jobs.c.id).where(
        jobs.c.id == attempts.c.job_id, jobs.c.fence == attempts.c.fence, jobs.c.state == State.RUNNING
    )
    ended = update(attempts).where(calls, ~runs.exists()).values(ended_at=database_now(), outcome=outcome)
    forget_attempts(connection, list(connection.execute(ended.returning(attempts.c.job_id)).scalars()))


def lives(insert: Callable[[Table], Any], table: Table, *more: str) -> Any:
    """UPSERT of a heartbeat: `the_id` lives for `lasts` microseconds more; `more` columns are given as `its_…`."""
    its = {name: bindparam(f"its_{name}", type_=table.c[name].type) for name in more}
    until = type_coerce(NOW + bindparam("lasts", type_=BigInteger), Instant())
    new = insert(table).values(id=bindparam("the_id", type_=table.c.id.type), seen_until=until, **its)
    kept = {name: new.excluded[name] for name in ("seen_until", *more)}
    return new.on_conflict_do_update(index_elements=[table.c.id], set_=kept)


_HAS_CALLS = (
    select(attempts.c.job_id)
    .where(_open_calls(bindparam("the_id", type_=workers.c.id.type)))
    .exists()
    .label("has_calls")
)


def _beat(insert: Callable[[Table], Any]) -> Any:
    return lives(insert, workers, "queue", "size", "clock_error").returning(_HAS_CALLS, NOW.label("now"))


_BEAT: Prepared[Mapping[str, Any]] = Prepared(_beat(postgresql_insert), dict, on_sqlite=_beat(sqlite_insert))
