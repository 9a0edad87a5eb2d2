"""What the lanes look like, sampled once a second by the steward, so that no answer ever counts a backlog."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Select, func, or_, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.clock import from_microseconds, to_microseconds
from tidegate.database import Database
from tidegate.database_time import database_now
from tidegate.models import attempts, downstreams, jobs, samples
from tidegate.prepared import Prepared
from tidegate.store.moves import IS_WAITING
from tidegate.store.places import has_place

MARKS = 50
# Weight of the newest look in the smoothed figures: half of what they say is from the last five or so.
_NEWEST = 0.15
_SHORTEST = timedelta(seconds=0.8)
_BY_CLIENT = Prepared(
    select(jobs.c.downstream, jobs.c.client_id, func.count().label("number"))
    .where(IS_WAITING)
    .group_by(jobs.c.downstream, jobs.c.client_id),
    lambda row: (str(row["downstream"]), str(row["client_id"]), int(row["number"])),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at a lane. `marks`: (run_at, jobs queued before it), rising. `per_second`: releases while there was a
    backlog, smoothed; `held_mean`: places taken meanwhile. Zero: not known yet."""

    downstream: str
    taken_at: datetime
    backlog: int
    by_client: dict[str, int]
    marks: tuple[tuple[datetime, int], ...]
    held: int
    released: int
    per_second: float
    held_mean: float


class SampleStore:
    """Statements of the sampler, and of the forecasts that read its work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._had_backlog = True

    def take(self) -> int:
        """Samples the lanes with a backlog, and once more when it is gone; the number of jobs that wait.

        Its cost grows with the backlog, and no other statement's does. Two stewards sample in turns.
        """
        by_client: dict[str, dict[str, int]] = {}
        for downstream, client_id, count in self._database.ask_all(_BY_CLIENT, {}):
            by_client.setdefault(downstream, {})[client_id] = count
        backlogs = {downstream: sum(counts.values()) for downstream, counts in by_client.items()}
        if not backlogs and not self._had_backlog:
            return 0
        with self._database.reading() as connection:
            places = select(attempts.c.downstream, func.count()).where(has_place())
            held = _counts(connection, places.group_by(attempts.c.downstream))
            lanes = connection.execute(
                select(downstreams.c.name, downstreams.c.released, database_now().label("now"))
            ).all()
        before = {sample.downstream: sample for sample in self.latest()}
        for lane in lanes:
            last, backlog = before.get(lane.name), backlogs.get(lane.name, 0)
            if last and (lane.now - last.taken_at < _SHORTEST or not (backlog or last.backlog)):
                continue
            per_second, held_mean = _smoothed(
                last, lane.now, lane.released, held.get(lane.name, 0), is_busy=backlog > 0
            )
            self._keep(
                Sample(
                    downstream=lane.name,
                    taken_at=lane.now,
                    backlog=backlog,
                    by_client=by_client.get(lane.name, {}),
                    marks=self._marks(lane.name, backlog),
                    held=held.get(lane.name, 0),
                    released=lane.released,
                    per_second=per_second,
                    held_mean=held_mean,
                )
            )
        self._had_backlog = bool(backlogs)
        return sum(backlogs.values())

    def latest(self) -> list[Sample]:
        """The last sample of every lane."""
        with self._database.reading() as connection:
            rows = connection.execute(select(samples)).all()
        return [
            Sample(
                downstream=row.downstream,
                taken_at=row.taken_at,
                backlog=row.backlog,
                by_client=orjson.loads(row.by_client),
                marks=tuple((from_microseconds(run_at), before) for run_at, before in orjson.loads(row.marks)),
                held=row.held,
                released=row.released,
                per_second=row.per_second,
                held_mean=row.held_mean,
            )
            for row in rows
        ]

    def _marks(self, name: str, backlog: int) -> tuple[tuple[datetime, int], ...]:
        """Every so-manyth job's run_at with its rank, about MARKS of them, and the last one's."""
        if not backlog:
            return ()
        rank = func.row_number().over(order_by=(jobs.c.run_at, jobs.c.id)).label("rank")
        lane = select(jobs.c.run_at, rank).where(jobs.c.downstream == name, IS_WAITING).subquery()
        every = max(1, backlog // MARKS)
        with self._database.reading() as connection:
            rows = connection.execute(
                select(lane.c.run_at, lane.c.rank - 1)
                .where(or_((lane.c.rank - 1) % every == 0, lane.c.rank == backlog))
                .order_by(lane.c.rank)
            )
            return tuple((run_at, before) for run_at, before in rows)

    def _keep(self, sample: Sample) -> None:
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        values: dict[str, Any] = {
            "taken_at": sample.taken_at,
            "backlog": sample.backlog,
            "by_client": orjson.dumps(sample.by_client).decode(),
            "marks": orjson.dumps([(to_microseconds(at), before) for at, before in sample.marks]).decode(),
            "held": sample.held,
            "released": sample.released,
            "per_second": sample.per_second,
            "held_mean": sample.held_mean,
        }
        statement = insert(samples).values(downstream=sample.downstream, **values)
        with self._database.single_write() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=[samples.c.downstream], set_=values))


def _smoothed(
    before: Sample | None, taken_at: datetime, released: int, held: int, *, is_busy: bool
) -> tuple[float, float]:
    """Releases a second and places taken, of the time in which something waited."""
    if before is None:
        return 0.0, 0.0
    seconds = (taken_at - before.taken_at) / timedelta(seconds=1)
    if not (is_busy and before.backlog) or seconds <= 0 or seconds > 60:
        return before.per_second, before.held_mean
    speed = (released - before.released) / seconds
    if before.per_second == 0:
        return speed, float(held)
    return before.per_second + _NEWEST * (speed - before.per_second), before.held_mean + _NEWEST * (
        held - before.held_mean
    )


def _counts(connection: Connection, statement: Select[str, int]) -> dict[str, int]:
    return dict(connection.execute(statement).all())
