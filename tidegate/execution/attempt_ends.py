"""Statements that end an attempt: its job's next state, its place, and what its lane learns of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    func,
    select,
    true,
    type_coerce,
    update,
)

from tidegate.clock import MICROSECOND
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.time import Instant, database_now
from tidegate.dispatch.announced import longest_rest
from tidegate.dispatch.partitions.throttle import rest_partition
from tidegate.execution.attempt_times import PLACE_MARGIN
from tidegate.jobs.job import Claim
from tidegate.jobs.transitions import (
    ENDS,
    HANDED_BACK,
    NOW,
    forget_attempts,
    is_mine,
)

# The pause of an open circuit breaker, in seconds: so much longer after each failed probe.
_BREAKER_STEP = 5
_BREAKER_LONGEST = 60


def move(connection: Connection, claim: Claim, *guards: ColumnElement[bool], **values: Any) -> Sequence[Row[Any]]:
    """Updates the job if this claim still holds it and the guards hold; returns its row, or none."""
    return connection.execute(update(jobs).where(is_mine(claim), *guards).values(**values).returning(*ENDS)).all()


def end_attempt(connection: Connection, claim: Claim, outcome: str, call_seconds: float | None, *, won: bool) -> bool:
    """Ends the attempt, which frees its place; whether this outcome stands.

    An answer that was lost on its way back makes a worker offer its outcome again: then it stands already. What a
    worker that stops has handed back stays so, whatever its threads say before they are gone.
    """
    own = and_(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
    if not won:
        written = connection.execute(select(attempts.c.outcome).where(own)).scalar_one_or_none()
        if written in {outcome, HANDED_BACK}:
            return bool(written == outcome)
    started = {} if call_seconds is None else {"call_started_at": database_now(-timedelta(seconds=call_seconds))}
    connection.execute(
        update(attempts).where(own).values(ended_at=database_now(), outcome=outcome if won else "late", **started)
    )
    if not won:
        forget_attempts(connection, [claim.job_id])
    return won


def keep_place(connection: Connection, claim: Claim, outcome: str, call_seconds: float | None, *, won: bool) -> bool:
    """Keeps the place of an attempt whose call has ended: no worker has it any more, and the end of its job frees it.

    Longer than until the deadline nothing holds it.
    """
    own = and_(attempts.c.job_id == claim.job_id, attempts.c.fence == claim.fence)
    deadline = select(type_coerce(jobs.c.deadline, BigInteger)).where(jobs.c.id == claim.job_id).scalar_subquery()
    started = {} if call_seconds is None else {"call_started_at": database_now(-timedelta(seconds=call_seconds))}
    until = type_coerce(deadline + PLACE_MARGIN // MICROSECOND, Instant())
    kept = {"worker": None, "worker_pid": None, "outcome": outcome, "place_until": until}
    connection.execute(update(attempts).where(own).values(**kept, **started))
    return won


def lane_refused(database: Database, connection: Connection, claim: Claim, after: timedelta) -> None:
    """Pauses the lane, or its partition alone where the downstream refuses by partition.

    Calls that were open at the first refusal are refused too: that is one pause, not many.
    """
    if rest_partition(database, connection, claim, after):
        return
    rates = connection.execute(select(downstreams.c.rates).where(downstreams.c.name == claim.downstream)).scalar_one()
    until = database_now(min(after, longest_rest(orjson.loads(rates))))
    rests = downstreams.c.paused_until > database_now()
    connection.execute(
        update(downstreams)
        .where(downstreams.c.name == claim.downstream)
        .values(
            refusals=case((rests, downstreams.c.refusals), else_=downstreams.c.refusals + 1),
            paused_until=case(
                (and_(rests, downstreams.c.paused_until > until), downstreams.c.paused_until), else_=until
            ),
        )
    )


def lane_failed(connection: Connection, claim: Claim) -> None:
    """Counts one more failure in a row; opens the breaker at `breaker_after`, longer after each failed probe."""
    rests = downstreams.c.paused_until > database_now()
    failures = case((rests, downstreams.c.failures), else_=downstreams.c.failures + 1)
    probes = failures - downstreams.c.breaker_after + 1
    seconds = case((probes * _BREAKER_STEP > _BREAKER_LONGEST, _BREAKER_LONGEST), else_=probes * _BREAKER_STEP)
    opens = and_(downstreams.c.breaker_after > 0, probes >= 1, func.coalesce(~rests, true()))
    connection.execute(
        update(downstreams)
        .where(downstreams.c.name == claim.downstream)
        .values(
            failures=failures,
            paused_until=case(
                (opens, type_coerce(NOW + seconds * 1_000_000, Instant())), else_=downstreams.c.paused_until
            ),
        )
    )
