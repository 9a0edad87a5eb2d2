"""An optimistic release of few jobs on PostgreSQL: read, choose, and write only if the lane's row is unchanged.

Optimistic concurrency control (Kung and Robinson, 1981): two statements and no lock between them, where the release
under a lock takes six. It is as safe: whatever gives away a place or a slot, or changes a limit, writes that row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Text, cast, func, select, type_coerce

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant
from tidegate.dispatch import prefetch
from tidegate.dispatch.due_jobs import of_queues, waiting_first
from tidegate.dispatch.lane import Lane, Room, WaitingJob
from tidegate.dispatch.limiter_row import ROW, VERSION, lane_row
from tidegate.dispatch.places import Count, counts, lane_of
from tidegate.dispatch.plan import Choice, chosen, that_fit
from tidegate.dispatch.release import let_few_go
from tidegate.jobs.job import Released
from tidegate.operations.operation import Queue

# So many may be a burst, whose jobs go in one transaction under the lock.
_FEW = 8
_QUEUES = of_queues([*Queue])


def release_few(
    database: Database, name: str, room_in: Callable[[Lane], Room], *, horizon: timedelta
) -> tuple[Sequence[Released], float | None] | None:
    """As `LaneStore.release`, without the lock. None: nothing was done, and the release under a lock is to be tried.

    More than a few jobs wait, followers may be possible, another transaction was faster, or it has the lane's lock.
    """
    seen = database.ask(_GLANCE, {"lane": name, **_QUEUES, "most": _FEW})
    if seen is None:
        return None
    if seen.rests:
        return [], None
    room = room_in(seen.lane)
    choice = chosen(seen.lane, that_fit(seen.waiting, room.by_queue), horizon=horizon)
    if _is_not_so_simple(seen, room, choice):
        return None
    if not choice.released:
        return [], choice.held_back
    now = from_microseconds(seen.lane.now)
    gone = let_few_go(database, name, choice.released, now=now, pace=choice.pace, version=seen.version)
    # A job that was cancelled or expired meanwhile left its room: look again at once.
    held_back = choice.held_back if len(gone) == len(choice.released) else 0.0
    return ([job for job in choice.released if job.job_id in gone], held_back) if gone else None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A lane as read at one moment. `rests`: it is paused. `version`: changes with every write of its row."""

    lane: Lane
    rests: bool
    waiting: Sequence[WaitingJob]
    version: str


def _is_not_so_simple(seen: _Seen, room: Room, choice: Choice) -> bool:
    """Whether more jobs may wait than were read, or some of them could go as followers."""
    if len(seen.waiting) == _FEW:
        return True
    are_left = len(seen.waiting) > len(choice.released)
    return are_left and prefetch.most(seen.lane, room.idle_threads, released=len(choice.released)) > 0


def _read(columns: Mapping[str, Any]) -> _Seen:
    row = dict(columns)
    version, out, waiting = row.pop("version"), orjson.loads(row.pop("out")), orjson.loads(row.pop("waiting") or "[]")
    of_lane = lane_row(row)
    lane = lane_of(of_lane, [Count(*each) for each in out])
    return _Seen(
        lane=lane,
        rests=of_lane.paused or of_lane.paused_until > lane.now,
        waiting=[_waiting(each) for each in waiting],
        version=version,
    )


_WAITING = [jobs.c[name] for name in WaitingJob._fields]
_IS_INSTANT = [isinstance(column.type, Instant) for column in _WAITING]


def _waiting(values: Sequence[Any]) -> WaitingJob:
    read: list[Any] = [from_microseconds(at) if is_at else at for at, is_at in zip(values, _IS_INSTANT, strict=True)]
    return WaitingJob(*read)


def _plain(column: Column[Any]) -> Any:
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


def _as_text(rows: Any) -> Any:
    """The rows of a SELECT as one value: a JSON array of arrays, in their order."""
    each = rows.subquery()
    return select(cast(func.json_agg(func.json_build_array(*each.c)), Text)).scalar_subquery()


_GLANCE = Prepared(
    ROW.add_columns(
        cast(VERSION, Text).label("version"),
        _as_text(counts()).label("out"),
        _as_text(waiting_first(*map(_plain, _WAITING))).label("waiting"),
    ),
    _read,
)
