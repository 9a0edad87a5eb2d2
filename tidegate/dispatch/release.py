"""Writes a release to the database: the jobs' new fence and slot, and an attempts row each, which is their place."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    update,
)

from tidegate.clock import from_microseconds, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import as_parameter, given_rows, is_one_of
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.dispatch.limiter_row import KEEP_PACE, VERSION, VERSION_ON_SQLITE, keep_pace, kept_pace
from tidegate.dispatch.partitions.writes import write_turns
from tidegate.dispatch.plan import Plan
from tidegate.jobs.job import Released
from tidegate.jobs.transitions import IS_POLLED, IS_WAITING, lock_rows
from tidegate.states import State

# Plus the sweep's own second: a lost message is repaired within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_NOBODY = (None, None)

_MOVED = ("job_id", "fence", "slot_at")
_OWN = ("job_id", "fence", "queue", "slot_at", "follows_job", "follows_fence", "partition", "turn")
"""What each job has for itself; the rest is the same for all that are released together."""
_VERSION = bindparam("its_version", type_=Text)
_COMMON = ("downstream", "released_at", "place_until")

_Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was released by one plan; `version`: of the lane's row after it, None where that is not known."""

    released: Sequence[Released] = ()
    version: str | None = None


def write_releases(database: Database, plans: Sequence[Plan]) -> Sequence[Written]:
    """Writes the releases of different lanes in one transaction, each if the lane's row is still as its plan's.

    Optimistic concurrency control (Kung and Robinson, 1981): no lock is held between read and write. Nothing is
    released of a lane whose row is locked or has changed. A job that another transaction moved meanwhile stays.
    """
    write = _one_by_one if database.is_sqlite else _all_at_once
    if len(plans) == 1 and plans[0].shared is None and not database.is_sqlite:
        return [write(database, plans[0], None)]
    with database.transaction() as within:
        written = []
        for plan in plans:
            each = write(database, plan, within)
            if plan.shared and each.released:
                chosen = plan.shared.with_only({job.job_id for job in each.released})
                write_turns(database, within, plan.state.lane.name, chosen)
            written.append(each)
        return written


def _rows(plan: Plan) -> tuple[Sequence[_Values], _Values]:
    """What each job has for itself, and what all have."""
    rows = [_own(job, *plan.follows.get(job.job_id, _NOBODY)) for job in plan.released]
    now = from_microseconds(plan.state.now)
    return rows, {"downstream": plan.state.lane.name, "released_at": now, "place_until": now + CLAIM_WITHIN}


def _went(plan: Plan, ids: AbstractSet[str], version: str | None = None) -> Written:
    return Written(released=[job for job in plan.released if job.job_id in ids], version=version)


def _own(job: Released, follows_job: str | None = None, follows_fence: int | None = None) -> _Values:
    return {
        "job_id": job.job_id,
        "fence": job.fence,
        "queue": job.queue,
        "slot_at": job.slot_at,
        "follows_job": follows_job,
        "follows_fence": follows_fence,
        "partition": job.partition,
        "turn": job.turn,
    }


def _one_by_one(database: Database, plan: Plan, within: Connection | None) -> Written:
    """On SQLite, where a statement costs no round trip: under the one lock there is, two statements a job."""
    name = plan.state.lane.name
    rows, common = _rows(plan)
    gone: set[str] = set()
    if not database.fetch_one(_IS_UNCHANGED, {"lane": name, "its_version": plan.state.version}, within=within):
        return Written()
    for row in rows:
        if database.fetch_one(_MOVE_ONE, {f"the_{column}": row[column] for column in _MOVED}, within=within):
            values = {f"its_{key}": value for key, value in {**row, **common}.items()}
            database.execute(_TAKE_PLACE, values, within=within)
            gone.add(row["job_id"])
    if gone:
        database.execute(KEEP_PACE, kept_pace(name, plan.pace, released=len(gone)), within=within)
    return _went(plan, gone)


def _all_at_once(database: Database, plan: Plan, within: Connection | None) -> Written:
    """On PostgreSQL: one statement for a lane, however many jobs there are."""
    rows, common = _rows(plan)
    kept = kept_pace(plan.state.lane.name, plan.pace)
    values = {**as_parameter({**row, "slot_at": to_microseconds(row["slot_at"])} for row in rows), **common, **kept}
    gone = database.fetch_all(_MOVE_ALL, {**values, "its_version": plan.state.version}, within=within)
    return _went(plan, {job_id for job_id, _ in gone}, gone[0][1] if gone else None)


def _move_all() -> Any:
    """FOR UPDATE SKIP LOCKED on lane and jobs: rows locked by another transaction are skipped."""
    new = _given()
    this_lane = select(downstreams.c.name).where(downstreams.c.name == bindparam("lane"), VERSION == _VERSION)
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
    # The lane's row was written by the same transaction: its version is that of the new rows.
    version = cast(literal_column("attempts.xmin"), Text).label("version")
    return insert(attempts).from_select([*_OWN, *_COMMON], places).returning(attempts.c.job_id, version).add_cte(kept)


def _given() -> Any:
    return given_rows({name: BigInteger() if name == "slot_at" else attempts.c[name].type for name in _OWN})


# Of a poll: should its release be undone, it waits for that again.
_WAITS_FOR = case((IS_POLLED, jobs.c.waits_for), else_=None)


def _released(new: Any) -> _Values:
    return {"fence": new.c.fence, "slot_at": new.c.slot_at, "waits_for": _WAITS_FOR}


def _places(new: Any) -> Sequence[Any]:
    return *(new.c[name] for name in _OWN), *(bindparam(name, type_=attempts.c[name].type) for name in _COMMON)


_IS_UNCHANGED = Prepared(
    select(downstreams.c.name).where(downstreams.c.name == bindparam("lane"), VERSION_ON_SQLITE == _VERSION), bool
)
_MOVE_ALL = Prepared(_move_all(), lambda row: (str(row["job_id"]), str(row["version"])))
_MOVE_ONE = Prepared(
    update(jobs)
    .where(IS_WAITING, jobs.c.id == bindparam("the_job_id"), jobs.c.fence == bindparam("the_fence") - 1)
    .values(
        fence=bindparam("the_fence", type_=jobs.c.fence.type),
        slot_at=bindparam("the_slot_at", type_=jobs.c.slot_at.type),
        waits_for=_WAITS_FOR,
    )
    .returning(jobs.c.id),
    bool,
)
_TAKE_PLACE = Prepared(
    insert(attempts).values(
        {name: bindparam(f"its_{name}", type_=attempts.c[name].type) for name in (*_OWN, *_COMMON)}
    ),
    bool,
)
