"""Reads, locks and writes the rate limiter's state in a downstream's row, for the gate and for claimed jobs."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    Update,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from tidegate import rate_limit
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, samples
from tidegate.database.statement import Prepared
from tidegate.dispatch.announced import Budgets, as_json, from_json
from tidegate.dispatch.lane import Lane, allowance_of
from tidegate.jobs.transitions import NOW
from tidegate.operations.sharing import Sharing


def lane_from(columns: Mapping[str, Any]) -> Lane:
    """Makes a Lane of the columns of `ROW`."""
    row = dict(columns)
    allowance = allowance_of(orjson.loads(row.pop("rates")), row.pop("burst"), row["jitter"])
    pace = rate_limit.Pace.from_json(orjson.loads(row.pop("pace")))
    budgets = from_json(orjson.loads(row.pop("announced") or "{}"))
    row["paused_until"] = row["paused_until"] or 0
    row["sharing"] = Sharing.from_json(row["sharing"]) if row["sharing"] else None
    row["shared_clock"] = int(row["shared_clock"])
    return Lane(allowance=allowance, pace=pace, budgets=budgets, **row)


ROW = select(
    *(downstreams.c[name] for name in ("name", "rates", "burst", "jitter", "pace", "concurrency", "breaker_after")),
    *(downstreams.c[name] for name in ("failures", "refusals", "paused", "announced", "released")),
    *(downstreams.c[name] for name in ("sharing", "shared_clock", "turns")),
    type_coerce(downstreams.c.paused_until, BigInteger).label("paused_until"),
    # A float as the driver gives it; SQLAlchemy would take it for a decimal that is to be converted.
    select(type_coerce(samples.c.held_mean / samples.c.per_second, NullType()))
    .where(samples.c.downstream == downstreams.c.name, samples.c.per_second > 0)
    .scalar_subquery()
    .label("call_seconds"),
)
"""SELECT of the columns of a Lane."""
RESTS: ColumnElement[bool] = or_(
    downstreams.c.paused, func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0) > NOW
)
"""Whether a downstream is paused, by an operator or by its own answers."""
VERSION: ColumnElement[str] = cast(literal_column("downstreams.xmin"), Text)
"""The row's version on PostgreSQL, xmin: the transaction that wrote it last."""
VERSION_ON_SQLITE: ColumnElement[str] = func.json_array(
    *(downstreams.c[name] for name in ("rates", "burst", "jitter", "pace", "concurrency", "breaker_after")),
    *(downstreams.c[name] for name in ("failures", "refusals", "paused", "paused_until", "released", "announced")),
    *(downstreams.c[name] for name in ("sharing", "turns")),
    type_=Text,
)
"""The row's version on SQLite: what a release is planned from, and the number of releases ever."""
_LOCKED = Prepared(ROW.where(downstreams.c.name == bindparam("lane")).with_for_update(of=downstreams), lane_from)


def locked(database: Database, within: Connection, name: str) -> Lane | None:
    """Reads a downstream's row FOR UPDATE: waits for the lock."""
    return database.fetch_one(_LOCKED, {"lane": name}, within=within)


_RELEASED = bindparam("its_released", type_=BigInteger)


def keep_pace(released: ColumnElement[int] = _RELEASED) -> Update:
    """The UPDATE that stores the rate limiter's state and adds to the number of released calls.

    `kept_pace` makes its parameters.
    """
    return (
        update(downstreams)
        .where(downstreams.c.name == bindparam("lane"))
        .values(pace=bindparam("its_pace", type_=downstreams.c.pace.type), released=downstreams.c.released + released)
    )


def keep_pace_of_batches(released: ColumnElement[int], jobs: ColumnElement[int]) -> Update:
    """As `keep_pace`, of calls for several jobs: the others of each are counted as well."""
    return keep_pace(released).values(companions=downstreams.c.companions + jobs - released)


def kept_pace(name: str, pace: rate_limit.Pace, *, released: int = 0) -> dict[str, Any]:
    """The parameters of `keep_pace`."""
    return {"lane": name, "its_pace": orjson.dumps(pace.as_json()).decode(), "its_released": released}


KEEP_PACE = Prepared(keep_pace(), bool)
_JOBS = bindparam("its_jobs", type_=BigInteger)
KEEP_PACE_OF_BATCHES = Prepared(keep_pace_of_batches(_RELEASED, _JOBS), bool)
"""Its parameters are those of `kept_pace`, and `its_jobs`: how many jobs were released."""


def kept_budgets(name: str, budgets: Budgets) -> dict[str, Any]:
    """The parameters of `KEEP_BUDGETS`."""
    return {"lane": name, "its_budgets": orjson.dumps(as_json(budgets)).decode()}


KEEP_BUDGETS = Prepared(
    update(downstreams)
    .where(downstreams.c.name == bindparam("lane"))
    .values(announced=bindparam("its_budgets", type_=downstreams.c.announced.type)),
    bool,
)
