"""Records successes (job, result, attempt): on PostgreSQL those of several threads in one statement."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    bindparam,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from tidegate.database.batching import BatchedStatement
from tidegate.database.connection import Database
from tidegate.database.json_rows import (
    MOST_ROWS,
    SMALL,
    as_bytes,
    as_parameter,
    as_text,
    given_rows,
    in_parts,
    is_one_of,
)
from tidegate.database.schema import attempts, bodies, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant, database_now
from tidegate.execution.attempt import Success
from tidegate.jobs.transitions import IN_TIME, NOW, ended, lock_rows
from tidegate.states import State

_JOB, _FENCE = bindparam("the_job", type_=jobs.c.id.type), bindparam("the_fence", type_=jobs.c.fence.type)
_SUCCEEDED = {**ended(State.SUCCEEDED), "percent": 100, "error": None}
_RESULT = {name: bindparam(f"its_{name}", type_=bodies.c[name].type) for name in ("content_type", "is_json", "content")}
_LANE_ANSWERED = {"refusals": 0, "failures": 0}
_IS_TROUBLED = or_(downstreams.c.failures > 0, downstreams.c.refusals > 0)
LANE_ANSWERED = Prepared(
    update(downstreams).where(downstreams.c.name == bindparam("lane"), _IS_TROUBLED).values(_LANE_ANSWERED), bool
)
"""Resets a downstream's refusals and failures in a row; without any, nothing is written or locked. It reads the row
again: the claim may be older than they are."""
_SUCCEED_ALONE = Prepared(
    update(jobs)
    .where(jobs.c.id == _JOB, jobs.c.state == State.RUNNING, jobs.c.fence == _FENCE, IN_TIME)
    .values(_SUCCEEDED)
    .returning(
        select(downstreams.c.name).where(downstreams.c.name == jobs.c.downstream, _IS_TROUBLED).exists().label("ends")
    ),
    lambda row: bool(row["ends"]),
)
_KEEP_RESULT = Prepared(insert(bodies).values(job_id=_JOB, kind="result", **_RESULT), bool)


def _call_succeeded(call: ColumnElement[int]) -> dict[str, Any]:
    """Values of an attempt that succeeded; `call`: how long it took, in microseconds."""
    call_started_at = type_coerce(NOW - call, Instant())
    return {"ended_at": database_now(), "outcome": "succeeded", "call_started_at": call_started_at}


_END_CALL = Prepared(
    update(attempts)
    .where(attempts.c.job_id == _JOB, attempts.c.fence == _FENCE)
    .values(_call_succeeded(bindparam("call", type_=BigInteger))),
    bool,
)


def _succeed_at_once() -> Any:
    """PostgreSQL's usual end of jobs in one statement, and so in one round trip and one commit."""
    kinds = {"job": jobs.c.id.type, "fence": jobs.c.fence.type, "call": BigInteger(), "content": Text()}
    kinds |= {name: bodies.c[name].type for name in ("content_type", "is_json")}
    given = given_rows(kinds)
    # SKIP LOCKED: a job whose row is locked is recorded alone afterwards, and the others don't wait for it.
    free = lock_rows(select(jobs.c.id).where(is_one_of(jobs.c.id, given.c.job))).cte("free")
    won = (
        update(jobs)
        .where(jobs.c.id == given.c.job, is_one_of(jobs.c.id, free.c.id))
        .where(jobs.c.state == State.RUNNING, jobs.c.fence == given.c.fence, IN_TIME)
        .values(_SUCCEEDED)
        .returning(jobs.c.id, jobs.c.downstream, *(given.c[name] for name in kinds if name != "job"))
        .cte("won")
    )
    names = ["job_id", "kind", "content_type", "is_json", "content"]
    columns = (won.c.id, literal("result"), won.c.content_type, won.c.is_json, as_bytes(won.c.content))
    result = insert(bodies).from_select(names, select(*columns)).cte("result")
    attempt = (
        update(attempts)
        .where(attempts.c.job_id == won.c.id, attempts.c.fence == won.c.fence, is_one_of(attempts.c.job_id, won.c.id))
        .values(_call_succeeded(won.c.call))
        .cte("attempt")
    )
    # By name, in the order of the index: two such statements with several lanes do not deadlock.
    answered = (
        update(downstreams)
        .where(is_one_of(downstreams.c.name, won.c.downstream), _IS_TROUBLED)
        .values(_LANE_ANSWERED)
        .cte("answered")
    )
    return select(won.c.id, won.c.fence).add_cte(result, attempt, answered)


_SUCCEED_AT_ONCE = Prepared(_succeed_at_once(), lambda row: (str(row["id"]), int(row["fence"])))


class Successes:
    """Writes successes. Both ways write only under the claim's fence and before the deadline."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shared = BatchedStatement(self._record_all, most=MOST_ROWS)

    def record_at_once(self, success: Success) -> bool:
        """Records on PostgreSQL, in one statement with other threads; False: not recorded, for any of many reasons."""
        return len(success.result.content) <= SMALL and self._shared.run(success)

    def record_together(self, successes: Sequence[Success]) -> Sequence[bool]:
        """Records on PostgreSQL in as few statements as is cheap; which were recorded. None is, where one is long."""
        if any(len(success.result.content) > SMALL for success in successes):
            return [False] * len(successes)
        return [won for some in in_parts(successes) for won in self._record_all(some)]

    def record_within(self, connection: Connection, success: Success) -> bool:
        """Records in this transaction; False: the job is no longer this claim's, or its deadline has passed."""
        values = {
            "the_job": success.claim.job_id,
            "the_fence": success.claim.fence,
            "call": success.call,
            **{f"its_{name}": getattr(success.result, name) for name in _RESULT},
        }
        ends_a_run = self._database.fetch_one(_SUCCEED_ALONE, values, within=connection)
        if ends_a_run is None:
            return False
        self._database.execute(_KEEP_RESULT, values, within=connection)
        self._database.execute(_END_CALL, values, within=connection)
        if ends_a_run:
            self._database.execute(LANE_ANSWERED, {"lane": success.claim.downstream}, within=connection)
        return True

    def _record_all(self, successes: Sequence[Success]) -> Sequence[bool]:
        rows = (
            {
                "job": success.claim.job_id,
                "fence": success.claim.fence,
                "call": success.call,
                "content_type": success.result.content_type,
                "is_json": success.result.is_json,
                "content": as_text(success.result.content),
            }
            for success in successes
        )
        won = set(self._database.fetch_all(_SUCCEED_AT_ONCE, as_parameter(rows)))
        return [(success.claim.job_id, success.claim.fence) in won for success in successes]
