"""Reads all that a release of lanes' jobs is planned from: their rows, the places taken, the first waiting jobs."""

from collections.abc import Collection, Mapping, Sequence
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
    any_,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant
from tidegate.dispatch.due_jobs import of_queues, polls, waiting_first
from tidegate.dispatch.lane import LaneState, Occupancy, WaitingJob, WaitingPoll
from tidegate.dispatch.limiter_row import ROW, VERSION, VERSION_ON_SQLITE, lane_from
from tidegate.dispatch.places import Count, counts, occupancy

_NAMES, _WITHOUT = "lanes", "without"
_WAITING = [jobs.c[name] for name in WaitingJob._fields]


def read_lanes(
    database: Database, names: Sequence[str], *, queues: Collection[str], limit: int, without: Collection[str] = ()
) -> Sequence[LaneState]:
    """Reads lanes in one statement, without a lock, and at most `limit` waiting jobs of each in these queues.

    What is out is counted once for all of them. Jobs of the operations `without` are passed over. Names of which there
    is no lane are left out.

    Whatever gives away a place or a slot, or changes a limit, writes the lane's row: a plan that is written only if the
    row is unchanged is as safe as one that was made under its lock.
    """
    asked = {_NAMES: orjson.dumps(list(names)).decode(), **of_queues([*queues]), "most": limit}
    if without:
        return database.fetch_all(_LANES_WITHOUT, {**asked, _WITHOUT: orjson.dumps(sorted(without)).decode()})
    return database.fetch_all(_LANES, asked)


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


@lru_cache(maxsize=2)  # all rows of an answer have the same text
def _occupancy(places: str) -> Occupancy:
    return occupancy([Count(*each) for each in orjson.loads(places)])


def _plain(column: Column[Any]) -> Any:
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


def _statement(version: ColumnElement[Any], all_of: Any, array_of: Any, named: Any, *conditions: Any) -> Any:
    """The lanes' rows, each with the rows of two other SELECTs as a JSON array of arrays each, in their order."""

    def as_text(rows: Any) -> Any:
        each = rows.subquery()
        return select(cast(all_of(array_of(*each.c)), Text)).scalar_subquery()

    return ROW.add_columns(
        version.label("version"),
        as_text(counts()).label("places"),
        as_text(waiting_first(*map(_plain, _WAITING)).where(*conditions)).label("waiting"),
        bindparam("most", type_=Integer).label("most"),
    ).where(named)


def _names_on_postgresql(parameter: str) -> Any:
    return select(func.json_array_elements_text(cast(bindparam(parameter, type_=Text()), JSON)))


def _names_on_sqlite(parameter: str) -> Any:
    return select(func.json_each(bindparam(parameter, type_=Text())).table_valued("value").c.value)


def _is_named_on_postgresql() -> ColumnElement[bool]:
    names = func.array(_names_on_postgresql(_NAMES).scalar_subquery(), type_=ARRAY(Text))
    return downstreams.c.name == any_(names)


_POLLS = Prepared(
    polls(*map(_plain, _WAITING), jobs.c.place_fence),
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
# A statement of its own: that of every release stays as cheap as it is.
_LANES_WITHOUT = Prepared(
    _statement(*_ON_POSTGRESQL, jobs.c.operation.not_in(_names_on_postgresql(_WITHOUT))),
    _state,
    on_sqlite=_statement(*_ON_SQLITE, jobs.c.operation.not_in(_names_on_sqlite(_WITHOUT))),
)
