"""Reads all that a release of lanes' jobs is planned from: their rows, the places taken, the first waiting jobs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    or_,
    select,
    type_coerce,
)

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant, statement_now
from tidegate.dispatch.due_jobs import polls, waiting_first
from tidegate.dispatch.lane import AllWaiting, LaneState, Occupancy, WaitingJob, WaitingPoll
from tidegate.dispatch.limiter_row import ROW, VERSION, VERSION_ON_SQLITE, lane_from
from tidegate.dispatch.places import counts, occupancy
from tidegate.jobs.transitions import IS_WAITING

_NAMES, _QUEUES, _WITHOUT = "lanes", "queues", "without"


def read_lanes(
    database: Database,
    names: Sequence[str],
    *,
    queues: Collection[str] | None,
    limit: int,
    without: Collection[str] = (),
    are_shared: bool = False,
) -> Sequence[LaneState]:
    """Reads lanes in one statement, without a lock, and at most `limit` waiting jobs of each.

    What is out is counted once for all of them. `queues`: jobs of these alone; None: of all, known or not. Jobs of the
    operations `without` are passed over. Names of which there is no lane are left out. `are_shared`: each is read with
    the partitions of its jobs, unless some jobs are to be passed over.

    Whatever gives away a place or a slot, or changes a limit, writes the lane's row: a plan that is written only if the
    row is unchanged is as safe as one that was made under its lock.
    """
    asked = {_NAMES: _as_json(names), "most": limit}
    if queues is None and not without:
        return database.fetch_all(_SHARED_LANES if are_shared else _LANES, asked)
    only = None if queues is None else _as_json(queues)
    states = database.fetch_all(_LANES_FILTERED, {**asked, _QUEUES: only, _WITHOUT: _as_json(without)})
    return states if queues is None else [replace(state, of_all_queues=False) for state in states]


def _as_json(names: Collection[str]) -> str:
    return orjson.dumps([*names]).decode()


def read_polls(database: Database, name: str, *, limit: int) -> Sequence[WaitingPoll]:
    """Reads the first jobs of a lane that wait to be polled, due or not. Only lanes with kept places have any."""
    return database.fetch_all(_POLLS, {"lane": name, "most": limit})


def _state(columns: Mapping[str, Any]) -> LaneState:
    row = dict(columns)
    version, limit = row.pop("version"), row.pop("most")
    places, waiting = _occupancy(row.pop("places")), orjson.loads(row.pop("waiting") or "[]")
    return LaneState(
        lane=lane_from(row),
        version=version,
        occupancy=places,
        waiting=[WaitingJob(*each) for each in waiting],
        limit=limit,
    )


def _shared_state(columns: Mapping[str, Any]) -> LaneState:
    row = dict(columns)
    next_run_at, ranked = row.pop("next_run_at"), orjson.loads(row["waiting"] or "[]")
    state = _state({**row, "waiting": None})
    waiting = [WaitingJob(*each[:-2]) for each in ranked]
    in_order = sorted(zip(((each[-2], each[-1]) for each in ranked), waiting, strict=True), key=_rank)
    by_partition: dict[str, list[WaitingJob]] = {}
    for (_, partition), job in in_order:
        by_partition.setdefault(partition, []).append(job)
    is_all = len(waiting) < state.limit and None not in by_partition  # it has none until it is taken into one
    known = AllWaiting(by_partition=by_partition, next_run_at=next_run_at) if is_all else None
    return replace(state, waiting=waiting, all_waiting=known)


def _rank(ranked: tuple[tuple[int | None, str], WaitingJob]) -> tuple[int, str]:
    """As the database orders the jobs of a partition, by `rank_at` and id."""
    (rank_at, _), job = ranked
    return rank_at or 0, job.id


@lru_cache(maxsize=2)  # all rows of an answer have the same text
def _occupancy(places: str) -> Occupancy:
    return occupancy(orjson.loads(places))


def _plain(column: Column[Any]) -> Any:
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


WAITING_COLUMNS = [_plain(jobs.c[name]) for name in WaitingJob._fields]
"""The columns of a WaitingJob, as the database has them."""


def _statement(
    version: ColumnElement[Any], all_of: Any, array_of: Any, named: Any, *conditions: Any, more: Sequence[Any] = ()
) -> Any:
    """The lanes' rows, each with the rows of two other SELECTs as a JSON array of arrays each, in their order.

    `more`: columns of the waiting jobs beside those of a WaitingJob.
    """

    def as_text(rows: Any) -> Any:
        each = rows.subquery()
        return select(cast(all_of(array_of(*each.c)), Text)).scalar_subquery()

    return ROW.add_columns(
        version.label("version"),
        as_text(counts()).label("places"),
        as_text(waiting_first(*WAITING_COLUMNS, *more).where(*conditions)).label("waiting"),
        bindparam("most", type_=Integer).label("most"),
    ).where(named)


_IN_PARTITION = (_plain(jobs.c.rank_at), jobs.c.partition)


def _of_shared(lanes: Any) -> Any:
    """Adds when the first waiting job of each may run that may not yet: an index step."""
    run_at = type_coerce(jobs.c.run_at, BigInteger)
    later = (
        select(run_at)
        .where(jobs.c.downstream == downstreams.c.name, IS_WAITING, jobs.c.run_at > statement_now())
        .order_by(jobs.c.run_at)
        .limit(1)
    )
    return lanes.add_columns(later.correlate(downstreams).scalar_subquery().label("next_run_at"))


def _names_on_postgresql(parameter: str) -> Any:
    return select(func.json_array_elements_text(cast(bindparam(parameter, type_=Text()), JSON)))


def _names_on_sqlite(parameter: str) -> Any:
    return select(func.json_each(bindparam(parameter, type_=Text())).table_valued("value").c.value)


def _is_named_on_postgresql() -> ColumnElement[bool]:
    names = func.array(_names_on_postgresql(_NAMES).scalar_subquery(), type_=ARRAY(Text))
    return downstreams.c.name == any_(names)


def _is_wanted(names: Callable[[str], Any]) -> ColumnElement[bool]:
    """Condition: the job is of one of the queues, if any are given, and of none of the operations to pass over."""
    is_any = cast(bindparam(_QUEUES, type_=Text()), Text).is_(None)
    return and_(or_(is_any, jobs.c.queue.in_(names(_QUEUES))), jobs.c.operation.not_in(names(_WITHOUT)))


_POLLS = Prepared(
    polls(*WAITING_COLUMNS, jobs.c.place_fence),
    lambda row: WaitingPoll(WaitingJob(*(row[name] for name in WaitingJob._fields)), row["place_fence"]),
)
_ON_POSTGRESQL = (VERSION, func.json_agg, func.json_build_array, _is_named_on_postgresql())
_ON_SQLITE = (
    VERSION_ON_SQLITE,
    func.json_group_array,
    func.json_array,
    downstreams.c.name.in_(_names_on_sqlite(_NAMES)),
)
_LANES = Prepared(_statement(*_ON_POSTGRESQL), _state, on_sqlite=_statement(*_ON_SQLITE))
# Statements of their own: that of every release is as cheap as it can be.
_SHARED_LANES = Prepared(
    _of_shared(_statement(*_ON_POSTGRESQL, more=_IN_PARTITION)),
    _shared_state,
    on_sqlite=_of_shared(_statement(*_ON_SQLITE, more=_IN_PARTITION)),
)
_LANES_FILTERED = Prepared(
    _statement(*_ON_POSTGRESQL, _is_wanted(_names_on_postgresql)),
    _state,
    on_sqlite=_statement(*_ON_SQLITE, _is_wanted(_names_on_sqlite)),
)
