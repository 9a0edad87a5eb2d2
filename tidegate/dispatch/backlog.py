"""Counts the queued jobs of one lane, in order, from a given instant on, so that a deep lane is not read each time.

An earlier count has the jobs that may run before that instant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, Select, Text, bindparam, case, cast, func, select, tuple_, type_coerce

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import Instant
from tidegate.jobs.transitions import IS_WAITING, NOW

MOST_ROWS = 20_000
"""Jobs that one statement counts: it must end long before a caller's timeout."""
MOST_MARKS = 250
SETTLED = timedelta(seconds=2)
"""What was submitted so long ago is committed and can be seen, also a thousand jobs in one transaction."""
_FIRST_ID = str(UUID(int=0))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A count of a contiguous part of a lane's queue at one moment, `now`.

    `released`, `companions`: of the lane, ever, as in its row. `settled`: of its `number`, those that could run before
    the instant that was asked for. `marks`: (run_at, jobs of the stretch before it); up to MOST_MARKS each job has one.
    `by_client`: those created after the other such instant. `last`: run_at and id of its last job.
    """

    now: datetime
    released: int
    companions: int
    number: int
    settled: int
    marks: tuple[tuple[datetime, int], ...]
    by_client: Mapping[str, int]
    last: tuple[datetime, str] | None


def stretches(
    database: Database, lane: str, *, since: datetime, settled_until: datetime, created_after: datetime
) -> list[Stretch]:
    """Counts all queued jobs of the lane with run_at of `since` or later, in parts of MOST_ROWS; at least one part."""
    asked = {"lane": lane, "settled_until": settled_until, "created_after": created_after}
    parts = [required(database.fetch_one(_STRETCH, {**asked, "since": since, "after_id": _FIRST_ID}))]
    while parts[-1].last and parts[-1].number == MOST_ROWS:
        since, after_id = parts[-1].last
        parts.append(required(database.fetch_one(_STRETCH, {**asked, "since": since, "after_id": after_id})))
    return parts


def _stretch(array: Any, pair: Any, record: Any) -> Select[Any]:
    """The SELECT of a Stretch: one statement, and so one moment, whose rows come as JSON.

    As rows of the driver a thousand of them take ten times as long. `array`, `pair`, `record`: the database's JSON
    functions.
    """
    order = (jobs.c.run_at, jobs.c.id)
    before = (func.row_number().over(order_by=order) - 1).label("before")
    here = (
        select(*order, jobs.c.client_id, jobs.c.created_at, before)
        .where(
            jobs.c.downstream == bindparam("lane", type_=jobs.c.downstream.type),
            IS_WAITING,
            tuple_(*order) > tuple_(_instant("since"), bindparam("after_id", type_=jobs.c.id.type)),
        )
        .order_by(*order)
        .limit(MOST_ROWS)
        .cte("here")
        .prefix_with("MATERIALIZED")  # read once, used by all subqueries below
    )
    counts = select(func.count().label("number")).select_from(here).cte("counts").prefix_with("MATERIALIZED")
    number = select(counts.c.number).scalar_subquery()
    every = case((number <= MOST_MARKS, 1), else_=number // MOST_MARKS)
    is_last = here.c.before == number - 1
    marks = select(array(pair(type_coerce(here.c.run_at, BigInteger), here.c.before)))
    new = (
        select(here.c.client_id, func.count().label("number"))
        .where(here.c.created_at > _instant("created_after"))
        .group_by(here.c.client_id)
        .subquery()
    )
    return select(
        NOW.label("now"),
        cast(
            select(pair(downstreams.c.released, downstreams.c.companions))
            .where(downstreams.c.name == bindparam("lane"))
            .scalar_subquery(),
            Text,
        ).label("released"),
        number.label("number"),
        select(func.count())
        .select_from(here)
        .where(here.c.run_at < _instant("settled_until"))
        .scalar_subquery()
        .label("settled"),
        cast(marks.where((here.c.before % every == 0) | is_last).scalar_subquery(), Text).label("marks"),
        cast(select(record(new.c.client_id, new.c.number)).scalar_subquery(), Text).label("by_client"),
        select(here.c.id).where(is_last).scalar_subquery().label("last_id"),
    )


def _instant(name: str) -> Any:
    return bindparam(name, type_=Instant())


def _read(row: Mapping[str, Any]) -> Stretch:
    marks = sorted(orjson.loads(row["marks"] or "[]"))
    released, companions = orjson.loads(row["released"] or "[0, 0]")
    return Stretch(
        now=from_microseconds(row["now"]),
        released=released,
        companions=companions,
        number=row["number"],
        settled=row["settled"],
        marks=tuple((from_microseconds(run_at), before) for run_at, before in marks),
        by_client=orjson.loads(row["by_client"] or "{}"),
        last=(from_microseconds(marks[-1][0]), row["last_id"]) if marks else None,
    )


_STRETCH = Prepared(
    _stretch(func.json_agg, func.json_build_array, func.json_object_agg),
    _read,
    on_sqlite=_stretch(func.json_group_array, func.json_array, func.json_group_object),
)
