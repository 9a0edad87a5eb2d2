"""Writes a release to the database: the jobs' new fence and slot, and an attempts row each, which is their place."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Text, and_, bindparam, cast, func, insert, select, update

from tidegate.clock import to_microseconds
from tidegate.database.connection import Database, Within
from tidegate.database.json_rows import as_parameter, given_rows, is_one_of
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.dispatch.limiter_row import KEEP_PACE, VERSION, keep_pace, kept_pace
from tidegate.jobs.job import Released
from tidegate.jobs.transitions import lock_rows
from tidegate.rate_limit import Pace
from tidegate.states import State

# Plus the sweep's own second: a lost message is repaired within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_NOBODY = (None, None)

_MOVED = ("job_id", "fence", "slot_at")
_OWN = ("job_id", "fence", "queue", "slot_at", "follows_job", "follows_fence")
"""What each job has for itself; the rest is the same for all that are released together."""
_COMMON = ("downstream", "released_at", "place_until")

_Values: TypeAlias = dict[str, Any]


def let_go(
    database: Database,
    within: Within,
    downstream: str,
    released: Sequence[Released],
    *,
    now: datetime,
    pace: Pace,
    follow: Sequence[tuple[str | None, int | None]] = (),
) -> None:
    """Releases these jobs in this transaction, which holds the lane's lock.

    `pace`: the rate limiter's state after their slots. `follow`: for followers, the calls (job id, fence) whose places
    they wait for, in order.
    """
    rows = [_own(job, *call) for job, call in zip(released, follow or repeat(_NOBODY), strict=False)]
    common = _common(downstream, now)
    kept = kept_pace(downstream, pace, released=len(rows))
    (_each if database.is_sqlite else _all)(database, within, rows, common, kept)


def _own(job: Released, follows_job: str | None = None, follows_fence: int | None = None) -> _Values:
    return {
        "job_id": job.job_id,
        "fence": job.fence,
        "queue": job.queue,
        "slot_at": job.slot_at,
        "follows_job": follows_job,
        "follows_fence": follows_fence,
    }


def _common(downstream: str, now: datetime) -> _Values:
    return {"downstream": downstream, "released_at": now, "place_until": now + CLAIM_WITHIN}


def _each(database: Database, within: Within, rows: Sequence[_Values], common: _Values, kept: _Values) -> None:
    """On SQLite, where a statement costs no round trip: three kinds of statements, row by row."""
    for row in rows:
        database.ask(_LET_ONE_GO, {f"the_{name}": row[name] for name in _MOVED}, within=within)
        database.ask(_TAKE_PLACE, {f"its_{name}": value for name, value in {**row, **common}.items()}, within=within)
    database.ask(KEEP_PACE, kept, within=within)


def _all(database: Database, within: Within, rows: Sequence[_Values], common: _Values, kept: _Values) -> None:
    """On PostgreSQL: one statement, however many jobs there are."""
    database.ask(_LET_GO, {**_as_given(rows), **common, **kept}, within=within)


def let_few_go(
    database: Database, downstream: str, released: Sequence[Released], *, now: datetime, pace: Pace, version: str
) -> AbstractSet[str]:
    """Releases jobs on PostgreSQL in one statement, if the lane's row still has this `version`; returns their ids.

    No ids when that row is locked or has changed. A job that another transaction moved meanwhile is not among them, and
    its slot is lost.
    """
    values = {**_common(downstream, now), **kept_pace(downstream, pace), "its_version": version}
    return set(database.ask_all(_LET_FEW_GO, {**_as_given(map(_own, released)), **values}))


def _let_go() -> Any:
    new = _given()
    moved = (
        update(jobs)
        .where(jobs.c.id == new.c.job_id, is_one_of(jobs.c.id, new.c.job_id))
        .values(_released(new))
        .cte("moved")
    )
    kept = keep_pace().cte("kept")
    return insert(attempts).from_select([*_OWN, *_COMMON], select(*_places(new))).add_cte(moved, kept)


def _let_few_go() -> Any:
    """FOR UPDATE SKIP LOCKED on lane and jobs: rows locked by another transaction are skipped."""
    new = _given()
    this_lane = select(downstreams.c.name).where(
        downstreams.c.name == bindparam("lane"), cast(VERSION, Text) == bindparam("its_version", type_=Text)
    )
    lane = lock_rows(this_lane).cte("lane")
    is_as_it_was = select(lane.c.name).exists()
    # The fence shows that it was not released since. By "slot_at IS NULL" PostgreSQL would read the index of due jobs.
    has_not_moved = and_(jobs.c.state == State.QUEUED, jobs.c.fence == new.c.fence - 1)
    found = (
        select(jobs.c.id)
        .join(new, jobs.c.id == new.c.job_id)
        .where(is_one_of(jobs.c.id, new.c.job_id), has_not_moved, is_as_it_was)
    )
    still_waiting = lock_rows(found, of=jobs).cte("still_waiting")
    moved = (
        update(jobs)
        .where(jobs.c.id == new.c.job_id, is_one_of(jobs.c.id, still_waiting.c.id))
        .values(_released(new))
        .returning(jobs.c.id)
        .cte("moved")
    )
    count = select(func.count()).select_from(moved).scalar_subquery()
    kept = keep_pace(count).where(count > 0).cte("kept")
    places = select(*_places(new)).join(moved, moved.c.id == new.c.job_id)
    return insert(attempts).from_select([*_OWN, *_COMMON], places).returning(attempts.c.job_id).add_cte(kept)


def _as_given(rows: Iterable[_Values]) -> dict[str, str]:
    return as_parameter({**row, "slot_at": to_microseconds(row["slot_at"])} for row in rows)


def _given() -> Any:
    return given_rows({name: BigInteger() if name == "slot_at" else attempts.c[name].type for name in _OWN})


def _released(new: Any) -> _Values:
    return {"fence": new.c.fence, "slot_at": new.c.slot_at, "waits_for": None}


def _places(new: Any) -> Sequence[Any]:
    return *(new.c[name] for name in _OWN), *(bindparam(name, type_=attempts.c[name].type) for name in _COMMON)


_LET_GO = Prepared(_let_go(), bool)
_LET_FEW_GO = Prepared(_let_few_go(), lambda row: str(row["job_id"]))
_LET_ONE_GO = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("the_job_id"))
    .values(
        fence=bindparam("the_fence", type_=jobs.c.fence.type),
        slot_at=bindparam("the_slot_at", type_=jobs.c.slot_at.type),
        waits_for=None,
    ),
    bool,
)
_TAKE_PLACE = Prepared(
    insert(attempts).values(
        {name: bindparam(f"its_{name}", type_=attempts.c[name].type) for name in (*_OWN, *_COMMON)}
    ),
    bool,
)
