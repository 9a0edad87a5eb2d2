"""What was kept and what was not: the tables, the downstream's log, what callers saw and the faults, side by side."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, select

from benchmarks.chaos.checks import Violations, closed_lanes, counted_calls, doubled, left_behind
from benchmarks.chaos.faults import Struck
from benchmarks.chaos.load import Accepted, Load
from benchmarks.chaos.stack import RATE_PER_SECOND, WORKERS, Stack
from benchmarks.pacing.arrivals import Arrival, doubles, most_within, read_log
from benchmarks.pacing.promise import LATE_SECONDS, Given, Slots, counted_at
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs
from tidegate.states import FINAL_STATES


class Books:
    """`struck`: the faults that there were; they tell whether a worker was taken for dead without a reason."""

    def __init__(self, database: Database, stack: Stack, load: Load, struck: Sequence[Struck] = ()) -> None:
        self._tables = {**left_behind(database), **doubled(database)}
        self._closed_lanes = closed_lanes(database)
        self._counted = counted_calls(database, "paced")
        self._stack = stack
        self._struck = struck
        with database.transaction() as connection:
            self.jobs: dict[str, Row[Any]] = {row.id: row for row in connection.execute(select(jobs)).all()}
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
            **self._tables,
            "one submit, one job": list(self._twins()),
            "every call belongs to a claimed attempt": list(self._unclaimed_calls()),
            "every success was called": [
                job.id
                for job in self.jobs.values()
                if job.operation in {"paced", "free"} and job.state == "succeeded" and not self.calls[job.id]
            ],
            "no job expired that had time": [
                job.id for job in self.load.accepted if not job.is_short and self._state(job) == "expired"
            ],
            "no job is taken from a worker that was not hurt": list(self._robbed()),
            "no call is forgotten by the rate limiter": list(self._uncounted()),
            "never more calls than the rate in any second": list(self._too_fast()),
            "every lane is open": self._closed_lanes,
        }

    def figures(self) -> dict[str, Any]:
        """What happened, to be read and not judged."""
        rows = [row for rows in self.attempts.values() for row in rows]
        calls = [call for calls in self.calls.values() for call in calls]
        slots = self._slots()
        return {
            "states": dict(Counter(job.state for job in self.jobs.values())),
            "failures": dict(
                Counter(json.loads(job.error)["message"] for job in self.jobs.values() if job.state == "failed")
            ),
            "recorded without an answer": len(self.jobs.keys() - {job.id for job in self.load.accepted}),
            "attempts": dict(Counter(str(row.outcome) for row in rows)),
            "calls that the rate limiter counts beyond those made": self._counted - len(self._calls_of("paced")),
            "jobs with losses": sum(job.losses > 0 for job in self.jobs.values()),
            "attempts that overlapped": sum(_overlaps(rows) for rows in self.attempts.values()),
            "calls": len(calls),
            "calls repeated": doubles(calls),
            "calls after their attempt had ended": sum(
                not any(_claimed(row) <= call.at <= _ended(row) for row in self.attempts[call.job])
                for call in calls
                if self.attempts[call.job]
            ),
            f"most paced calls in any second by their first bytes, of {RATE_PER_SECOND}": most_within(
                1.0, sorted(call.at for call in self._calls_of("paced"))
            ),
            "paced calls that began too late for their slots": sum(
                slots.late(call) > LATE_SECONDS for call in self._calls_of("paced")
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
        """Of the jobs that failed, are open or had attempts that overlapped."""
        return {
            job.id: self.story(job.id)
            for job in self.jobs.values()
            if job.state not in FINAL_STATES - {"failed"} or _overlaps(self.attempts[job.id])
        }

    def _state(self, job: Accepted) -> str | None:
        row = self.jobs.get(job.id)
        return row.state if row else None

    def _lost(self, accepted: Iterable[Accepted]) -> Iterable[str]:
        for job in accepted:
            if self._state(job) not in FINAL_STATES and not (job.may_be_erased and job.id not in self.jobs):
                yield f"{job.id} is {self._state(job)}"

    def _untold(self, accepted: Iterable[Accepted]) -> Iterable[str]:
        for job in accepted:
            state = self._state(job)
            if job.may_be_erased and state is None:
                continue
            if job.is_erased:
                yield f"{job.id} was told to be erased and is {state}"
            if job.final and state != job.final:
                yield f"{job.id} was told to be {job.final} and is {state}"
            if job.cancelled_at and state != "cancelled":
                yield f"{job.id} was told to be cancelled and is {state}"

    def _twins(self) -> Iterable[str]:
        """Every submit has a trace of its own, which it keeps when it is repeated under its Idempotency-Key."""
        traces = Counter(job.traceparent for job in self.jobs.values())
        for trace, number in traces.items():
            if trace and number > 1:
                yield f"{number} jobs of the submit {trace}"

    def _robbed(self) -> Iterable[str]:
        """Each loss of a job needs an attempt whose process was hurt meanwhile."""
        for job in self.jobs.values():
            hurt = [row for row in self.attempts[job.id] if row.claimed_at and self._was_hurt(row)]
            if job.losses > len(hurt):
                names = [self._member_of(row) for row in self.attempts[job.id] if row.claimed_at and row not in hurt]
                yield f"{job.id} was lost {job.losses} times, {len(hurt)} by faults; it was at {', '.join(names)}, too"

    def _was_hurt(self, row: Row[Any]) -> bool:
        name = self._member_of(row)
        return any(
            name in fault.hurts and began <= _ended(row) and _claimed(row) <= over
            for began, over, fault in self._struck
        )

    def _member_of(self, row: Row[Any]) -> str:
        """An io worker claims under its own pid; who has children, under theirs."""
        members = self._stack.members
        return next((name for name in WORKERS if row.worker_pid in members[name].pids), "cpu-1")

    def _uncounted(self) -> Iterable[str]:
        made = len(self._calls_of("paced"))
        if self._counted < made:
            yield f"{made} calls were made and {self._counted} are counted"

    def _too_fast(self) -> Iterable[str]:
        """A process that is frozen before its first byte sends it late: that call counts at its latest instant."""
        slots = self._slots()
        counted = sorted(counted_at(call, slots) for call in self._calls_of("paced"))
        if (most := most_within(1.0, counted)) > RATE_PER_SECOND:
            yield f"{most} in a second"

    def _slots(self) -> Slots:
        rows = (row for rows in self.attempts.values() for row in rows)
        return Slots(
            Given(job=row.job_id, released=row.released_at.timestamp(), slot=row.slot_at.timestamp()) for row in rows
        )

    def _calls_of(self, lane: str) -> list[Arrival]:
        return [call for calls in self.calls.values() for call in calls if call.lane == lane]

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
