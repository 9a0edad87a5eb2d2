"""The statements of a claim: one for many jobs on PostgreSQL, three for each on SQLite.

They are built once: to build one takes longer than to run it.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from tidegate import rate_limit
from tidegate.database.json_rows import given_rows, is_one_of
from tidegate.database.schema import attempts, bodies, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant, database_now
from tidegate.dispatch.limiter_row import RESTS
from tidegate.execution.attempt_times import place_held
from tidegate.jobs.own_partition import OWN, partition_rests
from tidegate.jobs.transitions import (
    IN_TIME,
    NOW,
    is_released,
    lock_rows,
)
from tidegate.states import State

Row: TypeAlias = Mapping[str, Any]
Timeouts: TypeAlias = tuple[tuple[str, int], ...]
CLAIM = {
    "job": jobs.c.id.type,
    "fence": jobs.c.fence.type,
    "worker": attempts.c.worker.type,
    "pid": attempts.c.worker_pid.type,
    "lease": BigInteger(),
}
"""What a claim is asked for with; the lease in microseconds."""
_LANE = select(downstreams).where(downstreams.c.name == jobs.c.downstream)
_RESTS = or_(exists(_LANE.where(RESTS)), and_(jobs.c.partition.is_not(None), partition_rests()))
_ASKED = (
    *(jobs.c[name] for name in ("id", "fence", "operation", "downstream", "queue", "attempt", "max_attempts")),
    *(jobs.c[name] for name in ("losses", "paced_by_calls", "traceparent", "poll_url", "partition")),
    OWN.label("own"),
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
_ALONE = {name: bindparam(f"the_{name}", type_=kind) for name, kind in CLAIM.items()}
TAKE_JOB_ALONE: Prepared[Mapping[str, Any]] = Prepared(
    _take_job({name: _ALONE[name] for name in ("job", "fence", "lease")}).returning(
        *(_LANE.with_only_columns(what).scalar_subquery().label(name) for name, what in _ASKED_OF_LANE.items())
    ),
    dict,
)
INPUT_ALONE: Prepared[Mapping[str, Any]] = Prepared(
    select(bodies.c.content, bodies.c.content_type, bodies.c.headers).where(
        bodies.c.job_id == _ALONE["job"], bodies.c.kind == "input"
    ),
    dict,
)
TAKE_PLACE: Prepared[Mapping[str, Any]] = Prepared(
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
    wanted = given_rows(CLAIM)
    found = select(jobs.c.id).where(is_one_of(jobs.c.id, wanted.c.job))
    ids = wanted.c.job if waits else lock_rows(found).cte("free").c.id
    take = _take_job({name: wanted.c[name] for name in CLAIM})
    job = take.where(is_one_of(jobs.c.id, ids)).returning(wanted.c.worker, wanted.c.pid).cte("job")
    # A message may reach its worker after its slot: then the call begins now. No slot lies further ahead, unless it is
    # of a clock that was set back: by that the place of a worker that dies would be held for as long.
    begins_at = func.least(func.greatest(job.c.slot_at, job.c.now), job.c.now + rate_limit.AHEAD)
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
def claim_statement(timeouts: Timeouts, *, waits: bool) -> Prepared[Row]:
    return Prepared(_all_in_one(dict(timeouts), waits=waits), dict)


_AT_ONCE = claim_statement((), waits=False)
_WAITING = claim_statement((), waits=True)
"""For `make sql`: where no operation has a time limit; else these stand in a CASE."""
