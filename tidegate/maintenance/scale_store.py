"""Queries of the wanted number of workers: what waits and runs in each queue, and what was asked for lately.

The scheduler's sampler writes the number once a second under load; everybody reads it from its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import and_, case, false, func, literal, null, or_, select, true, union_all
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.clock import to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, counts, deliveries, downstreams, receivers, wanted_workers, workers
from tidegate.database.time import database_now
from tidegate.dispatch.lane_rows import LaneRowStore
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.partition import Partition, own_allowance
from tidegate.dispatch.partitions.store import PartitionStore
from tidegate.dispatch.places import is_among_followers, is_held, is_lost, rides_along
from tidegate.dispatch.samples import LIMIT, Due
from tidegate.dispatch.scale import (
    Asked,
    CallSeconds,
    LaneLoad,
    Need,
    PartitionLoad,
    ReceiverLoad,
    Wanted,
    in_force,
    is_news,
    needs_by_queue,
    places_for_webhooks,
    probes_of,
    rest_of,
    settle,
    workers_for,
)
from tidegate.jobs.transitions import NOW
from tidegate.maintenance.cluster_facts import MOST_DELIVERIES
from tidegate.metrics.families import DELIVERY_SECONDS
from tidegate.operations.queues import WEBHOOKS
from tidegate.operations.sharing import Sharing
from tidegate.webhooks.send_store import IS_PENDING

# Of a lane that more partitions wait for, their own limits are not looked at: it takes long, and they bound little.
_MOST_PARTITIONS = 500
_MOST_BY_NAME = 500


class _Seen(NamedTuple):
    """A row of what is there now, by `kind`.

    `workers`: the number and places of those that take messages, so without one that retires; `lane`: attempts with a
    worker and those without; `webhooks`: those being sent; `asked`: what was asked for, in the place of a lane, and the
    places of a worker; `now`: the clock.
    """

    kind: str
    queue: str
    lane: str
    number: int
    other: int


@dataclass(frozen=True, kw_only=True)
class _Presence:
    """What was asked for, the live workers, and what they do: places taken by queue; attempts by lane and queue."""

    now: int
    asked: Mapping[str, tuple[int | None, tuple[Asked, ...]]]
    workers: Mapping[str, tuple[int, int]]
    busy: Mapping[str, int]
    lanes: Sequence[_Seen] = field(default_factory=list)


class ScaleStore:
    """Statements of the wanted number of workers."""

    def __init__(self, database: Database, lane_rows: LaneRowStore, fills: Mapping[str, int] | None = None) -> None:
        self._database = database
        self._lane_rows, self._fills = lane_rows, fills or {}
        self._partitions = PartitionStore(database)
        self._call_seconds: dict[str, CallSeconds] = {}
        self._was_busy = False

    def wanted(self) -> dict[str, Wanted]:
        """How many workers each queue wants now, and how many it has; a queue without work or workers is left out.

        Never fewer than what runs takes. The same whichever process asks. One statement, whose cost grows with what
        runs and not with the backlog.
        """
        seen = self._presence()
        asked = seen.asked
        found = {}
        for queue in sorted({*asked, *seen.workers, *seen.busy}):
            number, places = seen.workers.get(queue, (0, 0))
            places_each, lately = asked.get(queue, (None, ()))
            most = in_force(lately, seen.now)
            running = Need(seen.busy.get(queue, 0), f"{seen.busy.get(queue, 0)} place(s) are taken now")
            least = workers_for(running, places // number if number else places_each)
            most = most if most.workers >= least.workers else least
            if number or most.workers:
                found[queue] = Wanted(workers=number, places=places, wanted=most.workers, because=most.because)
        return found

    def measure(self, due: Due | None, *, webhooks_wait: bool = True) -> bool:
        """Computes the wanted numbers from what is `due`, by downstream and queue, and writes those that changed.

        None: another scheduler knows it, and writes them. Returns whether anything waits or runs. While nothing does,
        it asks the database nothing. One thread calls it, once a second; several schedulers may.
        """
        if due is None or not (due or webhooks_wait or self._was_busy):
            return due is None
        seen = self._presence()
        asked = seen.asked
        places = {queue: size // number for queue, (number, size) in seen.workers.items() if number}
        each = {**{queue: known for queue, (known, _) in asked.items()}, **places}
        needs: dict[str, Need] = needs_by_queue(self._lanes(due, seen))
        if webhooks_wait or seen.busy.get(WEBHOOKS):
            needs[WEBHOOKS] = self._webhooks(seen.busy.get(WEBHOOKS, 0), each.get(WEBHOOKS))
        for queue in sorted({*needs, *asked}):
            before, now = asked.get(queue, (None, ())), workers_for(needs.get(queue, Need(0, "")), each.get(queue))
            kept = settle(before[1], now._replace(at=seen.now))
            if is_news(before[1], kept) or (before[0] != each.get(queue) and kept[0].workers):
                self._keep(queue, each.get(queue), kept)
        self._was_busy = bool(due) or any(need.places for need in needs.values())
        return self._was_busy

    def _lanes(self, due: Due, seen: _Presence) -> list[LaneLoad]:
        if not due and not seen.lanes:
            return []
        loads = []
        names = {*due, *(row.lane for row in seen.lanes)}
        read = self._lane_rows.read(dict.fromkeys(names), since=None)
        sharing = self._sharing(due)
        for row in read.rows:
            downstream, fill = row.downstream(read.now), self._fills.get(row.name, 1)
            its = [each for each in seen.lanes if each.lane == downstream.name]
            waiting = due.get(downstream.name, {})
            unclaimed = sum(each.other for each in its)
            busy = {each.queue: each.number for each in its if each.number}
            measured = self._call_seconds.setdefault(downstream.name, CallSeconds())
            seconds = measured.add(seen.now, claimed=downstream.released - unclaimed, busy=sum(busy.values()))
            if waiting or busy:
                view = LaneView(downstream=downstream, sample=row.sample(read.now), declared_fill=fill)
                load = _load(view, waiting, busy, unclaimed=unclaimed, seconds=seconds)
                if shared := sharing.get(downstream.name):
                    load = replace(load, partitions=self._partition_loads(downstream.name, shared, seen.now))
                loads.append(load)
        return loads

    def _sharing(self, due: Due) -> dict[str, Sharing]:
        """How lanes with due jobs are shared, of those whose partitions have limits of their own."""
        if not due:
            return {}
        where = downstreams.c.name.in_([*due]) if len(due) <= _MOST_BY_NAME else true()
        rows = self._database.fetch_all(
            select(downstreams.c.name, downstreams.c.sharing).where(downstreams.c.sharing.is_not(None), where)
        )
        found = {name: Sharing.from_json(text) for name, text in rows if name in due}
        return {name: sharing for name, sharing in found.items() if sharing.has_limits}

    def _partition_loads(self, lane: str, sharing: Sharing, now: int) -> list[PartitionLoad]:
        keys = self._partitions.some_active(lane, _MOST_PARTITIONS + 1)
        if len(keys) > _MOST_PARTITIONS:
            return []
        opened = self._partitions.opened(lane)
        waiting = self._partitions.read(lane, sharing, keys)
        others = [PartitionLoad(open=number, may_go=False) for key, number in opened.items() if key not in waiting]
        return [*(_partition_load(each, opened.get(key, 0), now) for key, each in waiting.items()), *others]

    def _webhooks(self, in_flight: int, places_each: int | None) -> Need:
        rows = self._database.fetch_all(_DUE_WEBHOOKS, limit=LIMIT)
        receivers_ = [ReceiverLoad(due=row.number, is_good=row.failures == 0) for row in rows]
        seconds = None
        if receivers_:
            total = self._database.fetch_all(_SECONDS_OF_WEBHOOKS)[0]
            seconds = total.seconds / total.number if total.number else None
        return places_for_webhooks(receivers_, in_flight=in_flight, seconds=seconds, places_each=places_each)

    def _presence(self) -> _Presence:
        rows = [_Seen(*row) for row in self._database.fetch_all(_SEEN)]
        lanes = [row for row in rows if row.kind == "lane"]
        busy: dict[str, int] = {}
        for row in rows:
            if row.kind in {"lane", "webhooks"}:
                busy[row.queue] = busy.get(row.queue, 0) + row.number
        return _Presence(
            now=next(row.number for row in rows if row.kind == "now"),
            asked={
                row.queue: (row.number or None, tuple(Asked(*each) for each in orjson.loads(row.lane)))
                for row in rows
                if row.kind == "asked"
            },
            workers={row.queue: (row.number, row.other) for row in rows if row.kind == "workers"},
            busy={queue: number for queue, number in busy.items() if number},
            lanes=lanes,
        )

    def _keep(self, queue: str, places_each: int | None, asked: Sequence[Asked]) -> None:
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        values = {"places_each": places_each, "asked": orjson.dumps([list(each) for each in asked]).decode()}
        statement = insert(wanted_workers).values(queue=queue, **values)
        self._database.execute(statement.on_conflict_do_update(index_elements=[wanted_workers.c.queue], set_=values))


def _partition_load(partition: Partition, opened: int, now: int) -> PartitionLoad:
    allowance = own_allowance(partition.limits, 0)
    rate = allowance.pacing
    return PartitionLoad(
        open=opened,
        most_open=partition.limits.most_open,
        per_second=1e6 * rate.calls / allowance.window(rate) if rate else None,
        may_go=not partition.paused and not partition.rests_until(now),
    )


def _load(
    view: LaneView, due: Mapping[str, int], busy: Mapping[str, int], *, unclaimed: int, seconds: float | None
) -> LaneLoad:
    downstream = view.downstream
    return LaneLoad(
        name=downstream.name,
        due=due,
        busy=busy,
        unclaimed=unclaimed,
        per_second=view.allowed_per_second,
        concurrency=downstream.limits.concurrency,
        call_seconds=seconds,
        fill=view.fill,
        rests=rest_of(
            paused=downstream.paused,
            rests=downstream.rests_until is not None,
            now=to_microseconds(downstream.seen_at),
            next_slot=to_microseconds(downstream.next_slot_at),
        ),
        probes=probes_of(is_broken=downstream.is_broken, refusals=downstream.refusals),
    )


def _seen() -> Any:
    """SELECT of what was asked for, the live workers, what they do, and the clock.

    It reads no more rows than there is work under way.
    """
    nobody = literal("")
    has_worker = attempts.c.claimed_at.is_not(None)
    runs = func.coalesce(func.sum(case((and_(has_worker, ~is_lost(), ~is_among_followers()), 1), else_=0)), 0)
    unclaimed = func.coalesce(func.sum(case((or_(has_worker, rides_along()), 0), else_=1)), 0)
    in_flight = deliveries.c.lease_until > database_now()
    return union_all(
        select(literal("workers").label("kind"), workers.c.queue, nobody, func.count(), func.sum(workers.c.size))
        .where(workers.c.seen_until > database_now(), workers.c.size > 0)
        .group_by(workers.c.queue),
        select(literal("lane"), attempts.c.queue, attempts.c.downstream, runs, unclaimed)
        .where(is_held())
        .group_by(attempts.c.queue, attempts.c.downstream),
        select(literal("webhooks"), literal(WEBHOOKS), nobody, func.count(), literal(0))
        .select_from(deliveries)
        .where(in_flight),
        select(
            literal("asked"),
            wanted_workers.c.queue,
            wanted_workers.c.asked,
            func.coalesce(wanted_workers.c.places_each, 0),
            literal(0),
        ),
        select(literal("now"), nobody, nobody, NOW, literal(0)),
    )


def _due_webhooks() -> Any:
    """SELECT of the receivers with webhooks due, up to MOST_DELIVERIES of these; `failures` null: it has no row yet."""
    some = (
        select(deliveries.c.receiver)
        .where(IS_PENDING, deliveries.c.run_at <= database_now())
        .limit(MOST_DELIVERIES)
        .subquery()
    )
    rests = func.coalesce(receivers.c.rests_until > database_now(), false())
    return (
        select(func.count().label("number"), receivers.c.failures)
        .select_from(some.outerjoin(receivers, receivers.c.name == some.c.receiver))
        .where(or_(receivers.c.name.is_(None), ~rests))
        .group_by(some.c.receiver, receivers.c.failures)
    )


_SUM, _BUCKET = f"{DELIVERY_SECONDS.name}_sum", f"{DELIVERY_SECONDS.name}_bucket"
_SECONDS_OF_WEBHOOKS = select(
    func.sum(case((counts.c.series == _SUM, counts.c.value), else_=0)).label("seconds"),
    func.sum(case((counts.c.series == _BUCKET, counts.c.value), else_=null())).label("number"),
).where(counts.c.series.in_([_SUM, _BUCKET]))
_SEEN = _seen()
_DUE_WEBHOOKS = _due_webhooks()
