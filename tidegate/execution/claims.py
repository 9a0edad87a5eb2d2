"""The claim: moves a released job to running and reads its input; one statement on PostgreSQL, a transaction on SQLite.

The statements are built once: to build one takes longer than to run it.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from tidegate import clock
from tidegate.clock import MICROSECOND
from tidegate.database.batching import BatchedStatement
from tidegate.database.clock_sync import DatabaseClock
from tidegate.database.connection import Database
from tidegate.database.json_rows import MOST_ROWS, as_parameter, given_rows, is_one_of
from tidegate.database.schema import attempts, bodies, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant, database_now
from tidegate.dispatch.limiter_row import RESTS
from tidegate.dispatch.undo_release import take_back_release
from tidegate.execution.attempt import late_seconds
from tidegate.execution.attempt_times import place_held
from tidegate.jobs.job import Claim, input_of
from tidegate.jobs.transitions import (
    HANDED_BACK,
    IN_TIME,
    NOW,
    come_back,
    forget_attempts,
    is_released,
    lock_rows,
    wait_briefly,
)
from tidegate.operations.queues import Queue
from tidegate.states import State

_Values: TypeAlias = Mapping[str, Any]
_Row: TypeAlias = Mapping[str, Any]
_Timeouts: TypeAlias = tuple[tuple[str, int], ...]
_CLAIM = {
    "job": jobs.c.id.type,
    "fence": jobs.c.fence.type,
    "worker": attempts.c.worker.type,
    "pid": attempts.c.worker_pid.type,
    "lease": BigInteger(),
}
"""What a claim is asked for with; the lease in microseconds."""
_LANE = select(downstreams).where(downstreams.c.name == jobs.c.downstream)
_RESTS = exists(_LANE.where(RESTS))
_ASKED = (
    *(jobs.c[name] for name in ("id", "fence", "operation", "downstream", "queue", "attempt", "max_attempts")),
    *(jobs.c[name] for name in ("losses", "paced_by_calls", "traceparent", "poll_url")),
    type_coerce(jobs.c.run_at, BigInteger).label("run_at"),
    type_coerce(jobs.c.slot_at, BigInteger).label("slot_at"),
    type_coerce(jobs.c.deadline, BigInteger).label("deadline"),
    NOW.label("now"),
)
_ASKED_OF_LANE: Mapping[str, ColumnElement[Any]] = {
    "is_paced": downstreams.c.rates != "[]",
    "has_places": downstreams.c.concurrency.is_not(None),
    "refusals": downstreams.c.refusals,
    "jitter": downstreams.c.jitter,
}


def _take_job(which: Mapping[str, ColumnElement[Any]]) -> ReturningUpdate[Any]:
    """The UPDATE that claims a job. `which`: the released job, its fence, and the lease in microseconds."""
    return (
        update(jobs)
        .where(is_released(which["job"], which["fence"]), ~jobs.c.cancel_requested, IN_TIME, ~_RESTS)
        .values(
            state=State.RUNNING,
            version=jobs.c.version + 1,
            attempt=jobs.c.attempt + 1,
            started_at=func.coalesce(jobs.c.started_at, database_now()),
            lease_until=type_coerce(NOW + which["lease"], Instant()),
            waits_for=None,
            done=None,
            total=None,
            note=None,
        )
        .returning(*_ASKED)
    )


# Prefixed: a parameter named like a column would be taken for one that the UPDATE sets.
_ALONE = {name: bindparam(f"the_{name}", type_=kind) for name, kind in _CLAIM.items()}
_TAKE_JOB_ALONE: Prepared[Mapping[str, Any]] = Prepared(
    _take_job({name: _ALONE[name] for name in ("job", "fence", "lease")}).returning(
        *(_LANE.with_only_columns(what).scalar_subquery().label(name) for name, what in _ASKED_OF_LANE.items())
    ),
    dict,
)
_INPUT_ALONE: Prepared[Mapping[str, Any]] = Prepared(
    select(bodies.c.content, bodies.c.content_type, bodies.c.headers).where(
        bodies.c.job_id == _ALONE["job"], bodies.c.kind == "input"
    ),
    dict,
)
_TAKE_PLACE: Prepared[Mapping[str, Any]] = Prepared(
    update(attempts)
    .where(attempts.c.job_id == _ALONE["job"], attempts.c.fence == _ALONE["fence"])
    .values(
        place_held(
            bindparam("begins_at", type_=BigInteger),
            bindparam("timeout", type_=BigInteger),
            _ALONE["worker"],
            _ALONE["pid"],
        )
    )
    .returning(attempts.c.follows_job, attempts.c.follows_fence),
    dict,
)


def _all_in_one(timeouts: Mapping[str, int], *, waits: bool) -> Any:
    """PostgreSQL's claim of jobs, places and inputs in one statement, and so in one round trip and one commit.

    `waits`: for the lock of a job's row; else rows locked by another transaction are skipped.
    """
    wanted = given_rows(_CLAIM)
    found = select(jobs.c.id).where(is_one_of(jobs.c.id, wanted.c.job))
    ids = wanted.c.job if waits else lock_rows(found).cte("free").c.id
    take = _take_job({name: wanted.c[name] for name in _CLAIM})
    job = take.where(is_one_of(jobs.c.id, ids)).returning(wanted.c.worker, wanted.c.pid).cte("job")
    # A message may reach its worker after its slot: then the call begins now.
    begins_at = func.greatest(job.c.slot_at, job.c.now)
    timeout = case(timeouts, value=job.c.operation, else_=0) if timeouts else literal(0)
    place = (
        update(attempts)
        .where(attempts.c.job_id == job.c.id, attempts.c.fence == job.c.fence, is_one_of(attempts.c.job_id, job.c.id))
        .values(place_held(begins_at, timeout, job.c.worker, job.c.pid))
        .returning(attempts.c.job_id, attempts.c.follows_job, attempts.c.follows_fence)
        .cte("place")
    )
    its_input = and_(bodies.c.job_id == job.c.id, bodies.c.kind == "input", is_one_of(bodies.c.job_id, job.c.id))
    of_lane = (what.label(name) for name, what in _ASKED_OF_LANE.items())
    its_body = (bodies.c.content, bodies.c.content_type, bodies.c.headers)
    columns = (*job.c, *of_lane, place.c.follows_job, place.c.follows_fence, *its_body)
    lane_and_place = job.join(downstreams, downstreams.c.name == job.c.downstream).outerjoin(
        place, place.c.job_id == job.c.id
    )
    return select(*columns).select_from(lane_and_place.outerjoin(bodies, its_input))


@cache
def _claim(timeouts: _Timeouts, *, waits: bool) -> Prepared[_Row]:
    return Prepared(_all_in_one(dict(timeouts), waits=waits), dict)


_AT_ONCE = _claim((), waits=False)
_WAITING = _claim((), waits=True)
"""For `make sql`: where no operation has a time limit; else these stand in a CASE."""


class ClaimStore:
    """Statements by which a worker claims a released job; what it writes afterwards is in `outcome_store`."""

    def __init__(self, database: Database, database_clock: DatabaseClock) -> None:
        self._database = database
        self._clock = database_clock
        self._shared: dict[_Timeouts, BatchedStatement[_Values, _Row | None]] = {}

    def claim(
        self,
        job_id: str,
        fence: int,
        *,
        worker: str,
        pid: int,
        lease: timedelta,
        attempt_timeouts: Mapping[str, timedelta],
    ) -> Claim | None:
        """Claims a released job and reads its input; None when this release no longer stands, and its place is freed.

        Of several messages of one release the first wins. A job that was cancelled, expired, taken back by the
        sweep, or whose lane is paused is not handed out. The place is held for the attempt timeout + 2 s from the
        slot, or from the claim if that is later.
        """
        timeouts = {name: timeout // MICROSECOND for name, timeout in attempt_timeouts.items()}
        values = {"job": job_id, "fence": fence, "worker": worker, "pid": pid, "lease": lease // MICROSECOND}
        row = self._in_a_transaction(values, timeouts) if self._database.is_sqlite else self._at_once(values, timeouts)
        if row is None:
            with self._database.transaction() as connection:
                row = None if self._database.is_sqlite else self._waiting(connection, values, timeouts)
                if row is None:
                    take_back_release(self._database, connection, job_id, fence, outcome="dropped")
        return self._claim_of(row) if row else None

    def _at_once(self, values: _Values, timeouts: Mapping[str, int]) -> _Row | None:
        """Claims in a statement shared with other threads. None: not claimed, perhaps because its row is locked."""
        key = tuple(timeouts.items())
        if key not in self._shared:
            self._shared[key] = BatchedStatement(partial(self._take_all, _claim(key, waits=False)), most=MOST_ROWS)
        return self._shared[key].run(values)

    def _waiting(self, connection: Connection, values: _Values, timeouts: Mapping[str, int]) -> _Row | None:
        """Claims in this transaction, alone; waits for the row's lock."""
        wait_briefly(connection)
        (row,) = self._take_all(_claim(tuple(timeouts.items()), waits=True), [values], within=connection)
        return row

    def _take_all(
        self, statement: Prepared[_Row], wanted: Sequence[_Values], *, within: Connection | None = None
    ) -> Sequence[_Row | None]:
        asked_at = clock.monotonic()
        rows = self._database.fetch_all(statement, as_parameter(wanted), within=within)
        if rows:
            self._clock.update(rows[0]["now"], asked_at=asked_at, answered_at=clock.monotonic())
        taken = {(row["id"], row["fence"]): row for row in rows}
        # pop: of two messages of one release in the same statement, one gets the job.
        return [taken.pop((values["job"], values["fence"]), None) for values in wanted]

    def _in_a_transaction(self, values: _Values, timeouts: Mapping[str, int]) -> _Row | None:
        database = self._database
        named = {f"the_{name}": value for name, value in values.items()}

        def claim(connection: Connection) -> _Row | None:
            asked_at = clock.monotonic()
            job = database.fetch_one(_TAKE_JOB_ALONE, named, within=connection)
            if job is None:
                return None
            self._clock.update(job["now"], asked_at=asked_at, answered_at=clock.monotonic())
            at = {"begins_at": max(job["slot_at"], job["now"]), "timeout": timeouts.get(job["operation"], 0)}
            place = database.fetch_one(_TAKE_PLACE, {**named, **at}, within=connection) or {}
            body = database.fetch_one(_INPUT_ALONE, named, within=connection) or dict.fromkeys(
                ("content", "content_type", "headers")
            )
            return {**job, **place, **body}

        return database.batched(claim)

    def _claim_of(self, row: Mapping[str, Any]) -> Claim:
        is_poll = row["poll_url"] is not None  # then it follows its own place, which nobody else's call takes
        return Claim(
            job_id=row["id"],
            fence=row["fence"],
            operation=row["operation"],
            downstream=row["downstream"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            losses=row["losses"],
            is_paced=bool(row["is_paced"]) and not row["paced_by_calls"],
            paced_by_calls=bool(row["paced_by_calls"]),
            refusals=row["refusals"] or 0,
            traceparent=row["traceparent"],
            follows=(row["follows_job"], row["follows_fence"]) if row["follows_job"] and not is_poll else None,
            may_be_followed=bool(row["has_places"]) and row["queue"] == Queue.IO,
            poll_url=row["poll_url"],
            polls=row["fence"] - (row["follows_fence"] or 0) if is_poll else 0,
            waited_seconds=max(0, row["now"] - row["run_at"]) / 1e6,
            slot_due=self._clock.due(row["slot_at"]),
            late_seconds=late_seconds(jitter=row["jitter"] or 0, clock_error=self._clock.error),
            deadline_due=self._clock.due(row["deadline"]),
            input=input_of(row),
        )

    def disclaim(self, job_id: str, fence: int, *, worker: str) -> bool:
        """Undoes a claim whose answer was lost; returns whether it had been committed.

        The claim may still wait in the server, for a lock or to be committed, and be done there long after its
        connection is gone. Whichever of the two comes first, the job is in nobody's hands afterwards.
        """
        own = and_(
            attempts.c.job_id == job_id,
            attempts.c.fence == fence,
            attempts.c.worker == worker,
            attempts.c.ended_at.is_(None),
        )
        runs = and_(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == State.RUNNING)
        values = {**come_back(spent=False, after=timedelta(0), waits_for=None), "attempt": jobs.c.attempt - 1}
        with self._database.transaction() as connection:
            wait_briefly(connection)
            # Waits for a claim that holds the row's lock; a later one finds its release taken back. What follows are
            # separate statements, whose snapshots see what that claim wrote.
            connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
            if take_back_release(self._database, connection, job_id, fence, outcome="unclaimed"):
                return False
            connection.execute(update(jobs).where(runs, select(attempts.c.job_id).where(own).exists()).values(**values))
            ended = connection.execute(update(attempts).where(own).values(ended_at=database_now(), outcome=HANDED_BACK))
            forget_attempts(connection, [job_id])
        return ended.rowcount == 1
