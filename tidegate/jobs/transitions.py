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
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.sql.elements import KeyedColumnElement

from tidegate.clock import MICROSECOND
from tidegate.database.schema import attempts, jobs
from tidegate.database.time import Instant, database_now
from tidegate.jobs.job import Call, Claim, InBatch, Job, Wait
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
    values["waits_for"] = wait_of(values["waits_for"]) if values["waits_for"] else None
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


# Names that are too long for their column, which is not to be changed under who reads it.
_SHORT = {
    Wait.PARTITION_PACE: "own_pace",
    Wait.PARTITION_CONCURRENCY: "own_places",
    Wait.PARTITION_ORDER: "own_order",
}
_LONG = {short: wait for wait, short in _SHORT.items()}


def stored_wait(wait: Wait) -> str:
    """As it stands in `jobs.waits_for`."""
    return _SHORT.get(wait, wait.value)


def wait_of(stored: str) -> Wait:
    """Restores what `stored_wait` made."""
    return _LONG.get(stored) or Wait(stored)


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
