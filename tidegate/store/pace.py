"""A downstream's row under its lock: what the gate and a claimed job read of it, and the pace they leave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BigInteger, Update, bindparam, select, type_coerce, update
from sqlalchemy.types import NullType

from tidegate import pacing
from tidegate.database import Database, Within
from tidegate.models import downstreams, samples
from tidegate.prepared import Prepared
from tidegate.store.limits import allowance_of


@dataclass(frozen=True, kw_only=True)
class LockedLane:
    """The row. Instants in microseconds; `call_seconds`: how long a place is taken by one call, by Little's law."""

    name: str
    allowance: pacing.Allowance
    pace: pacing.Pace
    concurrency: int | None
    breaker_after: int
    failures: int
    refusals: int
    paused: bool
    paused_until: int
    call_seconds: float | None


def _read(columns: Mapping[str, Any]) -> LockedLane:
    row = dict(columns)
    allowance = allowance_of(orjson.loads(row.pop("rates")), row.pop("burst"))
    pace = pacing.Pace.from_json(orjson.loads(row.pop("pace")))
    return LockedLane(allowance=allowance, pace=pace, **{**row, "paused_until": row["paused_until"] or 0})


_ROW = select(
    *(downstreams.c[name] for name in ("name", "rates", "burst", "pace", "concurrency", "breaker_after")),
    *(downstreams.c[name] for name in ("failures", "refusals", "paused")),
    type_coerce(downstreams.c.paused_until, BigInteger).label("paused_until"),
    # A float as the driver gives it; SQLAlchemy would take it for a decimal that is to be converted.
    select(type_coerce(samples.c.held_mean / samples.c.per_second, NullType()))
    .where(samples.c.downstream == downstreams.c.name, samples.c.per_second > 0)
    .scalar_subquery()
    .label("call_seconds"),
).where(downstreams.c.name == bindparam("lane"))
# SQLite's writer is alone anyway.
_ALONE = Prepared(_ROW, _read)
_WAITING = Prepared(_ROW.with_for_update(of=downstreams), _read)
_PASSING_OVER = Prepared(_ROW.with_for_update(skip_locked=True, of=downstreams), _read)


def locked(database: Database, within: Within, name: str, *, wait: bool) -> LockedLane | None:
    """The row, and its lock until the transaction ends. `wait` False: None while another transaction has it."""
    statement = _ALONE if database.is_sqlite else _WAITING if wait else _PASSING_OVER
    return database.ask(statement, {"lane": name}, within=within)


def keep_pace() -> Update:
    """Writes what the calls so far leave free, and how many more jobs were let go. `kept_pace` has its values."""
    released = downstreams.c.released + bindparam("its_released", type_=BigInteger)
    return (
        update(downstreams)
        .where(downstreams.c.name == bindparam("lane"))
        .values(pace=bindparam("its_pace", type_=downstreams.c.pace.type), released=released)
    )


def kept_pace(name: str, pace: pacing.Pace, *, released: int = 0) -> dict[str, Any]:
    """What `keep_pace` is given."""
    return {"lane": name, "its_pace": orjson.dumps(pace.as_json()).decode(), "its_released": released}


KEEP_PACE = Prepared(keep_pace(), bool)
