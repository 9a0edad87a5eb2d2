"""Undoes releases that nobody has claimed: their jobs wait again, and their places are free."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, update

from tidegate.database import Database
from tidegate.database_time import database_now
from tidegate.models import attempts, jobs
from tidegate.open_attempts import Call
from tidegate.prepared import Prepared
from tidegate.store.given_rows import as_parameter, given_rows, is_one_of
from tidegate.store.moves import is_released, lock_rows

_OUTCOME = bindparam("its_outcome", type_=attempts.c.outcome.type)
_IS_UNCLAIMED = and_(attempts.c.claimed_at.is_(None), attempts.c.ended_at.is_(None))
_ENDED = {"ended_at": database_now(), "outcome": _OUTCOME}


def take_back(database: Database, within: Connection, releases: Sequence[Call], *, outcome: str) -> int:
    """In this transaction; how many places came free. On PostgreSQL one statement, however many they are.

    Passes over those whose job somebody else has: they are being claimed, or ended.
    """
    if not releases:
        return 0
    ended = (_each if database.is_sqlite else _all)(database, within, releases, outcome)
    return len(ended)


def _each(database: Database, within: Connection, releases: Sequence[Call], outcome: str) -> Sequence[Any]:
    """Where a statement costs no round trip."""
    ended: list[Any] = []
    for job_id, fence in releases:
        values = {"the_job": job_id, "the_fence": fence, "its_outcome": outcome}
        database.ask(_WAIT_AGAIN, values, within=within)
        ended += database.ask_all(_END, values, within=within)
    return ended


def _all(database: Database, within: Connection, releases: Sequence[Call], outcome: str) -> Sequence[Any]:
    """Where it does."""
    rows = ({"job": job_id, "fence": fence} for job_id, fence in releases)
    return database.ask_all(_TAKE_BACK, {**as_parameter(rows), "its_outcome": outcome}, within=within)


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
        # By way of `free` the jobs are locked first, as a claim does it: else each could wait for the other.
        .where(attempts.c.job_id == given.c.job, attempts.c.fence == given.c.fence, _IS_UNCLAIMED)
        .where(is_one_of(attempts.c.job_id, free.c.id))
        .values(_ENDED)
        .returning(attempts.c.job_id)
        .add_cte(moved)
    )


_JOB, _FENCE = bindparam("the_job", type_=jobs.c.id.type), bindparam("the_fence", type_=jobs.c.fence.type)
_WAIT_AGAIN = Prepared(update(jobs).where(is_released(_JOB, _FENCE)).values(slot_at=None), bool)
_END = Prepared(
    update(attempts)
    .where(attempts.c.job_id == _JOB, attempts.c.fence == _FENCE, _IS_UNCLAIMED)
    .values(_ENDED)
    .returning(attempts.c.job_id),
    dict,
)
_TAKE_BACK = Prepared(_take_back(), dict)
