"""Records what a downstream announced as left of its quotas: in its row, from which releases are planned."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, and_, bindparam, func, not_, select, type_coerce, update

from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams
from tidegate.database.statement import Prepared
from tidegate.dispatch.announced import Budgets, Seen, announced, from_json, longest_rest, spent
from tidegate.dispatch.limiter_row import KEEP_BUDGETS, kept_budgets
from tidegate.dispatch.partitions.throttle import (
    REFUSES_BY_PARTITION,
    Throttled,
    keep_partition_budgets,
    lock_throttled,
    read_throttled,
)
from tidegate.dispatch.places import is_held
from tidegate.jobs.job import Claim
from tidegate.jobs.transitions import NOW
from tidegate.operations.quota_fields import Quota

_LANE = downstreams.c.name == bindparam("lane")
_IS_OWN = and_(
    attempts.c.job_id == bindparam("the_job", type_=attempts.c.job_id.type),
    attempts.c.fence == bindparam("the_fence", type_=attempts.c.fence.type),
)
_SEEN: Prepared[Mapping[str, Any]] = Prepared(
    select(
        *(downstreams.c[name] for name in ("announced", "released", "rates")),
        REFUSES_BY_PARTITION.label("is_by_partition"),
        type_coerce(downstreams.c.paused_until, BigInteger).label("paused_until"),
        NOW.label("now"),
        select(func.count())
        .where(attempts.c.downstream == downstreams.c.name, is_held(), not_(_IS_OWN))
        .scalar_subquery()
        .label("others"),
    ).where(_LANE),
    dict,
)
# By itself: what the row's lock was waited for is seen only by the next statement.
_LOCK = Prepared(select(downstreams.c.name).where(_LANE).with_for_update(), bool)

_REST = Prepared(
    update(downstreams).where(_LANE).values(paused_until=bindparam("its_end", type_=downstreams.c.paused_until.type)),
    bool,
)


class Announcements:
    """Writes announced quotas. What says nothing new is neither written nor locked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, claim: Claim, quotas: Sequence[Quota], *, call_seconds: float) -> None:
        """Records what the answer to a claim's call announced; the call began so long ago.

        A quota of which nothing is left makes the lane rest, so that what is released and not claimed yet stays; or the
        partition, where the downstream counts the calls of each by itself.
        """
        own = {"lane": claim.downstream, "the_job": claim.job_id, "the_fence": claim.fence}
        row = self._database.fetch_one(_SEEN, own)
        if row is None:
            return
        if row["is_by_partition"] and claim.partition is not None:
            self._record_of_partition(claim, quotas, call_seconds)
            return
        if _changed(row, quotas, call_seconds) is None:
            return
        with self._database.transaction() as connection:
            self._database.fetch_one(_LOCK, own, within=connection)
            row = self._database.fetch_one(_SEEN, own, within=connection)
            changed = _changed(row, quotas, call_seconds) if row else None
            if row and changed is not None:
                rests = max((each.until for each in spent(changed).values()), default=0)
                rests_longer = rests > max(row["now"], row["paused_until"] or 0)
                self._database.execute(KEEP_BUDGETS, kept_budgets(claim.downstream, changed), within=connection)
                if rests_longer:
                    self._database.execute(
                        _REST, {"lane": claim.downstream, "its_end": from_microseconds(rests)}, within=connection
                    )

    def _record_of_partition(self, claim: Claim, quotas: Sequence[Quota], call_seconds: float) -> None:
        seen = read_throttled(self._database, claim)
        if seen is None or _changed_of_partition(seen, quotas, call_seconds) is None:
            return
        with self._database.transaction() as connection:
            seen = lock_throttled(self._database, connection, claim)
            changed = _changed_of_partition(seen, quotas, call_seconds) if seen else None
            if seen and changed is not None:
                keep_partition_budgets(connection, claim, seen, changed)


def _changed_of_partition(of: Throttled, quotas: Sequence[Quota], call_seconds: float) -> Budgets | None:
    called_at, longest = of.now - round(call_seconds * 1e6), longest_rest(of.rates)
    seen = Seen(now=of.now, called_at=called_at, released=of.released, others=of.others, longest=longest)
    budgets = announced(of.budgets, quotas, seen)
    return None if budgets is of.budgets else budgets


def _changed(row: Mapping[str, Any], quotas: Sequence[Quota], call_seconds: float) -> Budgets | None:
    known = from_json(orjson.loads(row["announced"] or "{}"))
    seen = Seen(
        now=row["now"],
        called_at=row["now"] - round(call_seconds * 1e6),
        released=row["released"],
        others=row["others"],
        longest=longest_rest(orjson.loads(row["rates"])),
    )
    budgets = announced(known, quotas, seen)
    return None if budgets is known else budgets
