"""What the tables and the downstream's log tell of batches, side by side."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, select, type_coerce

from tidegate.database.connection import Database
from tidegate.database.schema import attempts, bodies, jobs

# Outcomes of attempts whose call was surely not made.
_NOT_MADE = frozenset(
    ("not sent", "unclaimed", "dropped", "own shortage", "unknown here", "left out", "no place", "no slot", "stopped")
)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A line of the downstream's log. `key`: the Idempotency-Key. `members`: the ids of its jobs."""

    lane: str
    key: str
    members: tuple[str, ...]
    status: int
    open: int
    at: float
    until: float


def read_log(path: Path, lane: str | None = None) -> list[Arrived]:
    """The calls in the order of their arrival."""
    names = ("lane", "status", "open", "at", "until")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    calls = [
        Arrived(key=line["job"], members=tuple(line["members"]), **{name: line[name] for name in names})
        for line in lines
        if lane in {None, line["lane"]}
    ]
    return sorted(calls, key=lambda call: call.at)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An attempt of a job. `is_call`: it had the slot and the place of its batch."""

    job: str
    batch: str | None
    is_call: bool
    claimed: float | None
    ended: float | None
    outcome: str | None

    @property
    def may_be_made(self) -> bool:
        """Whether its call may have come to the downstream."""
        return self.claimed is not None and self.outcome not in _NOT_MADE


@dataclass(frozen=True, kw_only=True)
class Job:
    """`finished`: seconds since 1970."""

    id: str
    lane: str
    state: str
    losses: int
    created: float
    finished: float
    given: Any
    result: Any


class History:
    """All jobs and attempts of a database."""

    def __init__(self, url: str) -> None:
        database = Database(url)
        with database.transaction() as connection:
            rows = connection.execute(
                select(
                    *(jobs.c[name] for name in ("id", "downstream", "state", "losses")),
                    *_at(jobs, "created_at", "finished_at"),
                )
            ).all()
            tried = connection.execute(
                select(
                    *(attempts.c[name] for name in ("job_id", "batch_id", "follows_job", "outcome")),
                    *_at(attempts, "claimed_at", "ended_at"),
                ).order_by(attempts.c.job_id, attempts.c.fence)
            ).all()
            kept = connection.execute(select(bodies.c.job_id, bodies.c.kind, bodies.c.content)).all()
        database.close()
        given = {(row.job_id, row.kind): json.loads(row.content or b"null") for row in kept}
        self.jobs = {
            row.id: Job(
                id=row.id,
                lane=row.downstream,
                state=row.state,
                losses=row.losses,
                created=row.created_at / 1e6,
                finished=(row.finished_at or 0) / 1e6,
                given=given.get((row.id, "input")),
                result=given.get((row.id, "result")),
            )
            for row in rows
        }
        self.tries: dict[str, list[Tried]] = defaultdict(list)
        for row in tried:
            self.tries[row.job_id].append(
                Tried(
                    job=row.job_id,
                    batch=row.batch_id,
                    is_call=row.follows_job is None,
                    claimed=row.claimed_at and row.claimed_at / 1e6,
                    ended=row.ended_at and row.ended_at / 1e6,
                    outcome=row.outcome,
                )
            )

    def of(self, lane: str) -> list[Job]:
        """The jobs of a lane."""
        return [job for job in self.jobs.values() if job.lane == lane]

    def states(self, lane: str) -> Mapping[str, int]:
        """How many jobs of a lane ended how."""
        return dict(Counter(job.state for job in self.of(lane)))

    def called(self, lane: str) -> list[Tried]:
        """The attempts of a lane's jobs of which calls may have been made."""
        return [each for job in self.of(lane) for each in self.tries[job.id] if each.may_be_made]


def two_faced(calls: Iterable[Arrived]) -> list[str]:
    """Idempotency-Keys that came with other members than before."""
    members: dict[str, set[frozenset[str]]] = defaultdict(set)
    for call in calls:
        members[call.key].add(frozenset(call.members))
    return [key for key, sets in members.items() if len(sets) > 1]


def unclaimed(calls: Sequence[Arrived], history: History) -> list[str]:
    """Calls, of a job each, for which no claimed attempt of that job and batch was left."""
    free: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for tries in history.tries.values():
        for each in tries:
            if each.claimed is not None:
                free[each.job, each.batch].append(each.claimed)
    found = []
    for call in sorted(calls, key=lambda each: -each.at):
        for member in call.members:
            own = [at for at in free[member, call.key] if at <= call.at]
            if own:
                free[member, call.key].remove(max(own))
            else:
                found.append(f"{member} in the call {call.key}")
    return found


def _at(table: Any, *names: str) -> list[Any]:
    """Instants as microseconds since 1970."""
    return [type_coerce(table.c[name], BigInteger).label(name) for name in names]
