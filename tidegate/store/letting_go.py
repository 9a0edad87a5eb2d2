"""Writes down that jobs are released: their fence and slot, and the place that each holds from then on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, insert, select, update

from tidegate.clock import to_microseconds
from tidegate.database import Database
from tidegate.job import Released
from tidegate.models import attempts, jobs
from tidegate.prepared import Prepared
from tidegate.store.given_rows import as_parameter, given_rows, is_one_of

# With the sweep's own second a lost message is made good within 5 s.
CLAIM_WITHIN = timedelta(seconds=4)
_NOBODY = (None, None)

_OWN = ("job_id", "fence", "queue", "slot_at", "follows_job", "follows_fence")
"""What each job has for itself; the rest is the same for all that are released together."""
_COMMON = ("downstream", "released_at", "place_until")


def let_go(
    database: Database,
    connection: Connection,
    downstream: str,
    released: Sequence[Released],
    *,
    now: datetime,
    follow: Sequence[tuple[str | None, int | None]] = (),
) -> None:
    """In this transaction. `follow`: the calls (job id, fence) on whose places they ride, one after the other."""
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
    (_each if database.is_sqlite else _all)(database, connection, rows, common)


def _each(_: Database, connection: Connection, rows: Sequence[dict[str, Any]], common: dict[str, Any]) -> None:
    """Where a statement costs no round trip."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == bindparam("job"))
        .values(fence=bindparam("next_fence"), slot_at=bindparam("slot"), waits_for=None),
        [{"job": row["job_id"], "next_fence": row["fence"], "slot": row["slot_at"]} for row in rows],
    )
    connection.execute(insert(attempts), [{**row, **common} for row in rows])


def _all(database: Database, connection: Connection, rows: Sequence[dict[str, Any]], common: dict[str, Any]) -> None:
    """Where it does: one statement, however many they are."""
    given = as_parameter({**row, "slot_at": to_microseconds(row["slot_at"])} for row in rows)
    database.ask(_LET_GO, {**given, **common}, within=connection)


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
    return insert(attempts).from_select([*_OWN, *_COMMON], rows).add_cte(moved)


_LET_GO = Prepared(_let_go(), bool)
