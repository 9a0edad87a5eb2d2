"""The gate's statements: find the lanes that are due, read one of them, and write the release of its jobs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, ColumnElement, Text, bindparam, cast, func, select, text, type_coerce

from tidegate import rate_limit
from tidegate.clock import to_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import is_one_of
from tidegate.database.schema import WAS_REFUSED, attempts, bodies, downstreams, jobs
from tidegate.database.statement import Prepared, required
from tidegate.database.time import CLOCK, statement_now
from tidegate.dispatch import limiter_row
from tidegate.dispatch.lane import DueLane, LaneState, WaitingPoll
from tidegate.dispatch.lane_reads import read_lanes, read_polls
from tidegate.dispatch.limit_doubt import LATELY, Refusals
from tidegate.dispatch.partitions.store import PartitionStore
from tidegate.dispatch.places import has_place
from tidegate.dispatch.plan import Plan
from tidegate.dispatch.prefetch import unfollowed_calls
from tidegate.dispatch.release import Written, write_releases
from tidegate.dispatch.room import MOST_RELEASED
from tidegate.dispatch.samples import LIMIT
from tidegate.dispatch.undo_release import take_back
from tidegate.jobs.job import Call, Released
from tidegate.jobs.transitions import IS_WAITING, NOW


def _due(version: ColumnElement[str]) -> Any:
    first = (
        select(jobs.c.run_at, jobs.c.queue)
        .where(jobs.c.downstream == downstreams.c.name, IS_WAITING)
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
    )
    # The order is for the plan: by the index even where old versions of the rows fill many pages (0102).
    return (
        select(
            downstreams.c.name,
            version.label("version"),
            first.with_only_columns(type_coerce(jobs.c.run_at, BigInteger)).scalar_subquery().label("next_run_at"),
            first.with_only_columns(jobs.c.queue).scalar_subquery().label("queue"),
            func.coalesce(type_coerce(downstreams.c.paused_until, BigInteger), 0).label("paused_until"),
            NOW.label("now"),
        )
        .where(~downstreams.c.paused)
        .order_by(downstreams.c.name)
    )


def _due_lane(row: Mapping[str, Any]) -> DueLane | None:
    return DueLane(**row) if row["next_run_at"] is not None else None


_DUE = Prepared(_due(limiter_row.VERSION), _due_lane, on_sqlite=_due(limiter_row.VERSION_ON_SQLITE))


def _input_sizes(which: ColumnElement[bool], key: Any) -> Any:
    """The ids come as the job reads have them: PostgreSQL's with dashes, SQLite's without."""
    size = func.length(bodies.c.content)
    return select(key.label("id"), size.label("size")).where(which, bodies.c.kind == "input")


_IDS = bindparam("ids", type_=Text())
_INPUT_SIZES = Prepared(
    # Looked up one by one: by IN PostgreSQL would compare all of them with each of all bodies, while those are few.
    _input_sizes(
        is_one_of(bodies.c.job_id, cast(func.json_array_elements_text(cast(_IDS, JSON)), bodies.c.job_id.type)),
        cast(bodies.c.job_id, Text),
    ),
    lambda row: (row["id"], row["size"]),
    on_sqlite=_input_sizes(
        bodies.c.job_id.in_(select(func.json_each(_IDS).table_valued("value").c.value)),
        type_coerce(bodies.c.job_id, Text),
    ),
)


class LaneStore:
    """Statements on downstreams and the release of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.partitions = PartitionStore(database)

    def due(self) -> Sequence[DueLane]:
        """Every lane with queued jobs, and when the first of each may run.

        Its cost does not grow with the backlog: one index step for each downstream.
        """
        return [due for due in self._database.fetch_all(_DUE) if due]

    def read(
        self,
        *names: str,
        queues: Collection[str] | None = None,
        limit: int = MOST_RELEASED,
        without: Collection[str] = (),
        are_shared: bool = False,
    ) -> Sequence[LaneState]:
        """Reads lanes and the first waiting jobs of each, without a lock; those that are not there are left out.

        `queues`: of these alone; None: of all. Jobs of the operations `without` are passed over. `are_shared`: with the
        partitions of their jobs.
        """
        return read_lanes(self._database, names, queues=queues, limit=limit, without=without, are_shared=are_shared)

    def polls(self, name: str, *, without: Collection[str] = ()) -> Sequence[WaitingPoll]:
        """Reads the first jobs of a lane that wait to be polled, due or not; only of one that has kept places.

        Jobs of the operations `without` are passed over.
        """
        polls = read_polls(self._database, name, limit=MOST_RELEASED)
        return [poll for poll in polls if poll.job.operation not in without]

    def waiting_operations(self) -> dict[str, int]:
        """How many jobs wait, by operation. Its cost grows with the backlog. Raises DatabaseTooSlowError."""
        counted = select(jobs.c.operation, func.count()).where(IS_WAITING).group_by(jobs.c.operation)
        return {operation: int(number) for operation, number in self._database.fetch_all(counted, limit=LIMIT)}

    def input_sizes(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """How large the inputs of these jobs are, in bytes. length() of a long one needs no read of its content."""
        given = {"ids": orjson.dumps(sorted(job_ids)).decode()}
        return dict(self._database.fetch_all(_INPUT_SIZES, given))

    def unfollowed_calls(self, name: str, limit: int) -> Sequence[Call]:
        """Reads the open calls of a lane that have no follower yet, the oldest first."""
        return unfollowed_calls(self._database, name, limit)

    def write(self, *plans: Plan) -> Sequence[Written]:
        """Writes the releases of different lanes in one transaction, each if its lane is still as it was read.

        Nothing is released of a lane whose row was written or locked by another transaction meanwhile. A job that
        another moved stays, and its slot is lost.
        """
        return write_releases(self._database, plans)

    def settle(self, name: str) -> None:
        """Brings a rate limiter's state nearer that the database's clock, which was set back, left far ahead."""
        with self._database.transaction() as connection:
            lane = limiter_row.locked(self._database, connection, name)
            if lane:
                now = to_microseconds(required(self._database.fetch_one(CLOCK, within=connection)))
                pace = rate_limit.settle(lane.allowance, lane.pace, now=now)
                self._database.execute(limiter_row.KEEP_PACE, limiter_row.kept_pace(name, pace), within=connection)

    def held(self) -> dict[str, int]:
        """How many places are taken, by downstream."""
        places = select(attempts.c.downstream, func.count()).where(has_place()).group_by(attempts.c.downstream)
        return {downstream: int(count) for downstream, count in self._database.fetch_all(places)}

    def refused(self) -> dict[str, Refusals]:
        """What each downstream refused of the calls of the last minute: by an index that has refusals only."""
        slot = type_coerce(attempts.c.slot_at, BigInteger)
        lately = (
            select(attempts.c.downstream, func.count(), func.min(slot), func.max(slot))
            .where(text(WAS_REFUSED), attempts.c.ended_at > statement_now(-LATELY))
            .where(attempts.c.slot_at > statement_now(-LATELY))
            .group_by(attempts.c.downstream)
        )
        rows = self._database.fetch_all(lately)
        return {name: Refusals(number=number, first_slot=first, last_slot=last) for name, number, first, last in rows}

    def take_back(self, released: Sequence[Released]) -> None:
        """Undoes releases whose messages were surely not sent; those that were claimed meanwhile stay."""
        with self._database.transaction() as connection:
            take_back(self._database, connection, [(job.job_id, job.fence) for job in released], outcome="not sent")
