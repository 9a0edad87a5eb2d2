"""Writes a release to the database: the jobs' new fence and slot, and an attempts row each, which is their place."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
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
from tidegate.database.json_rows import as_parameter, given_rows, in_parts, is_one_of
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.dispatch.limiter_row import (
    KEEP_PACE,
    KEEP_PACE_OF_BATCHES,
    VERSION,
    VERSION_ON_SQLITE,
    keep_pace,
    keep_pace_of_batches,
    kept_pace,
)
from tidegate.dispatch.partitions.partition import Chosen
from tidegate.dispatch.partitions.writes import LANES_TURNS, lanes_turns, turns_as_parameter, upserts, write_turns
from tidegate.dispatch.plan import Plan
from tidegate.dispatch.undo_release import take_back
from tidegate.jobs.job import Released
from tidegate.jobs.transitions import IS_POLLED, IS_WAITING, lock_rows
from tidegate.states import State

# Plus the sweep's own second: a lost message is repaired within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_NOBODY = (None, None)

_MOVED = ("job_id", "fence", "slot_at")
_OWN = ("job_id", "fence", "queue", "slot_at", "follows_job", "follows_fence", "partition", "turn")
"""What each job has for itself; the rest is the same for all that are released together."""
_IN_BATCH = ("batch_id", "batch", "is_call")
"""And of a job that goes with others in one call: which, and whether it is the one that has slot and place."""
_VERSION = bindparam("its_version", type_=Text)
_NUMBER = bindparam("its_number", type_=BigInteger)
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
    if len(plans) == 1 and not database.is_sqlite:
        plan = plans[0]
        if _is_one_statement(plan):
            return [write(database, plan, None)]
        if plan.shared and not plan.has_batches and (each := _in_turn(database, plan, plan.shared)).released:
            return [each]
    with database.transaction() as within:
        written = []
        for plan in plans:
            each = write(database, plan, within)
            if any(map(plan.rides_along, plan.released)):
                each = _without_headless(database, within, plan, each)
            if plan.shared and each.released:
                chosen = plan.shared.with_only({job.job_id for job in each.released})
                has_clock = database.is_sqlite and not plan.has_batches
                write_turns(database, within, plan.state.lane, chosen, with_clock=not has_clock)
            written.append(each)
        return written


def _is_one_statement(plan: Plan) -> bool:
    """Whether it is written at once, on PostgreSQL, and nothing is to be looked at afterwards."""
    return not ((plan.has_batches and len(plan.released) > 1) or (plan.shared and plan.shared.partitions))


def _without_headless(database: Database, within: Connection, plan: Plan, written: Written) -> Written:
    """Takes jobs back that would go along with one that another transaction moved meanwhile: they had no call."""
    gone = {job.job_id for job in written.released}
    headless = [job for job in written.released if plan.rides_along(job) and plan.follows[job.job_id][0] not in gone]
    if not headless:
        return written
    take_back(database, within, [(job.job_id, job.fence) for job in headless], outcome="not sent")
    return replace(written, released=[job for job in written.released if job not in headless])


def _rows(plan: Plan) -> tuple[Sequence[_Values], _Values]:
    """What each job has for itself, and what all have."""
    rows: Sequence[_Values] = [_own(job, *plan.follows.get(job.job_id, _NOBODY)) for job in plan.released]
    if plan.has_batches:
        rows = [{**row, **_in_batch(job, plan)} for job, row in zip(plan.released, rows, strict=True)]
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


def _in_batch(job: Released, plan: Plan) -> _Values:
    batch_id, batch = (job.batch.id, job.batch.text) if job.batch else _NOBODY
    return {"batch_id": batch_id, "batch": batch, "is_call": not plan.rides_along(job)}


def _one_by_one(database: Database, plan: Plan, within: Connection | None) -> Written:
    """On SQLite, where a statement costs no round trip: under the one lock there is, two statements a job."""
    name = plan.state.lane.name
    rows, common = _rows(plan)
    move, moved, take_place = (
        (_MOVE_ONE_OF_BATCH, (*_MOVED, "batch"), _TAKE_PLACE_IN_BATCH)
        if plan.has_batches
        else (_MOVE_ONE, _MOVED, _TAKE_PLACE)
    )
    gone: set[str] = set()
    calls = 0
    if not database.fetch_one(_IS_UNCHANGED, {"lane": name, "its_version": plan.state.version}, within=within):
        return Written()
    for row in rows:
        if database.fetch_one(move, {f"the_{column}": row[column] for column in moved}, within=within):
            values = {f"its_{key}": value for key, value in {**row, **common}.items() if key not in _OF_JOB}
            database.execute(take_place, values, within=within)
            gone.add(row["job_id"])
            calls += row.get("is_call", True)
    if gone:
        kept = kept_pace(name, plan.pace, released=calls)
        if plan.has_batches:
            database.execute(KEEP_PACE_OF_BATCHES, {**kept, "its_jobs": len(gone)}, within=within)
        elif plan.shared and plan.shared.partitions:
            database.execute(_KEEP_PACE_IN_TURN, {**kept, **lanes_turns(name, plan.shared)}, within=within)
        else:
            database.execute(KEEP_PACE, kept, within=within)
    return _went(plan, gone)


def _all_at_once(database: Database, plan: Plan, within: Connection | None) -> Written:
    """On PostgreSQL: one statement for a lane; of jobs in batches, which may be a thousand, several in turn."""
    move = _MOVE_ALL_IN_BATCHES if plan.has_batches else _MOVE_ALL
    ids: set[str] = set()
    version: str | None = plan.state.version
    for values in _values(plan):
        gone = database.fetch_all(move, {**values, "its_version": version}, within=within)
        if gone:  # the lane's row is this transaction's from now on
            version = gone[0][1]
            ids |= {job_id for job_id, _ in gone}
        elif not ids:
            break  # the lane's row is another's; or these were all moved, which the next look will see
    return _went(plan, ids, version if ids else None)


def _in_turn(database: Database, plan: Plan, chosen: Chosen) -> Written:
    """On PostgreSQL: a release of a shared lane and its turns in one statement. Either all jobs go or none does."""
    turns = {**lanes_turns(plan.state.lane.name, chosen), **turns_as_parameter(plan.state.lane, chosen)}
    values = {**_values(plan)[0], **turns, "its_number": len(plan.released)}
    gone = database.fetch_all(_MOVE_ALL_IN_TURN, values)
    return _went(plan, {job_id for job_id, _ in gone}, gone[0][1] if gone else None)


def _values(plan: Plan) -> Sequence[_Values]:
    """The parameters of each statement."""
    rows, common = _rows(plan)
    common = {**common, **kept_pace(plan.state.lane.name, plan.pace), "its_version": plan.state.version}
    given = [{**row, "slot_at": to_microseconds(row["slot_at"])} for row in rows]
    return [{**as_parameter(some), **common} for some in (in_parts(given) if plan.has_batches else [given])]


def _move_all(*, in_batches: bool = False, in_turn: bool = False) -> Any:
    """FOR UPDATE SKIP LOCKED on lane and jobs: rows locked by another transaction are skipped.

    `in_turn`: with the turns of partitions; then all of the given number of jobs go or none does.
    """
    new = _given(in_batches=in_batches)
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
    is_each = select(func.count()).select_from(still_waiting).scalar_subquery() == _NUMBER
    moved = (
        update(jobs)
        .where(jobs.c.id == new.c.job_id, is_one_of(jobs.c.id, still_waiting.c.id), *([is_each] if in_turn else []))
        .values({**_released(new), **({"batch": new.c.batch} if in_batches else {})})
        .returning(jobs.c.id, *([new.c.is_call] if in_batches else []))
        .cte("moved")
    )
    count = select(func.count()).select_from(moved).scalar_subquery()
    if in_batches:
        calls = select(func.count()).select_from(moved).where(moved.c.is_call).scalar_subquery()
        keep = keep_pace_of_batches(calls, count)
    else:
        keep = keep_pace(count).values(LANES_TURNS) if in_turn else keep_pace(count)
    kept = keep.where(count > 0).cte("kept")
    names = (*_OWN, "batch_id") if in_batches else _OWN
    places = select(*_places(new, names)).join(moved, moved.c.id == new.c.job_id)
    # The lane's row was written by the same transaction: its version is that of the new rows.
    version = cast(literal_column("attempts.xmin"), Text).label("version")
    return (
        insert(attempts)
        .from_select([*names, *_COMMON], places)
        .returning(attempts.c.job_id, version)
        .add_cte(kept, *(upserts(count > 0) if in_turn else ()))
    )


def _given(*, in_batches: bool) -> Any:
    kinds = {name: BigInteger() if name == "slot_at" else attempts.c[name].type for name in _OWN}
    of_batch = {"batch_id": attempts.c.batch_id.type, "batch": jobs.c.batch.type, "is_call": Boolean()}
    return given_rows({**kinds, **of_batch} if in_batches else kinds)


# Of a poll: should its release be undone, it waits for that again.
_WAITS_FOR = case((IS_POLLED, jobs.c.waits_for), else_=None)


def _released(new: Any) -> _Values:
    return {"fence": new.c.fence, "slot_at": new.c.slot_at, "waits_for": _WAITS_FOR}


def _places(new: Any, names: Sequence[str]) -> Sequence[Any]:
    return *(new.c[name] for name in names), *(bindparam(name, type_=attempts.c[name].type) for name in _COMMON)


_IS_UNCHANGED = Prepared(
    select(downstreams.c.name).where(downstreams.c.name == bindparam("lane"), VERSION_ON_SQLITE == _VERSION), bool
)
_MOVE_ALL = Prepared(_move_all(), lambda row: (str(row["job_id"]), str(row["version"])))
_MOVE_ALL_IN_TURN = Prepared(
    _move_all(in_turn=True), lambda row: (str(row["job_id"]), str(row["version"])), on_sqlite=_move_all()
)
# For many jobs in one call a statement of its own: that of every other release is as cheap as it can be.
_MOVE_ALL_IN_BATCHES = Prepared(_move_all(in_batches=True), lambda row: (str(row["job_id"]), str(row["version"])))


def _move_one() -> Any:
    return (
        update(jobs)
        .where(IS_WAITING, jobs.c.id == bindparam("the_job_id"), jobs.c.fence == bindparam("the_fence") - 1)
        .values(
            fence=bindparam("the_fence", type_=jobs.c.fence.type),
            slot_at=bindparam("the_slot_at", type_=jobs.c.slot_at.type),
            waits_for=_WAITS_FOR,
        )
        .returning(jobs.c.id)
    )


def _take_place(*names: str) -> Any:
    return insert(attempts).values({name: bindparam(f"its_{name}", type_=attempts.c[name].type) for name in names})


_MOVE_ONE = Prepared(_move_one(), bool)
_MOVE_ONE_OF_BATCH = Prepared(_move_one().values(batch=bindparam("the_batch", type_=jobs.c.batch.type)), bool)
_KEEP_PACE_IN_TURN = Prepared(keep_pace().values(LANES_TURNS), bool)
_TAKE_PLACE = Prepared(_take_place(*_OWN, *_COMMON), bool)
_TAKE_PLACE_IN_BATCH = Prepared(_take_place(*_OWN, *_COMMON, "batch_id"), bool)
_OF_JOB = frozenset({"batch", "is_call"})  # what a row has beside the columns of its attempt
