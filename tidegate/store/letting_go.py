"""Writes down that jobs are released: their fence and slot, and the place that each holds from then on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, bindparam, insert, select, update

from tidegate.clock import to_microseconds
from tidegate.database import Database, Within
from tidegate.job import Released
from tidegate.models import attempts, jobs
from tidegate.pacing import Pace
from tidegate.prepared import Prepared
from tidegate.store.given_rows import as_parameter, given_rows, is_one_of
from tidegate.store.pace import KEEP_PACE, keep_pace, kept_pace

# With the sweep's own second a lost message is made good within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_NOBODY = (None, None)

_MOVED = ("job_id", "fence", "slot_at")
_OWN = ("job_id", "fence", "queue", "slot_at", "follows_job", "follows_fence")
"""What each job has for itself; the rest is the same for all that are released together."""
_COMMON = ("downstream", "released_at", "place_until")


def let_go(
    database: Database,
    within: Within,
    downstream: str,
    released: Sequence[Released],
    *,
    now: datetime,
    pace: Pace,
    follow: Sequence[tuple[str | None, int | None]] = (),
) -> None:
    """In this transaction, which holds the lane's lock; `pace`: what its slots leave free from now on. `follow`: the
    calls (job id, fence) on whose places they ride, one after the other."""
    rows = [
        {
            "job_id": job.job_id,
            "fence": job.fence,
            "queue": job.queue,
            "slot_at": job.slot_at,
            "follows_job": follows_job,
            "follows_fence": follows_fence,
        }
        for job, (follows_job, follows_fence) in zip(released, follow or repeat(_NOBODY), strict=False)
    ]
    common = {"downstream": downstream, "released_at": now, "place_until": now + CLAIM_WITHIN}
    kept = kept_pace(downstream, pace, released=len(rows))
    (_each if database.is_sqlite else _all)(database, within, rows, common, kept)


_Values: TypeAlias = dict[str, Any]


def _each(database: Database, within: Within, rows: Sequence[_Values], common: _Values, kept: _Values) -> None:
    """Where a statement costs no round trip."""
    for row in rows:
        database.ask(_LET_ONE_GO, {f"the_{name}": row[name] for name in _MOVED}, within=within)
        database.ask(_TAKE_PLACE, {f"its_{name}": value for name, value in {**row, **common}.items()}, within=within)
    database.ask(KEEP_PACE, kept, within=within)


def _all(database: Database, within: Within, rows: Sequence[_Values], common: _Values, kept: _Values) -> None:
    """Where it does: one statement, however many they are."""
    given = as_parameter({**row, "slot_at": to_microseconds(row["slot_at"])} for row in rows)
    database.ask(_LET_GO, {**given, **common, **kept}, within=within)


def _let_go() -> Any:
    new = given_rows({name: BigInteger() if name == "slot_at" else attempts.c[name].type for name in _OWN})
    moved = (
        update(jobs)
        .where(jobs.c.id == new.c.job_id, is_one_of(jobs.c.id, new.c.job_id))
        .values(fence=new.c.fence, slot_at=new.c.slot_at, waits_for=None)
        .cte("moved")
    )
    common = [bindparam(name, type_=attempts.c[name].type) for name in _COMMON]
    rows = select(*(new.c[name] for name in _OWN), *common)
    kept = keep_pace().cte("kept")
    return insert(attempts).from_select([*_OWN, *_COMMON], rows).add_cte(moved, kept)


_LET_GO = Prepared(_let_go(), bool)
_LET_ONE_GO = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("the_job_id"))
    .values(
        fence=bindparam("the_fence", type_=jobs.c.fence.type),
        slot_at=bindparam("the_slot_at", type_=jobs.c.slot_at.type),
        waits_for=None,
    ),
    bool,
)
_TAKE_PLACE = Prepared(
    insert(attempts).values(
        {name: bindparam(f"its_{name}", type_=attempts.c[name].type) for name in (*_OWN, *_COMMON)}
    ),
    bool,
)
