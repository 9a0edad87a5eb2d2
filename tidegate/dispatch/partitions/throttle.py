"""Statements on the partitions of a downstream that refuses, and counts its quotas, for each partition by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    not_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, partitions
from tidegate.database.statement import Prepared
from tidegate.dispatch.announced import Budgets, as_json, from_json, longest_rest, room, spent
from tidegate.dispatch.partitions.writes import change_partition, which
from tidegate.dispatch.places import is_held
from tidegate.jobs.job import Claim
from tidegate.jobs.transitions import NOW
from tidegate.operations.sharing import Sharing, named_by

REFUSES_BY_PARTITION: ColumnElement[bool] = func.coalesce(downstreams.c.sharing, "").contains('"throttle":"partition"')
"""Condition: a refusal is one of the partition alone. No name in that JSON can look so: its quotes are escaped."""


@dataclass(frozen=True, kw_only=True)
class Throttled:
    """A partition as its downstream has it: what that announced, and until when it wants no more. In microseconds.

    `rates`: the downstream's and its own. `released`: its jobs ever; `others`: its calls that are out beside the one
    that was answered.
    """

    rates: Sequence[str]
    rested_until: int
    refusals: int
    budgets: Budgets
    released: int
    others: int
    now: int

    def room(self, now: int) -> int | None:
        """How many more calls may go out by what was announced; None: any number."""
        return room(self.budgets, released=self.released, held=0, now=now)


def read_throttled(database: Database, claim: Claim, *, within: Connection | None = None) -> Throttled | None:
    """Reads the partition of a claim; None: it has none, or its downstream refuses all of them together."""
    if claim.partition is None:
        return None
    client, name = named_by(claim.partition)
    asked = {"lane": claim.downstream, "key": claim.partition, "client": client, "name": name}
    return database.fetch_one(_THROTTLED, {**asked, "the_job": claim.job_id, "the_fence": claim.fence}, within=within)


def lock_throttled(database: Database, within: Connection, claim: Claim) -> Throttled | None:
    """As `read_throttled`, under the lock of the downstream's row, which goes before the partition's; it is made."""
    if claim.partition is None:
        return None
    # By itself: what the row's lock was waited for is seen only by the next statement.
    database.fetch_one(_LOCK_SHARED, {"lane": claim.downstream}, within=within)
    seen = read_throttled(database, claim, within=within)
    if seen is not None:
        insert = sqlite_insert if database.is_sqlite else postgresql_insert
        client, name = named_by(claim.partition)
        new = {"downstream": claim.downstream, "client": client, "name": name}
        within.execute(insert(partitions).values(**new).on_conflict_do_nothing())
    return seen


def rest_partition(database: Database, within: Connection, claim: Claim, after: timedelta) -> bool:
    """Makes the partition rest whose call was refused. False: its downstream refuses all of them together.

    Calls that were open at the first refusal are refused too: that is one rest, not many.
    """
    seen = lock_throttled(database, within, claim)
    if seen is None or claim.partition is None:
        return False
    rests = seen.rested_until > seen.now
    until = seen.now + min(after, longest_rest(seen.rates)) // MICROSECOND
    change_partition(
        within,
        claim.downstream,
        claim.partition,
        rests_until=from_microseconds(max(until, seen.rested_until)),
        refusals=seen.refusals + (not rests),
    )
    return True


def keep_partition_budgets(within: Connection, claim: Claim, seen: Throttled, budgets: Budgets) -> None:
    """Stores what was announced as left of a partition's calls; it rests while nothing is, by the downstream's word."""
    values: dict[str, Any] = {"announced": orjson.dumps(as_json(budgets)).decode()}
    rests = max((each.until for each in spent(budgets).values()), default=0)
    if rests > max(seen.now, seen.rested_until):
        values["rests_until"] = from_microseconds(rests)
    if claim.partition is not None:
        change_partition(within, claim.downstream, claim.partition, **values)


def partition_answered(within: Connection, claim: Claim) -> None:
    """Ends the partition's refusals in a row, where the claim knows of any."""
    if claim.were_of_partition and claim.partition is not None:
        own = (*which(claim.downstream, claim.partition), partitions.c.refusals > 0)
        within.execute(update(partitions).where(*own).values(refusals=0))


def _read(row: Mapping[str, Any]) -> Throttled | None:
    if not row["is_by_partition"]:
        return None
    limits = Sharing.from_json(row["sharing"]).limits_of(row["name"]).changed(orjson.loads(row["changes"] or "{}"))
    return Throttled(
        rates=[*orjson.loads(row["rates"]), *limits.rates],
        rested_until=row["rests_until"] or 0,
        refusals=row["refusals"] or 0,
        budgets=from_json(orjson.loads(row["announced"] or "{}")),
        released=row["released"] or 0,
        others=row["others"],
        now=row["now"],
    )


def _throttled() -> Any:
    name = bindparam("name", type_=partitions.c.name.type)
    own = and_(
        partitions.c.downstream == downstreams.c.name,
        partitions.c.client == bindparam("client", type_=partitions.c.client.type),
        partitions.c.name == name,
    )
    is_answered = and_(
        attempts.c.job_id == bindparam("the_job", type_=attempts.c.job_id.type),
        attempts.c.fence == bindparam("the_fence", type_=attempts.c.fence.type),
    )
    is_its = attempts.c.partition == bindparam("key", type_=attempts.c.partition.type)
    others = select(func.count()).where(
        attempts.c.downstream == downstreams.c.name, is_its, is_held(), not_(is_answered)
    )
    return (
        select(
            REFUSES_BY_PARTITION.label("is_by_partition"),
            downstreams.c.sharing,
            downstreams.c.rates,
            name.label("name"),
            *(partitions.c[column] for column in ("changes", "refusals", "announced", "released")),
            type_coerce(partitions.c.rests_until, BigInteger).label("rests_until"),
            others.correlate(downstreams).scalar_subquery().label("others"),
            NOW.label("now"),
        )
        .select_from(downstreams.outerjoin(partitions, own))
        .where(downstreams.c.name == bindparam("lane"))
    )


_THROTTLED = Prepared(_throttled(), _read)
_LOCK_SHARED = Prepared(
    select(downstreams.c.name).where(downstreams.c.name == bindparam("lane")).with_for_update(), bool
)
