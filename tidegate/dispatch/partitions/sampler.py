"""Samples the partitions of shared lanes: the busiest, and how many calls of others go before one of a partition's."""

import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, bindparam, delete, func, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import clock
from tidegate.clock import to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import jobs, partition_samples, partitions
from tidegate.dispatch.partitions.busiest import Busiest, Busy
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.partitions.partition import own_allowance
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.operations.sharing import PRIORITIES, PartitionLimits, Sharing, named_by

AMONG_CLIENTS = "*"
"""In place of a client's name: the row of all clients of a downstream among themselves."""
THE_BUSIEST = "+"
"""Likewise: the row of a downstream's busiest partitions, a `Busiest`."""
_LIMIT = timedelta(minutes=1)
# After a lane was sampled it rests for so many times as long as that took.
_REST = 20
_WAITING = (
    select(jobs.c.partition, func.count().label("number"), func.min(jobs.c.rank_at).label("first"))
    .where(jobs.c.downstream == bindparam("lane"), IS_WAITING, jobs.c.partition.is_not(None))
    .group_by(jobs.c.partition)
)
_RESTS = func.coalesce(type_coerce(partitions.c.rests_until, BigInteger), 0) > NOW
_IS_HELD = or_(partitions.c.paused, _RESTS)
_CHANGED = select(partitions.c.client, partitions.c.name, partitions.c.changes, _IS_HELD.label("is_held")).where(
    partitions.c.downstream == bindparam("lane"), or_(_IS_HELD, partitions.c.changes != "{}")
)


class PartitionSampler:
    """Statements of the sampler on the partitions of shared lanes.

    Of each lane it writes a row, and one for each client whose names are partitions, where anything changed: a hundred
    bytes each, however many jobs and partitions there are. And a row of the busiest partitions, of 2 KB at the most.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rests_until: dict[str, float] = {}
        self._written: dict[str, dict[str, Crowd | Busiest]] = {}

    def sample(
        self, lane: str, sharing: Sharing, now: datetime, *, backlog: int, drains_in: float, fill: float = 1.0
    ) -> None:
        """Samples a shared lane that has a backlog, or had one, unless it rests.

        `drains_in`: about how many seconds its jobs take together: what its own rate lets a partition do meanwhile is
        all that it can put before others. `fill`: jobs in a call.
        """
        began = clock.monotonic()
        if backlog and began < self._rests_until.get(lane, 0.0):
            return
        found = self._crowds(lane, sharing, now, drains_in, fill) if backlog else {}
        if found != self._written.get(lane):
            with self._database.transaction() as connection:
                self._keep(connection, lane, found, now)
            self._written[lane] = found
        took = clock.monotonic() - began
        self._rests_until[lane] = clock.monotonic() + _REST * took

    def _crowds(
        self, lane: str, sharing: Sharing, now: datetime, drains_in: float, fill: float
    ) -> dict[str, Crowd | Busiest]:
        rows = self._database.fetch_all(_WAITING.params(lane=lane), limit=_LIMIT)
        if not rows:
            return {}
        changed = {
            (row.client, row.name): row for row in self._database.fetch_all(_CHANGED.params(lane=lane), limit=_LIMIT)
        }
        # A job whose rank lies further ahead may not run yet.
        until = now + PRIORITIES[-1] * sharing.priority_step
        able: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for key, count, first in rows:
            client, name = named_by(key)
            limits, change = sharing.limits_of(name), changed.get((client, name))
            if change:
                limits = limits.changed(orjson.loads(change.changes))
            if first <= until and not (change and change.is_held):
                able[client].append((limits.weight, min(math.ceil(count / fill), _most(limits, drains_in))))
        of_clients = {client: Crowd.of(each) for client, each in able.items()}
        among = Crowd.of((1.0, crowd.calls[-1]) for crowd in of_clients.values() if crowd.calls)
        busiest = Busiest.of(Busy(key, count, to_microseconds(first)) for key, count, first in rows)
        found: dict[str, Crowd | Busiest] = {AMONG_CLIENTS: among, THE_BUSIEST: busiest}
        return found | (of_clients if sharing.by == "header" else {})

    def _keep(self, within: Connection, lane: str, found: Mapping[str, Crowd | Busiest], now: datetime) -> None:
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        here = partition_samples.c.downstream == lane
        before = self._written.get(lane)
        if before is None or not found:  # there may be rows of another scheduler
            within.execute(delete(partition_samples).where(here))
        elif gone := [{"gone": client} for client in sorted(before.keys() - found.keys())]:
            within.execute(delete(partition_samples).where(here, partition_samples.c.client == bindparam("gone")), gone)
        rows: list[dict[str, Any]] = [
            {"downstream": lane, "client": client, "taken_at": now, "crowd": crowd.as_json()}
            for client, crowd in sorted(found.items())
            if before is None or crowd != before.get(client) or client == AMONG_CLIENTS
        ]
        if rows:
            statement = insert(partition_samples)
            changed = {name: statement.excluded[name] for name in ("taken_at", "crowd")}
            key = [partition_samples.c.downstream, partition_samples.c.client]
            within.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def _most(limits: PartitionLimits, drains_in: float) -> float:
    """How many calls a partition's own rates allow within so many seconds."""
    if not limits.rates:
        return float("inf")
    allowance = own_allowance(limits, 0)
    return min(rate.calls * (1 + drains_in * 1e6 / allowance.window(rate)) for rate in allowance.rates)
