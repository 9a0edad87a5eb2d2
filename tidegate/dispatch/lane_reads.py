"""Reads all that a release of a lane's jobs is planned from: its row, the places taken, the first waiting jobs."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    Text,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)

from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant
from tidegate.dispatch.due_jobs import of_queues, waiting_first
from tidegate.dispatch.lane import LaneState, WaitingJob
from tidegate.dispatch.limiter_row import ROW, VERSION, VERSION_ON_SQLITE, lane_from
from tidegate.dispatch.places import Count, counts, occupancy

_WITHOUT = "without"
_WAITING = [jobs.c[name] for name in WaitingJob._fields]


def read_lane(
    database: Database, name: str, *, queues: Collection[str], limit: int, without: Collection[str] = ()
) -> LaneState | None:
    """Reads a lane in one statement, without a lock, and at most `limit` of its waiting jobs in these queues.

    Jobs of the operations `without` are passed over.

    None: there is no such lane. Whatever gives away a place or a slot, or changes a limit, writes the lane's row: a
    plan that is written only if the row is unchanged is as safe as one that was made under its lock.
    """
    asked = {"lane": name, **of_queues([*queues]), "most": limit}
    if without:
        return database.fetch_one(_LANE_WITHOUT, {**asked, _WITHOUT: orjson.dumps(sorted(without)).decode()})
    return database.fetch_one(_LANE, asked)


def _state(columns: Mapping[str, Any]) -> LaneState:
    row = dict(columns)
    row.pop(_WITHOUT, None)
    version, limit = row.pop("version"), row.pop("most")
    places, waiting = orjson.loads(row.pop("places")), orjson.loads(row.pop("waiting") or "[]")
    lane = lane_from(row)
    return LaneState(
        lane=lane,
        version=version,
        **occupancy(lane.name, [Count(*each) for each in places]),
        waiting=[WaitingJob(*each) for each in waiting],
        limit=limit,
    )


def _plain(column: Column[Any]) -> Any:
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


def _statement(version: ColumnElement[Any], all_of: Any, array_of: Any, *conditions: ColumnElement[bool]) -> Any:
    """The lane's row, and the rows of two other SELECTs as a JSON array of arrays each, in their order."""

    def as_text(rows: Any) -> Any:
        each = rows.subquery()
        return select(cast(all_of(array_of(*each.c)), Text)).scalar_subquery()

    return ROW.add_columns(
        version.label("version"),
        as_text(counts()).label("places"),
        as_text(waiting_first(*map(_plain, _WAITING)).where(*conditions)).label("waiting"),
        bindparam("most", type_=Integer).label("most"),
    )


def _is_not_in(names: Any) -> ColumnElement[bool]:
    return jobs.c.operation.not_in(select(names.table_valued("value").c.value))


_NAMES = bindparam(_WITHOUT, type_=Text())
_ON_POSTGRESQL = (VERSION, func.json_agg, func.json_build_array)
_ON_SQLITE = (VERSION_ON_SQLITE, func.json_group_array, func.json_array)
_LANE = Prepared(_statement(*_ON_POSTGRESQL), _state, on_sqlite=_statement(*_ON_SQLITE))
# A statement of its own: that of every release stays as cheap as it is.
_LANE_WITHOUT = Prepared(
    _statement(*_ON_POSTGRESQL, _is_not_in(func.json_array_elements_text(cast(_NAMES, JSON)))),
    _state,
    on_sqlite=_statement(*_ON_SQLITE, _is_not_in(func.json_each(_NAMES))),
)
