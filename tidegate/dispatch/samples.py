"""Samples of the lanes' queues: taken once a second by the scheduler, counted on from there by web processes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import clock
from tidegate.clock import EPOCH, from_microseconds, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs, samples
from tidegate.database.time import database_now
from tidegate.dispatch.backlog import MOST_MARKS, SETTLED, stretches
from tidegate.dispatch.limiter_row import RESTS
from tidegate.dispatch.partitions.sampler import PartitionSampler
from tidegate.dispatch.places import has_place
from tidegate.dispatch.sample import Mark, Sample
from tidegate.dispatch.scale import shared_out
from tidegate.jobs.transitions import IS_WAITING
from tidegate.operations.sharing import Sharing

MARKS = 50
# Weight of the newest sample in the exponential average: half of it is from the last five or so.
_NEWEST = 0.15
_SHORTEST = timedelta(seconds=0.8)
# A call is as full as it can be where so many times as many jobs wait as went in one.
_ENOUGH = 2
# In a lane that was left empty, places that were taken may be free after so long; and what was measured is old.
_HELD_FOR = timedelta(seconds=2)
_MEASURED_FOR = timedelta(minutes=1)
_ALL_SECONDS = 30.0
# Of a backlog whose pace is not known.
_DRAINS_IN = 60.0
_MOST_BY_NAME = 1_000
_LANES = select(
    downstreams.c.name,
    downstreams.c.released,
    downstreams.c.companions,
    downstreams.c.sharing,
    or_(RESTS, and_(downstreams.c.breaker_after > 0, downstreams.c.failures >= downstreams.c.breaker_after)).label(
        "rests"
    ),
    database_now().label("now"),
).order_by(downstreams.c.name)
_BY_CLIENT = (
    select(jobs.c.downstream, jobs.c.client_id, func.count())
    .where(IS_WAITING)
    .group_by(jobs.c.downstream, jobs.c.client_id)
)
Due: TypeAlias = Mapping[str, Mapping[str, int]]
"""About how many jobs of each downstream, by queue, wait and could go by their own run_at."""
LIMIT = timedelta(minutes=1)
"""Time limit of the sampler's queries, the only ones whose time grows with the backlog. No request waits for them."""


class SampleStore:
    """Statements of the sampler, and of the forecasts that read its samples.

    `fills`: how many jobs a call to each downstream has, as its operations declare; one where it is left out.
    """

    def __init__(self, database: Database, fills: Mapping[str, int] | None = None) -> None:
        self._database = database
        self._fills = fills or {}
        self._had_backlog: Collection[str] | None = None
        self._all_at = float("-inf")
        self._due: dict[str, tuple[datetime, Mapping[str, int]]] = {}
        self._has_all = True
        self._partitions = PartitionSampler(database)

    def sample(self) -> int:
        """Samples each downstream's queue while it has a backlog, and once more then; returns how many jobs are queued.

        Its cost grows with the backlog, and no other statement's does; a downstream without one costs nothing. Two
        schedulers sample in turns. Raises DatabaseTooSlowError.
        """
        by_client: dict[str, dict[str, int]] = {}
        for downstream, client_id, count in self._database.fetch_all(_BY_CLIENT, limit=LIMIT):
            by_client.setdefault(downstream, {})[client_id] = count
        backlogs = {downstream: sum(counts.values()) for downstream, counts in by_client.items()}
        self._has_all = True
        self._due = {name: known for name, known in self._due.items() if name in backlogs}
        if not backlogs and self._had_backlog is not None and not self._had_backlog:
            return 0
        names = self._to_sample(backlogs)
        places = select(attempts.c.downstream, func.count()).where(has_place()).group_by(attempts.c.downstream)
        held = {downstream: int(count) for downstream, count in self._database.fetch_all(places, limit=LIMIT)}
        lanes = self._database.fetch_all(_among(names, _LANES, downstreams.c.name), limit=LIMIT)
        before = {sample.downstream: sample for sample in self.latest(names)}
        for lane in lanes:
            last, backlog = before.get(lane.name), backlogs.get(lane.name, 0)
            if last and (lane.now - last.taken_at < _SHORTEST or not (backlog or last.backlog)):
                taken_at, _ = self._due.get(lane.name, (None, None))
                self._has_all &= not backlog or taken_at == last.taken_at
                continue
            marks, went, due = self._marks(lane.name, backlog, lane.now)
            released, companions = went or (lane.released, lane.companions)
            self._due[lane.name] = lane.now, due
            sample = Sample(
                downstream=lane.name,
                taken_at=lane.now,
                backlog=backlog,
                by_client=by_client.get(lane.name, {}),
                marks=marks,
                held=held.get(lane.name, 0),
                released=released,
                companions=companions,
            )
            per_second, held_mean, fill = _smoothed(last, sample, lane.released, rests=lane.rests)
            self._keep(replace(sample, per_second=per_second, held_mean=held_mean, fill=fill))
            if lane.sharing:
                fill = fill or self._fills.get(lane.name, 1)
                drains_in = backlog / fill / per_second if per_second else _DRAINS_IN
                sharing = Sharing.from_json(lane.sharing)
                self._partitions.sample(lane.name, sharing, lane.now, backlog=backlog, drains_in=drains_in, fill=fill)
        self._had_backlog = set(backlogs)
        return sum(backlogs.values())

    def latest(self, names: Collection[str] | None = None) -> list[Sample]:
        """Reads the last sample of these lanes; None: of every lane."""
        every = select(samples, database_now().label("now"))
        rows = self._database.fetch_all(_among(names, every, samples.c.downstream))
        return [sample_at(sample_of(row), row.now) for row in rows]

    def count(self, name: str, known: Sample | None, *, settled_until: datetime) -> Sample:
        """Counts a lane's queue now, from the `known` sample on: reads only jobs that may run after its settled ones.

        Settled jobs are not read again: those released since are subtracted, those cancelled are not seen; a sample
        sees them. What could run before `settled_until` is settled now. Its cost grows with what is new.
        """
        since, before = (known and known.settled) or (EPOCH, 0)
        start = None if since == EPOCH else known
        until = max(settled_until, since)
        parts = stretches(
            self._database,
            name,
            since=since,
            settled_until=until,
            created_after=start.taken_at if start else EPOCH,
        )
        first = parts[0]
        gone = first.released + first.companions - start.released_jobs if start else 0
        marks = [(at, max(0, rank - gone)) for at, rank in start.marks if at < since] if start else []
        marks = marks[:: 1 + len(marks) // MOST_MARKS]
        by_client = Counter(start.by_client if start else {})
        number = max(0, before - gone)
        settled = number + sum(part.settled for part in parts)
        for part in parts:
            marks += [(at, number + rank) for at, rank in part.marks]
            by_client.update(part.by_client)
            number += part.number
        return Sample(
            downstream=name,
            taken_at=parts[-1].now,
            backlog=number,
            by_client=dict(by_client),
            marks=tuple(sorted([*marks, (until, settled)])) if number else (),
            released=first.released,
            companions=first.companions,
            settled=(until, settled),
        )

    @property
    def due(self) -> Due | None:
        """What the last samples found due; None: another scheduler took some of them."""
        return {name: by_queue for name, (_, by_queue) in self._due.items() if by_queue} if self._has_all else None

    def _to_sample(self, backlogs: Collection[str]) -> Collection[str] | None:
        """The lanes to look at: those with a backlog now or when we sampled last; None: all.

        All at first and now and then: another scheduler may have left a sample of a backlog that is gone, and a lane
        that was never sampled is to have one.
        """
        now = clock.monotonic()
        if self._had_backlog is None or now - self._all_at > _ALL_SECONDS:
            self._all_at = now
            return None
        names = {*backlogs, *self._had_backlog}
        return names if len(names) <= _MOST_BY_NAME else None

    def _marks(
        self, name: str, backlog: int, now: datetime
    ) -> tuple[tuple[Mark, ...], tuple[int, int] | None, Mapping[str, int]]:
        """Marks of a lane's queue: every so-manyth job's run_at with its rank, about MARKS of them, and the last one.

        Between them the instant before which all is settled, with the number of jobs before it. How many calls had been
        released by then, and how many jobs along with them, if known; and about how many are due in each queue, by
        those of the marks.
        """
        if not backlog:
            return (), None, {}
        settled_until = now - SETTLED
        order = (jobs.c.run_at, jobs.c.id)
        rank = func.row_number().over(order_by=order).label("rank")
        last = func.lag(jobs.c.run_at, type_=jobs.c.run_at.type).over(order_by=order).label("last")
        lane = select(jobs.c.run_at, jobs.c.id, rank, last).where(jobs.c.downstream == name, IS_WAITING).subquery()
        every = max(1, backlog // MARKS)
        is_first_after = and_(lane.c.run_at >= settled_until, or_(lane.c.last.is_(None), lane.c.last < settled_until))
        released, companions = (
            select(column).where(downstreams.c.name == name).scalar_subquery()
            for column in (downstreams.c.released, downstreams.c.companions)
        )
        # Of the marks alone: the index of due jobs has no queue.
        queue = select(jobs.c.queue).where(jobs.c.id == lane.c.id).scalar_subquery()
        rows = self._database.fetch_all(
            select(lane.c.run_at, lane.c.rank - 1, queue, released, companions)
            .where(or_((lane.c.rank - 1) % every == 0, lane.c.rank == backlog, is_first_after))
            .order_by(lane.c.rank),
            limit=LIMIT,
        )
        marks = [(run_at, before) for run_at, before, *_ in rows]
        settled = next((before for run_at, before in marks if run_at >= settled_until), None)
        if settled is None:
            settled = max(backlog, marks[-1][1] + 1) if marks else 0
        due = [(before, queue) for run_at, before, queue, *_ in rows if run_at <= now]
        return (
            tuple(sorted([*marks, (settled_until, settled)])),
            (rows[0][3], rows[0][4]) if rows else None,
            shared_out(max(settled, due[-1][0] + 1) if due else 0, [queue for _, queue in due]),
        )

    def _keep(self, sample: Sample) -> None:
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        values: dict[str, Any] = {
            "taken_at": sample.taken_at,
            "backlog": sample.backlog,
            "by_client": orjson.dumps(sample.by_client).decode(),
            "marks": orjson.dumps([(to_microseconds(at), before) for at, before in sample.marks]).decode(),
            "held": sample.held,
            **{name: getattr(sample, name) for name in ("released", "companions", "per_second", "held_mean", "fill")},
        }
        statement = insert(samples).values(downstream=sample.downstream, **values)
        self._database.execute(statement.on_conflict_do_update(index_elements=[samples.c.downstream], set_=values))


def _among(names: Collection[str] | None, statement: Select[Any], name: ColumnElement[str]) -> Select[Any]:
    return statement if names is None else statement.where(name.in_(sorted(names)))


def sample_of(row: Any) -> Sample:
    """Makes a Sample of its row's columns, as it was when it was taken."""
    marks = tuple((from_microseconds(run_at), before) for run_at, before in orjson.loads(row.marks))
    until = row.taken_at - SETTLED
    return Sample(
        downstream=row.downstream,
        taken_at=row.taken_at,
        backlog=row.backlog,
        by_client=orjson.loads(row.by_client),
        marks=marks,
        held=row.held,
        released=row.released,
        companions=row.companions,
        per_second=row.per_second,
        held_mean=row.held_mean,
        fill=row.fill,
        settled=(until, 0) if not row.backlog else next((mark for mark in marks if mark[0] == until), None),
    )


def sample_at(sample: Sample, now: datetime) -> Sample:
    """What a sample says later: of a lane that was left empty the places that were taken are free soon."""
    idle_for = timedelta(0) if sample.backlog else now - sample.taken_at
    held, is_old = sample.held if idle_for < _HELD_FOR else 0, idle_for > _MEASURED_FOR
    return sample if (held, is_old) == (sample.held, sample.is_old) else replace(sample, held=held, is_old=is_old)


def _smoothed(before: Sample | None, sample: Sample, released: int, *, rests: bool) -> tuple[float, float, float]:
    """Calls released a second, places taken, jobs in a call: exponential averages of the time in which jobs could go.

    What holds jobs back on purpose says nothing about the pace of those that go: a pause, a retry's delay, a later
    start, an open breaker; nor does a lane in which nothing moves at all, for want of workers or of a broker.
    """
    if before is None or before.is_old:
        return 0.0, 0.0, 0.0
    seconds = (sample.taken_at - before.taken_at) / timedelta(seconds=1)
    moves = released > before.released or sample.held > 0 or before.held > 0
    if rests or not (sample.has_due and before.backlog and moves) or not 0 < seconds <= 60:
        return before.per_second, before.held_mean, before.fill
    speed, fill = (released - before.released) / seconds, _fill(before, sample)
    if before.per_second == 0:
        return speed, float(sample.held), fill
    per_second = before.per_second + _NEWEST * (speed - before.per_second)
    return per_second, before.held_mean + _NEWEST * (sample.held - before.held_mean), fill


def _fill(before: Sample, sample: Sample) -> float:
    """Jobs in a call, smoothed over the time in which more waited than went in one: else it is as full as jobs came."""
    calls, number = sample.released - before.released, sample.released_jobs - before.released_jobs
    if calls <= 0 or min(before.backlog, sample.backlog) * calls < _ENOUGH * number:
        return before.fill
    return before.fill + _NEWEST * (number / calls - before.fill) if before.fill else number / calls
