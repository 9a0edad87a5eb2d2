"""Statements by which operators look at partitions and change them: weight, limits, pause."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import rate_limit
from tidegate.clock import from_microseconds, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import clients, downstreams, jobs, partitions, shared_clients
from tidegate.database.time import database_now
from tidegate.dispatch.announced import from_json, rests_until
from tidegate.dispatch.limits import UNLIMITED
from tidegate.dispatch.partitions.partition import own_allowance, own_next_slot
from tidegate.dispatch.partitions.store import PartitionStore
from tidegate.dispatch.partitions.view import (
    Name,
    PartitionPage,
    PartitionView,
    Sort,
    cursor_of,
    order_of,
    read_cursor,
    shares,
)
from tidegate.dispatch.partitions.writes import calls_behind, count_change
from tidegate.errors import InvalidQuery, NotShared, UnknownDownstream
from tidegate.fairness import Share
from tidegate.jobs.listing import LIMIT
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.operations.sharing import PartitionLimits, Sharing, key_of, named_by

_CHANGEABLE = ("weight", "rates", "burst", "concurrency")


@dataclass(frozen=True, kw_only=True)
class _Lane:
    """All partitions of a downstream, but for how many jobs wait in each. `waiting`: those in which any waits."""

    sharing: Sharing
    rows: Mapping[Name, Any]
    weights: Mapping[str, float]
    waiting: Collection[Name]
    opened: Mapping[Name, int]

    def changes(self, pair: Name) -> dict[str, Any]:
        row = self.rows.get(pair)
        return orjson.loads(row.changes) if row else {}

    def limits(self, pair: Name) -> PartitionLimits:
        return self.sharing.limits_of(pair[1]).changed(self.changes(pair))

    def is_paused(self, pair: Name) -> bool:
        return pair in self.rows and self.rows[pair].paused

    def rest_of(self, pair: Name) -> tuple[datetime | None, Literal["refusals", "quota"] | None]:
        """Until when it rests, and why."""
        row = self.rows.get(pair)
        if row is None:
            return None, None
        now, by_refusals = to_microseconds(row.now), to_microseconds(row.rests_until) if row.rests_until else 0
        budgets = from_json(orjson.loads(row.announced or "{}"))
        resets_at = rests_until(budgets, released=row.released, now=now) or 0
        until = max(by_refusals, resets_at)
        if until <= now:
            return None, None
        return from_microseconds(until), "quota" if until == resets_at else "refusals"

    def pace(self, pair: Name) -> rate_limit.Pace:
        stored = getattr(self.rows.get(pair), "pace", None)
        return rate_limit.Pace.from_json(orjson.loads(stored)) if stored else rate_limit.Pace()

    def shares(self) -> dict[Name, float]:
        able = [pair for pair in self.waiting if not self.is_paused(pair) and self.rest_of(pair)[0] is None]
        return shares({pair: self.limits(pair).weight for pair in able}, self.weights, able)

    def view(self, pair: Name, waiting: int, share: float | None) -> PartitionView:
        client, name = pair
        declared, limits, changes = self.sharing.limits_of(name), self.limits(pair), self.changes(pair)
        weight = self.weights.get(client, 1.0)
        if not name:
            declared, limits = replace(declared, weight=1.0), replace(limits, weight=weight)
            changes = {**changes, **({} if weight == 1.0 else {"weight": weight})}
        until, because = self.rest_of(pair)
        return PartitionView(
            rests_until=until,
            rests_because=because,
            client=client,
            name=name,
            limits=limits,
            declared=declared,
            changes=changes,
            paused=self.is_paused(pair),
            waiting=waiting,
            open=self.opened.get(pair, 0),
            share=share,
            pace=self.pace(pair),
        )


class PartitionAdmin:
    """Statements on partitions for operators. Every change is made under the lock of the downstream's row.

    All raise UnknownDownstream, and NotShared for a downstream whose jobs wait in one line.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitions = PartitionStore(database)

    def list_partitions(
        self,
        lane: str,
        *,
        sort: Sort = "waiting",
        limit: int = 50,
        cursor: str | None = None,
        client: str | None = None,
        fits: Callable[[Name], bool] | None = None,
    ) -> PartitionPage:
        """A page of the partitions in which jobs wait, whose calls are open, or which have a row: turns, or changes.

        `client`: of this one alone; None: of all. `fits`: those alone for which it says so. Its cost grows with the
        number of partitions, and sorted by `waiting` with the backlog: an index entry for each job.
        Raises DatabaseTooSlowError, and InvalidQuery for the cursor.
        """
        behind = read_cursor(sort, cursor) if cursor else ()
        sharing = self._sharing(lane)
        counts = self._counts(lane) if sort == "waiting" else {}
        waiting = counts.keys() if sort == "waiting" else {*map(named_by, self._partitions.active(lane))}
        found = self._lane(lane, sharing, waiting)
        known = (pair for pair in {*waiting, *found.opened, *found.rows} if client in {None, pair[0]})
        placed = ((order_of(sort, pair, counts.get(pair, 0)), pair) for pair in known if fits is None or fits(pair))
        page = sorted(each for each in placed if each[0] > behind)[: limit + 1]
        pairs = [pair for _, pair in page[:limit]]
        if sort != "waiting":
            counts = self._counts(lane, pairs)
        of_all = found.shares()
        return PartitionPage(
            partitions=[found.view(pair, counts.get(pair, 0), of_all.get(pair)) for pair in pairs],
            cursor=cursor_of(page[limit - 1][0]) if len(page) > limit else None,
        )

    def read_partition(self, lane: str, client: str, name: str) -> PartitionView:
        """One partition; one that nobody has used or changed yet is as it is declared."""
        sharing, pair = self._sharing(lane), (client, name)
        found = self._lane(lane, sharing, {*map(named_by, self._partitions.active(lane))})
        return found.view(pair, self._counts(lane, [pair]).get(pair, 0), found.shares().get(pair))

    def read_partitions(self, lane: str, waiting: Mapping[Name, int]) -> list[PartitionView]:
        """Some partitions, in this order; without their `share`, which would take a look at all.

        `waiting`: how many jobs wait in each. Raises DatabaseTooSlowError.
        """
        pairs = list(waiting)
        if not pairs:
            return []
        found = self._lane(lane, self._sharing(lane), (), pairs)
        return [found.view(pair, waiting[pair], None) for pair in pairs]

    def change(self, lane: str, client: str, name: str, changes: Mapping[str, Any], *, paused: bool | None) -> None:
        """Changes weight and limits as an operator wishes (None takes an earlier change back), pauses or resumes.

        Without a name the weight is that of the client beside other clients, and the limits are those of its unnamed
        partition. In force with the next release, for what waits already, too. Raises InvalidQuery for a client that
        is none.
        """
        unknown = changes.keys() - {*_CHANGEABLE}
        if unknown:
            raise ValueError(f"not to be changed: {sorted(unknown)}")
        with self._database.transaction() as within:
            row = within.execute(
                select(downstreams.c.sharing, downstreams.c.shared_clock, downstreams.c.jitter)
                .where(downstreams.c.name == lane)
                .with_for_update()
            ).one_or_none()
            sharing = _sharing_of(lane, row)
            clock, changed = int(row.shared_clock) if row else 0, count_change(within, lane)
            is_known = select(clients.c.id).where(clients.c.id == client)
            if client and within.execute(is_known).one_or_none() is None:
                raise InvalidQuery(f"client: there is no client of the id {client!r}")
            left = dict(changes)
            if not name and "weight" in left:
                weight = left.pop("weight")
                self._weigh(within, lane, client, 1.0 if weight is None else weight, clock=clock, changed=changed)
            if name and sharing.by == "client":
                raise InvalidQuery(f"name: the calls of {lane!r} are shared by clients, not by names")
            if left or paused is not None:
                declared, jitter = sharing.limits_of(name), row.jitter if row else 0
                values: dict[str, Any] = {"changed": changed}
                if paused is not None:
                    # As of a downstream: to resume also ends what its answers made it wait for.
                    ended = {} if paused else {"rests_until": None, "refusals": 0, "announced": None}
                    values |= {"paused": paused, **ended}
                self._write(within, lane, (client, name), left, declared=declared, values=values, jitter=jitter)

    def _weigh(self, within: Connection, lane: str, client: str, weight: float, *, clock: int, changed: int) -> None:
        """Sets the weight of a client; by it what it has ahead of other clients is rescaled."""
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        within.execute(insert(shared_clients).values(downstream=lane, client=client).on_conflict_do_nothing())
        which = (shared_clients.c.downstream == lane, shared_clients.c.client == client)
        row = within.execute(select(shared_clients).where(*which).with_for_update()).one()
        share = Share(weight=row.weight, turn=int(row.turn), returned=row.returned).weighing(weight, clock)
        values = {"weight": share.weight, "turn": str(share.turn), "changed": changed}
        within.execute(update(shared_clients).where(*which).values(values))

    def _write(
        self,
        within: Connection,
        lane: str,
        pair: Name,
        changes: Mapping[str, Any],
        *,
        declared: PartitionLimits,
        values: Mapping[str, Any],
        jitter: int,
    ) -> None:
        client, name = pair
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        new = {"downstream": lane, "client": client, "name": name, "weight": declared.weight}
        within.execute(insert(partitions).values(**new).on_conflict_do_nothing())
        which = (partitions.c.downstream == lane, partitions.c.client == client, partitions.c.name == name)
        row = within.execute(select(partitions).where(*which).with_for_update()).one()
        kept = {limit: value for limit, value in orjson.loads(row.changes).items() if limit not in changes}
        kept |= {limit: _stored(value) for limit, value in changes.items() if value is not None}
        now = within.execute(select(NOW)).scalar_one()
        limits = declared.changed(kept)
        allowance, pace = own_allowance(limits, jitter), rate_limit.Pace.from_json(orjson.loads(row.pace))
        if limits.rates and not declared.changed(orjson.loads(row.changes)).rates:
            longest = max(allowance.window(rate) for rate in allowance.rates)
            slots = calls_behind(within, lane, pair, max(pace.last, now - longest))
            pace = rate_limit.counted(allowance, pace, slots, now=now)
        pace = rate_limit.settle(allowance, pace, now=now)
        next_slot_at = own_next_slot(limits, pace, jitter)
        kept_now = {
            "changes": orjson.dumps(kept).decode(),
            "pace": orjson.dumps(pace.as_json()).decode(),
            "next_slot_at": None if next_slot_at is None else from_microseconds(next_slot_at),
            "most_open": limits.most_open,
        }
        within.execute(update(partitions).where(*which).values({**values, **kept_now}))

    def _sharing(self, lane: str) -> Sharing:
        return _sharing_of(
            lane, self._database.fetch_one(select(downstreams.c.sharing).where(downstreams.c.name == lane))
        )

    def _lane(
        self, lane: str, sharing: Sharing, waiting: Collection[Name], pairs: Collection[Name] | None = None
    ) -> _Lane:
        """All partitions of a lane, or these alone, with what counts for their rates."""
        names = ("client", "name", "changes", "paused", "rests_until", "announced", "released")
        columns: list[Any] = [*(partitions.c[name] for name in names), database_now().label("now")]
        here = [partitions.c.downstream == lane]
        of_clients = [shared_clients.c.downstream == lane]
        if pairs is not None:
            columns.append(partitions.c.pace)
            here.append(tuple_(partitions.c.client, partitions.c.name).in_(pairs))
            of_clients.append(shared_clients.c.client.in_({client for client, _ in pairs}))
        rows = self._database.fetch_all(select(*columns).where(*here), limit=LIMIT)
        weights = self._database.fetch_all(
            select(shared_clients.c.client, shared_clients.c.weight).where(*of_clients), limit=LIMIT
        )
        return _Lane(
            sharing=sharing,
            rows={(row.client, row.name): row for row in rows},
            weights={row.client: row.weight for row in weights},
            waiting=waiting,
            opened={named_by(key): number for key, number in self._partitions.opened(lane).items()},
        )

    def _counts(self, lane: str, pairs: Collection[Name] | None = None) -> dict[Name, int]:
        """How many jobs wait in each partition that has any: in all, or in these alone."""
        is_here = [jobs.c.downstream == lane, IS_WAITING, jobs.c.partition.is_not(None)]
        if pairs is not None:
            is_here.append(jobs.c.partition.in_([key_of(*pair) for pair in pairs]))
        counted = select(jobs.c.partition, func.count().label("number")).where(*is_here).group_by(jobs.c.partition)
        return {named_by(row.partition): row.number for row in self._database.fetch_all(counted, limit=LIMIT)}


def _sharing_of(lane: str, row: Any) -> Sharing:
    if row is None:
        raise UnknownDownstream(f"there is no downstream {lane!r}; GET /v1/downstreams lists them")
    if not row.sharing:
        raise NotShared(f"the jobs of {lane!r} wait in one line; `partition` in the operations file shares its calls")
    return Sharing.from_json(row.sharing)


def _stored(value: Any) -> Any:
    """As it stands in a row's changes, where null is no limit."""
    return None if value == UNLIMITED else value
