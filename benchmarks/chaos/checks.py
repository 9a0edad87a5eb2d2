"""What must be true at the end, read from the tables, from the downstream's log and from what the callers saw."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, func, select

from benchmarks.chaos.load import Accepted, Load
from benchmarks.chaos.stack import RATE_PER_SECOND, Stack
from benchmarks.pacing.arrivals import Arrival, doubles, most_within, read_log
from tidegate.database import Database
from tidegate.database_time import database_now
from tidegate.models import attempts, bodies, jobs, workers
from tidegate.states import FINAL_STATES

Violations = dict[str, list[str]]


def open_jobs(database: Database) -> int:
    """How many jobs are not final."""
    with database.reading() as connection:
        return connection.execute(
            select(func.count()).select_from(jobs).where(jobs.c.state.not_in(sorted(FINAL_STATES)))
        ).scalar_one()


def held_places(database: Database) -> int:
    """How many attempts still have their place."""
    with database.reading() as connection:
        return connection.execute(
            select(func.count()).select_from(attempts).where(attempts.c.ended_at.is_(None))
        ).scalar_one()


def live_workers(database: Database) -> int:
    """How many workers count as alive."""
    with database.reading() as connection:
        return connection.execute(
            select(func.count()).select_from(workers).where(workers.c.seen_until > database_now())
        ).scalar_one()


class Books:
    """The tables, the log and the callers' memory, laid side by side."""

    def __init__(self, database: Database, stack: Stack, load: Load) -> None:
        with database.reading() as connection:
            self.jobs: dict[str, Row[Any]] = {row.id: row for row in connection.execute(select(jobs)).all()}
            self.results = set(connection.execute(select(bodies.c.job_id).where(bodies.c.kind == "result")).scalars())
            self.attempts: dict[str, list[Row[Any]]] = defaultdict(list)
            for row in connection.execute(select(attempts).order_by(attempts.c.job_id, attempts.c.fence)).all():
                self.attempts[row.job_id].append(row)
        self.calls: dict[str, list[Arrival]] = defaultdict(list)
        for call in read_log(stack.log):
            self.calls[call.job].append(call)
        self.load = load

    def violations(self) -> Violations:
        """Every promise with the jobs that broke it; all lists empty: all was kept."""
        return {
            "every 202 has a final row": list(self._lost(self.load.accepted)),
            "what a caller was told stays true": [*self.load.broken, *self._untold(self.load.accepted)],
            "one outcome a job": list(self._torn()),
            "no lease outlives its job": [
                job.id for job in self.jobs.values() if job.lease_until or (job.state != "queued" and job.slot_at)
            ],
            "no place outlives its call": [
                f"{row.job_id} {row.fence}" for rows in self.attempts.values() for row in rows if row.ended_at is None
            ],
            "every call belongs to a claimed attempt": list(self._unclaimed_calls()),
            "every success was called": [
                job.id
                for job in self.jobs.values()
                if job.operation in {"paced", "free"} and job.state == "succeeded" and not self.calls[job.id]
            ],
            "no job expired that had time": [
                job.id for job in self.load.accepted if not job.is_short and self._state(job) == "expired"
            ],
        }

    def figures(self) -> dict[str, Any]:
        """What happened, to be read and not judged."""
        rows = [row for rows in self.attempts.values() for row in rows]
        calls = [call for calls in self.calls.values() for call in calls]
        return {
            "states": dict(Counter(job.state for job in self.jobs.values())),
            "failures": dict(
                Counter(json.loads(job.error)["message"] for job in self.jobs.values() if job.state == "failed")
            ),
            "recorded without an answer": len(self.jobs.keys() - {job.id for job in self.load.accepted}),
            "attempts": dict(Counter(str(row.outcome) for row in rows)),
            "jobs with losses": sum(job.losses > 0 for job in self.jobs.values()),
            "attempts that overlapped": sum(_overlaps(rows) for rows in self.attempts.values()),
            "calls": len(calls),
            "calls repeated": doubles(calls),
            "calls after their attempt had ended": sum(
                not any(_claimed(row) <= call.at <= _ended(row) for row in self.attempts[call.job])
                for call in calls
                if self.attempts[call.job]
            ),
            f"most paced calls in any second, of {RATE_PER_SECOND}": most_within(
                1.0, sorted(call.at for call in calls if call.lane == "paced")
            ),
            "most calls open at once": {
                lane: max(call.open for call in calls if call.lane == lane) for lane in {call.lane for call in calls}
            },
        }

    def story(self, job_id: str) -> list[str]:
        """What became of each of its attempts: to find out why."""
        job = self.jobs[job_id]
        return [f"{job.operation}, created {job.created_at:%H:%M:%S.%f}", *map(_told, self.attempts[job_id])]

    def stories(self) -> dict[str, list[str]]:
        """Of the jobs that failed or whose attempts overlapped."""
        return {
            job.id: self.story(job.id)
            for job in self.jobs.values()
            if job.state == "failed" or _overlaps(self.attempts[job.id])
        }

    def _state(self, job: Accepted) -> str | None:
        row = self.jobs.get(job.id)
        return row.state if row else None

    def _lost(self, accepted: Iterable[Accepted]) -> Iterable[str]:
        for job in accepted:
            if self._state(job) not in FINAL_STATES:
                yield f"{job.id} is {self._state(job)}"

    def _untold(self, accepted: Iterable[Accepted]) -> Iterable[str]:
        for job in accepted:
            if job.final and self._state(job) != job.final:
                yield f"{job.id} was told to be {job.final} and is {self._state(job)}"
            if job.cancelled_at and self._state(job) != "cancelled":
                yield f"{job.id} was told to be cancelled and is {self._state(job)}"

    def _torn(self) -> Iterable[str]:
        for job in self.jobs.values():
            outcomes = [row.outcome for row in self.attempts[job.id]]
            is_success = job.state == "succeeded"
            if outcomes.count("succeeded") != is_success or (job.id in self.results) != is_success:
                yield f"{job.id} is {job.state}, attempts {outcomes}, result {job.id in self.results}"
            if job.state == "failed" and job.error is None:
                yield f"{job.id} failed and does not say why"

    def _unclaimed_calls(self) -> Iterable[str]:
        """Each call takes one claimed attempt of its job that had begun by then, the latest first."""
        for job_id, calls in self.calls.items():
            free = [row for row in self.attempts.get(job_id, []) if row.claimed_at]
            for call in sorted(calls, key=lambda each: -each.at):
                begun = [row for row in free if _claimed(row) <= call.at]
                if not begun:
                    yield f"{job_id} was called at {call.at}"
                    continue
                free.remove(begun[-1])


def _told(row: Row[Any]) -> str:
    instants = (row.released_at, row.claimed_at, row.ended_at)
    times = " ".join(f"{instant:%H:%M:%S.%f}"[:-3] if instant else "-" for instant in instants)
    return f"{row.fence} {row.queue} {row.outcome}: released, claimed, ended {times}"


def _claimed(row: Row[Any]) -> float:
    return float(row.claimed_at.timestamp()) if row.claimed_at else float("inf")


def _ended(row: Row[Any]) -> float:
    return float(row.ended_at.timestamp()) if row.ended_at else float("inf")


def _overlaps(rows: Sequence[Row[Any]]) -> int:
    claimed = [row for row in rows if row.claimed_at]
    return sum(_ended(one) > _claimed(other) for one, other in pairwise(claimed))
