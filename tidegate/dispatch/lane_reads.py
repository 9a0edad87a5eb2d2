"""Reads all that a release of a lane's jobs is planned from: its row, the places taken, the first waiting jobs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Integer, Text, bindparam, cast, func, select, type_coerce

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant
from tidegate.dispatch.due_jobs import of_queues, waiting_first
from tidegate.dispatch.lane import LaneState, WaitingJob
from tidegate.dispatch.limiter_row import ROW, ROW_ALONE, VERSION, lane_from
from tidegate.dispatch.places import Count, counts, occupancy

_WAITING = [jobs.c[name] for name in WaitingJob._fields]
_IS_INSTANT = [isinstance(column.type, Instant) for column in _WAITING]


def read_lane(database: Database, name: str, *, queues: Collection[str], limit: int) -> LaneState | None:
    """Reads a lane without a lock, and at most `limit` of its waiting jobs in these queues; None: there is none.

    Its row is read first or at the same moment: whatever gives away a place or a slot, or changes a limit, writes that
    row, so a plan that is written only if the row is unchanged is as safe as one that was made under its lock.
    """
    wanted = {"lane": name, **of_queues([*queues]), "most": limit}
    if not database.is_sqlite:
        return database.ask(_AT_ONCE, wanted)
    lane = database.ask(ROW_ALONE, wanted)
    if lane is None:
        return None
    taken = occupancy(name, database.ask_all(_COUNTS, {}))
    return LaneState(lane=lane, **taken, waiting=database.ask_all(_FIRST, wanted), limit=limit)


def _state(columns: Mapping[str, Any]) -> LaneState:
    row = dict(columns)
    version, out, waiting = row.pop("version"), orjson.loads(row.pop("out")), orjson.loads(row.pop("waiting") or "[]")
    limit = row.pop("most")
    lane = lane_from(row)
    taken = occupancy(lane.name, [Count(*each) for each in out])
    return LaneState(lane=lane, version=version, **taken, waiting=[_waiting(each) for each in waiting], limit=limit)


def _waiting(values: Sequence[Any]) -> WaitingJob:
    read: list[Any] = [from_microseconds(at) if is_at else at for at, is_at in zip(values, _IS_INSTANT, strict=True)]
    return WaitingJob(*read)


def _plain(column: Column[Any]) -> Any:
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


def _as_text(rows: Any) -> Any:
    """The rows of a SELECT as one value: a JSON array of arrays, in their order."""
    each = rows.subquery()
    return select(cast(func.json_agg(func.json_build_array(*each.c)), Text)).scalar_subquery()


# PostgreSQL: one round trip.
_AT_ONCE = Prepared(
    ROW.add_columns(
        cast(VERSION, Text).label("version"),
        _as_text(counts()).label("out"),
        _as_text(waiting_first(*map(_plain, _WAITING))).label("waiting"),
        bindparam("most", type_=Integer).label("most"),
    ),
    _state,
)
# SQLite, where a statement costs no round trip. Sums are integers there.
_COUNTS = Prepared(counts(), lambda row: Count(**row))
_FIRST = Prepared(waiting_first(*_WAITING), lambda row: WaitingJob(**row))
