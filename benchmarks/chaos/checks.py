"""What must be true of the tables when everything is over: nothing left behind, nothing double. For tests, too."""

import json
from contextlib import suppress

from sqlalchemy import Table, func, select

from tests.support.waiting import wait_until
from tidegate.clock import to_microseconds
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import attempts, downstreams, jobs, stewards, workers
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.rate_limit import Pace
from tidegate.states import FINAL_STATES

Violations = dict[str, list[str]]

# Each finds the rows that break the promise by whose name it goes. Plain SQL, the same for PostgreSQL and SQLite.
_LEFT = {
    "every job is final": """
        SELECT id, state FROM jobs WHERE finished_at IS NULL""",
    "no lease outlives its job": """
        SELECT id, state FROM jobs
        WHERE finished_at IS NOT NULL AND (lease_until IS NOT NULL OR slot_at IS NOT NULL)""",
    "no place outlives its call": """
        SELECT job_id, fence FROM attempts WHERE ended_at IS NULL""",
    "no attempt outlives its job": """
        SELECT job_id, fence, outcome FROM attempts WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE id = job_id)""",
    "no key names a job that is not there": """
        SELECT key, job_id FROM idempotency_keys
        WHERE job_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = job_id)""",
    "every end is told": """
        SELECT job_id, deliveries.state FROM deliveries JOIN jobs ON id = job_id
        WHERE deliveries.lease_until IS NOT NULL OR (deliveries.state = 'waiting' AND finished_at IS NOT NULL)""",
}
_DOUBLED = {
    "a success has one attempt and one result, any other end none": """
        SELECT id, state FROM jobs
        WHERE CASE state WHEN 'succeeded' THEN 1 ELSE 0 END
              <> (SELECT count(*) FROM attempts WHERE job_id = id AND outcome = 'succeeded')
           OR CASE state WHEN 'succeeded' THEN 1 ELSE 0 END
              <> (SELECT count(*) FROM bodies WHERE job_id = id AND kind = 'result')""",
    "a failure says why": """
        SELECT id FROM jobs WHERE state = 'failed' AND error IS NULL""",
    "a release is counted once": """
        SELECT id, jobs.fence FROM jobs WHERE fence < (SELECT count(*) FROM attempts WHERE job_id = id)""",
}
_FAR_AHEAD_MICROSECONDS = 2_000_000  # the gate reserves 120 ms ahead


def left_behind(database: Database) -> Violations:
    """What should be gone once nothing is submitted any more and every process has had its time: by promise, the rows
    that break it. A job that waits for a far `run_at` is open, and so is named.
    """
    return {**_found(database, _LEFT), "no slot is promised far ahead": _promised_ahead(database)}


def doubled(database: Database) -> Violations:
    """What must not be in the tables at any time: by promise, the rows that break it."""
    return _found(database, _DOUBLED)


def await_nothing_left(database: Database, *, timeout_seconds: float) -> Violations:
    """Waits until nothing is left behind, no longer than that; what is."""

    def is_clean() -> bool:
        try:
            return not any(left_behind(database).values())
        except UNREACHABLE:
            return False

    with suppress(AssertionError):
        wait_until(is_clean, description="nothing is left behind", timeout_seconds=timeout_seconds)
    return left_behind(database)


def open_jobs(database: Database) -> int:
    """How many jobs are not final."""
    return required(
        database.fetch_one(select(func.count()).select_from(jobs).where(jobs.c.state.not_in(sorted(FINAL_STATES))))
    )[0]


def held_places(database: Database) -> int:
    """How many attempts still have their place."""
    return required(
        database.fetch_one(select(func.count()).select_from(attempts).where(attempts.c.ended_at.is_(None)))
    )[0]


def live(database: Database, processes: Table) -> int:
    """How many `workers` or `schedulers` count as alive."""
    return required(
        database.fetch_one(select(func.count()).select_from(processes).where(processes.c.seen_until > database_now()))
    )[0]


def await_living(database: Database, wanted: dict[str, int], *, timeout_seconds: float) -> list[str]:
    """Waits until as many workers and schedulers count as alive as there are; where they differ, how."""
    tables = {table.name: table for table in (workers, stewards)}

    def differences() -> list[str]:
        counted = {name: live(database, tables[name]) for name in wanted}
        return [f"{counted[name]} {name} count, {n} run" for name, n in wanted.items() if counted[name] != n]

    with suppress(AssertionError):
        wait_until(lambda: not differences(), description="only the living count", timeout_seconds=timeout_seconds)
    return differences()


def closed_lanes(database: Database) -> list[str]:
    """Lanes that let nothing go: paused, resting or with an open breaker."""
    rows = database.fetch_all(select(downstreams, database_now().label("now")))
    return [
        f"{row.name}: paused {row.paused}, until {row.paused_until}, {row.failures} failures in a row"
        for row in rows
        if row.paused
        or (row.paused_until and row.paused_until > row.now)
        or (row.breaker_after and row.failures >= row.breaker_after)
    ]


def counted_calls(database: Database, lane: str) -> int:
    """How many calls the lane's rate limiter remembers."""
    return sum(run.calls for run in _pace(database, lane).log)


def _found(database: Database, queries: dict[str, str]) -> Violations:
    with database.transaction() as connection:
        return {
            promise: [" ".join(map(str, row)) for row in connection.exec_driver_sql(query)]
            for promise, query in queries.items()
        }


def _promised_ahead(database: Database) -> list[str]:
    with database.transaction() as connection:
        names = connection.execute(select(downstreams.c.name)).scalars().all()
        now = to_microseconds(connection.execute(select(database_now())).scalar_one())
    ahead = {name: _pace(database, name).free_at - now for name in names}
    return [f"{name} {each / 1e6:.1f} s" for name, each in ahead.items() if each > _FAR_AHEAD_MICROSECONDS]


def _pace(database: Database, lane: str) -> Pace:
    stored = required(database.fetch_one(select(downstreams.c.pace).where(downstreams.c.name == lane)))[0]
    return Pace.from_json(json.loads(stored))
