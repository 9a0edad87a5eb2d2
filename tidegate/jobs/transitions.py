"""The guarded moves of a job that several statements share: conditions and values of an UPDATE."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.sql.elements import KeyedColumnElement

from tidegate.clock import MICROSECOND
from tidegate.database.schema import attempts, downstreams, jobs, samples, workers
from tidegate.database.time import Instant, database_now
from tidegate.jobs.job import TOGETHER, Call, Claim, InBatch, Job, Wait
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import FINISHED
from tidegate.states import OPEN_STATES, State

JOB_COLUMNS: tuple[KeyedColumnElement[Any], ...] = (
    *(jobs.c[name] for name in Job.__dataclass_fields__ if name not in {"seen_at", "is_replay"}),
    database_now().label("seen_at"),
)

NOW = type_coerce(database_now(), BigInteger)
"""The database's clock in microseconds."""

ENDS = (jobs.c.operation, jobs.c.state)
"""What a move of jobs returns, for `count_ends`."""
HANDED_BACK = "handed back"
"""The outcome of an attempt whose worker stopped before it had another."""
IS_OPEN = jobs.c.state.in_(sorted(OPEN_STATES))
IS_WAITING = and_(jobs.c.state == State.QUEUED, jobs.c.slot_at.is_(None))
"""Queued, and not released."""
IS_POLLED = jobs.c.place_fence.is_not(None)
"""Its downstream has accepted the work: its calls ask how far it is, and it has a place until it ends."""
IN_TIME = jobs.c.deadline > database_now()


def count_ends(counts: Counts, moved: Iterable[Row[Any]]) -> None:
    """Counts, for the metrics, the moved jobs that are final now. Call it after the move is committed."""
    for row in moved:
        if State(row.state).is_final:
            counts.add(FINISHED, row.operation, row.state)


def job_from(row: Row[Any]) -> Job:
    """Makes a Job of a row of JOB_COLUMNS."""
    return job_of(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def job_of(columns: Mapping[Any, Any]) -> Job:
    """Makes a Job of JOB_COLUMNS by name."""
    values = dict(columns)
    values["state"] = State(values["state"])
    values["waits_for"] = Wait(values["waits_for"]) if values["waits_for"] else None
    values["error"] = orjson.loads(values["error"]) if values["error"] else None
    values["batch"] = InBatch.parse(values["batch"]) if values["batch"] else None
    if values["state"] is State.SUCCEEDED and values["total"] is not None:
        values["done"] = values["total"]  # the last report may have come before the last step: 100 % is all of it
    return Job(**values)


def error_text(error: Mapping[str, Any]) -> str:
    """The JSON for `jobs.error`. Never fails: what UTF-8 can't encode is replaced."""
    # Not orjson: it refuses text that UTF-8 can't say, and an outcome must always be recorded.
    return json.dumps(error, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()


def ended(state: State) -> dict[str, Any]:
    """Values of an UPDATE that ends a job in a final state other than succeeded."""
    return {
        "state": state,
        "finished_at": database_now(),
        "version": jobs.c.version + 1,
        "slot_at": None,
        "lease_until": None,
        "waits_for": None,
    }


def expired() -> dict[str, Any]:
    """Values of an UPDATE that expires a job, with what a queued one waited for when its deadline came."""
    return {**ended(State.EXPIRED), "waits_for": _waited_for()}


def _waited_for() -> ColumnElement[Any]:
    """What a job waits for at this moment, told as `waiting.reason` is; NULL: it runs.

    Found by its downstream, its workers and the last sample, which are all others by the time that somebody asks.
    """
    its_lane = downstreams.c.name == jobs.c.downstream
    is_broken = downstreams.c.breaker_after.between(1, downstreams.c.failures)
    is_full = samples.c.held >= downstreams.c.concurrency
    later_by = type_coerce(jobs.c.run_at, BigInteger) - type_coerce(jobs.c.created_at, BigInteger)
    is_for_later = and_(jobs.c.started_at.is_(None), later_by > TOGETHER // MICROSECOND)
    reasons: Sequence[tuple[ColumnElement[bool], Wait]] = (
        (jobs.c.slot_at.is_not(None), Wait.DISPATCH),
        (and_(jobs.c.run_at > jobs.c.deadline, jobs.c.waits_for == Wait.RETRY), Wait.RETRY),
        (and_(jobs.c.run_at > database_now(), jobs.c.waits_for == Wait.POLL), Wait.POLL),
        (and_(jobs.c.run_at > jobs.c.deadline, is_for_later), Wait.NOT_BEFORE),
        (exists().where(its_lane, downstreams.c.paused), Wait.PAUSED),
        (exists().where(its_lane, is_broken), Wait.BREAKER),
        (exists().where(its_lane, downstreams.c.paused_until > database_now()), Wait.PAUSED),
        (~exists().where(_runs_it()), Wait.NO_WORKER),
        (jobs.c.waits_for == Wait.POLL, Wait.POLL),
        (exists().where(its_lane, samples.c.downstream == downstreams.c.name, is_full), Wait.CONCURRENCY),
    )
    whys = [(holds, literal(why.value)) for holds, why in reasons]
    return case((jobs.c.state == State.RUNNING, None), *whys, else_=literal(Wait.PACE.value))


def _runs_it() -> ColumnElement[bool]:
    """Condition: the worker lives, and runs the job's operation, as far as it says which ones it runs."""
    quoted = literal('"') + jobs.c.operation + literal('"')
    is_known = func.replace(workers.c.operations, quoted, "") != workers.c.operations
    lives = and_(workers.c.queue == jobs.c.queue, workers.c.seen_until > database_now())
    return and_(lives, or_(workers.c.operations.is_(None), is_known))


def come_back(
    *, spent: bool | ColumnElement[bool], after: timedelta, waits_for: Wait | None, since: int | None = None
) -> dict[str, Any]:
    """Values of an UPDATE that ends an attempt without a result: its job is queued again, or final.

    The order, decided here alone: deadline passed: expired; cancel asked: cancelled; attempts spent: failed; else
    queued again, not before `after`. One that is polled waits for its next poll, whatever came of this one. `since`:
    the instant from which `after` counts, where several jobs are to come back together (microseconds); None: now.
    """
    is_spent = literal(spent) if isinstance(spent, bool) else spent
    # Read once, so that all parts of the move agree on which side of the deadline they are.
    now = select(database_now()).scalar_subquery()
    is_late = jobs.c.deadline <= now
    has_ended = or_(is_late, jobs.c.cancel_requested, is_spent)
    run_at = (type_coerce(now, BigInteger) if since is None else literal(since)) + after // MICROSECOND
    # Its place in its partition moves with it, unless that keeps the order of submit; NULL where there is none.
    moved = type_coerce(jobs.c.rank_at, BigInteger) + run_at - type_coerce(jobs.c.run_at, BigInteger)
    return {
        **ended(State.QUEUED),
        "state": case(
            (is_late, State.EXPIRED),
            (jobs.c.cancel_requested, State.CANCELLED),
            (is_spent, State.FAILED),
            else_=State.QUEUED,
        ),
        "finished_at": case((has_ended, database_now()), else_=None),
        "run_at": case((has_ended, jobs.c.run_at), else_=type_coerce(run_at, Instant())),
        "rank_at": case((or_(has_ended, jobs.c.keeps_rank), jobs.c.rank_at), else_=type_coerce(moved, Instant())),
        "waits_for": case((has_ended, None), (IS_POLLED, Wait.POLL), else_=waits_for),
    }


def is_mine(claim: Claim) -> ColumnElement[bool]:
    """Condition: the job still runs under this claim. The guard of every write of a worker."""
    return and_(jobs.c.id == claim.job_id, jobs.c.state == State.RUNNING, jobs.c.fence == claim.fence)


def is_released(job_id: str | ColumnElement[str], fence: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Condition: this release of the job still stands and nobody has claimed it."""
    return and_(jobs.c.id == job_id, jobs.c.state == State.QUEUED, jobs.c.fence == fence, jobs.c.slot_at.is_not(None))


def lock_rows(statement: Any, *, of: Table | None = None) -> Any:
    """FOR UPDATE SKIP LOCKED: locks the rows of a SELECT; rows locked by another transaction are skipped.

    Of a join, the rows `of` one table.
    On SQLite, whose writer is alone anyway, it is the SELECT that it was.
    """
    return statement.with_for_update(skip_locked=True, of=of)


def is_among(calls: Collection[Call]) -> ColumnElement[bool]:
    """Condition: the attempt is one of these calls, each a job's id and a fence."""
    which = tuple_(attempts.c.job_id, attempts.c.fence).in_([*calls])
    return and_(attempts.c.job_id.in_([job_id for job_id, _ in calls]), which)  # the index goes by these


def wait_briefly(connection: Connection) -> None:
    """Sets this transaction's lock timeout to one second; a longer wait raises OperationalError.

    Longer, and who watches over the connection would take the server for dead. On SQLite nothing: it has one lock, and
    this transaction has it.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")


def forget_attempts(connection: Connection, job_ids: Sequence[str]) -> None:
    """Deletes the attempts of erased jobs: those that have ended, and those that no worker has claimed.

    Nobody can claim them any more. One whose call is still open keeps its place, and goes when it ends.
    """
    if not job_ids:
        return
    of_these = attempts.c.job_id.in_(job_ids)
    # FOR UPDATE waits for a transaction that ends one of them now: whichever commits last sees job and call both ended.
    connection.execute(select(attempts.c.job_id).where(of_these).with_for_update())
    has_job = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id).exists()
    is_over = or_(attempts.c.ended_at.is_not(None), attempts.c.claimed_at.is_(None))
    connection.execute(delete(attempts).where(of_these, is_over, ~has_job))
