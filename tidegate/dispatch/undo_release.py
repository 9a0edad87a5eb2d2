"""Undoes releases that no worker has claimed: jobs are queued again, places freed, calls given back to quotas.

That no such call was made is sure: in the same transaction the claim becomes impossible. What a worker has claimed and
surely not called is given back in the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, bindparam, select, type_coerce, update

from tidegate import rate_limit
from tidegate.database.connection import Database
from tidegate.database.json_rows import as_parameter, given_rows, is_one_of
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import database_now
from tidegate.dispatch import limiter_row
from tidegate.dispatch.partitions.writes import give_turns_back
from tidegate.jobs.job import Call
from tidegate.jobs.transitions import forget_attempts, is_released, lock_rows

_OUTCOME = bindparam("its_outcome", type_=attempts.c.outcome.type)
_IS_UNCLAIMED = and_(attempts.c.claimed_at.is_(None), attempts.c.ended_at.is_(None))
_ENDED = {"ended_at": database_now(), "outcome": _OUTCOME}
_RETURNED = (
    attempts.c.downstream,
    type_coerce(attempts.c.slot_at, BigInteger).label("slot_at"),
    attempts.c.job_id,
    attempts.c.follows_job,
    attempts.c.partition,
    # A release takes a slot only where an attempt is one call, and never for a follower of another job's call.
    select(jobs.c.paced_by_calls).where(jobs.c.id == attempts.c.job_id).scalar_subquery().label("paced_by_calls"),
)


def take_back_release(database: Database, within: Connection, job_id: str, fence: int, *, outcome: str) -> bool:
    """Undoes one release in this transaction; waits for the job's row lock. False: it no longer stood."""
    values = {"the_job": job_id, "the_fence": fence, "its_outcome": outcome}
    won = database.fetch_one(_WAIT_AGAIN, values, within=within) is not None
    ended = database.fetch_all(_END, values, within=within)
    _give_back(database, within, ended)
    if not won:
        forget_attempts(within, [job_id])
    return won


def take_back(database: Database, within: Connection, releases: Sequence[Call], *, outcome: str) -> int:
    """Undoes many releases in this transaction; returns how many places came free.

    On PostgreSQL one statement, however many they are. Jobs whose rows are locked by another transaction are skipped:
    they are being claimed, or ended.
    """
    if not releases:
        return 0
    ended = (_each if database.is_sqlite else _all)(database, within, releases, outcome)
    _give_back(database, within, ended)
    return len(ended)


def give_call_back(database: Database, within: Connection, job_id: str, fence: int) -> None:
    """Gives back the call of an attempt that a worker had claimed, and that ended without one. To be said once."""
    values = {"the_job": job_id, "the_fence": fence}
    _give_back(database, within, database.fetch_all(_NOT_CALLED, values, within=within))


def _give_back(database: Database, within: Connection, ended: Sequence[Mapping[str, Any]]) -> None:
    """Returns the calls of attempts that ended without one: the turns of partitions, and the slots.

    `ended`: the columns of `_RETURNED`. The windows of a downstream's rates, and of a partition's own, have those slots
    back; of the schedules that space the calls `rate_limit.given_back` tells. The downstreams' rows are locked after
    the jobs', by name.
    """
    shared: dict[str, list[tuple[str, int | None]]] = {}
    calls: dict[str, list[int]] = {}
    for each in ended:
        has_slot = each["follows_job"] in {None, each["job_id"]}
        is_paced = has_slot and each["paced_by_calls"] is not None and not each["paced_by_calls"]
        if each["partition"] is not None:
            slot = each["slot_at"] if is_paced else None
            shared.setdefault(each["downstream"], []).append((each["partition"], slot))
        if is_paced:
            calls.setdefault(each["downstream"], []).append(each["slot_at"])
    for name in sorted(shared):
        give_turns_back(within, name, shared[name])
    if not calls:
        return
    paced = select(downstreams.c.name).where(downstreams.c.name.in_([*calls]), downstreams.c.rates != "[]")
    for name in sorted(within.execute(paced).scalars()):
        if lane := limiter_row.locked(database, within, name):
            pace = rate_limit.given_back(lane.pace, calls[name], spacing=lane.allowance.spacing)
            kept = limiter_row.kept_pace(name, pace)
            database.execute(limiter_row.KEEP_PACE, kept, within=within)


def _each(database: Database, within: Connection, releases: Sequence[Call], outcome: str) -> Sequence[Any]:
    """On SQLite, where a statement costs no round trip: two statements a release."""
    ended: list[Any] = []
    for job_id, fence in releases:
        values = {"the_job": job_id, "the_fence": fence, "its_outcome": outcome}
        database.execute(_WAIT_AGAIN, values, within=within)
        ended += database.fetch_all(_END, values, within=within)
    return ended


def _all(database: Database, within: Connection, releases: Sequence[Call], outcome: str) -> Sequence[Any]:
    """On PostgreSQL: one statement for all."""
    rows = ({"job": job_id, "fence": fence} for job_id, fence in releases)
    return database.fetch_all(_TAKE_BACK, {**as_parameter(rows), "its_outcome": outcome}, within=within)


def _take_back() -> Any:
    given = given_rows({"job": jobs.c.id.type, "fence": jobs.c.fence.type})
    free = lock_rows(select(jobs.c.id).where(is_one_of(jobs.c.id, given.c.job))).cte("free")
    moved = (
        update(jobs)
        .where(is_released(given.c.job, given.c.fence), is_one_of(jobs.c.id, free.c.id))
        .values(slot_at=None)
        .cte("moved")
    )
    return (
        update(attempts)
        # Through `free` jobs are locked before attempts, as a claim does it: the other order could deadlock.
        .where(attempts.c.job_id == given.c.job, attempts.c.fence == given.c.fence, _IS_UNCLAIMED)
        .where(is_one_of(attempts.c.job_id, free.c.id))
        .values(_ENDED)
        .returning(*_RETURNED)
        .add_cte(moved)
    )


_JOB, _FENCE = bindparam("the_job", type_=jobs.c.id.type), bindparam("the_fence", type_=jobs.c.fence.type)
_WAIT_AGAIN = Prepared(
    update(jobs).where(is_released(_JOB, _FENCE)).values(slot_at=None).returning(jobs.c.id), lambda _: True
)
_END = Prepared(
    update(attempts)
    .where(attempts.c.job_id == _JOB, attempts.c.fence == _FENCE, _IS_UNCLAIMED)
    .values(_ENDED)
    .returning(*_RETURNED),
    dict,
)
_NOT_CALLED: Prepared[Mapping[str, Any]] = Prepared(
    select(*_RETURNED).where(attempts.c.job_id == _JOB, attempts.c.fence == _FENCE), dict
)
_TAKE_BACK = Prepared(_take_back(), dict)
