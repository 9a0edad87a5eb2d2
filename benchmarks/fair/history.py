"""Reads what happened: the gate's choices from the rows of attempts, and the calls from the downstream's log."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, select, type_coerce

from benchmarks.fair.choices import Choice
from benchmarks.pacing.arrivals import Arrival, read_log
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.database.statement import required
from tidegate.operations.sharing import key_of, named_by

# Outcomes of attempts whose call was surely not made.
_NOT_MADE = {
    *("not sent", "unclaimed", "dropped", "own shortage", "unknown here", "erased", "no place", "no slot", "stopped"),
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call at the downstream, and the choice that it was made for."""

    arrival: Arrival
    choice: Choice


@dataclass(frozen=True, kw_only=True)
class Calls:
    """All calls in the order of their arrival. `without`: choices of which none came; `again`: calls beyond the first
    of their choice, of which there should be none.
    """

    calls: Sequence[Call]
    without: Sequence[Choice]
    again: Sequence[Call]


def read_choices(url: str, lane: str, names: Mapping[str, str] | None = None) -> tuple[list[Choice], int]:
    """All choices of a lane with a turn, and the last number of its turns. `names`: of clients, by their ids."""
    database = Database(url)
    instants: Sequence[Any] = [
        type_coerce(column, BigInteger).label(column.name)
        for column in (attempts.c.released_at, attempts.c.slot_at, attempts.c.ended_at)
    ]
    plain = (attempts.c.job_id, attempts.c.partition, attempts.c.turn, attempts.c.outcome, attempts.c.claimed_at)
    chosen = attempts.c.downstream == lane, attempts.c.turn.is_not(None)
    rows = database.fetch_all(select(*plain, *instants).where(*chosen))
    last = required(database.fetch_one(select(downstreams.c.turns).where(downstreams.c.name == lane)))[0]
    database.close()
    return [_choice(row, names or {}) for row in rows], int(last)


def _choice(row: Any, names: Mapping[str, str]) -> Choice:
    client, name = named_by(row.partition)
    client = names.get(client, client)
    return Choice(
        number=row.turn,
        client=client,
        partition=key_of(client, name),
        job=row.job_id,
        released=row.released_at / 1e6,
        slot=row.slot_at / 1e6,
        ended=row.ended_at and row.ended_at / 1e6,
        outcome=row.outcome,
        is_given_back=row.outcome in _NOT_MADE,
    )


def read_jobs(url: str, lane: str) -> dict[str, tuple[str, float]]:
    """By id: the partition of each job and when it was submitted (seconds since 1970)."""
    database = Database(url)
    created = type_coerce(jobs.c.created_at, BigInteger).label("created_at")
    rows = database.fetch_all(select(jobs.c.id, jobs.c.partition, created).where(jobs.c.downstream == lane))
    database.close()
    return {row.id: (row.partition, row.created_at / 1e6) for row in rows}


def read_calls(log: Path, lane: str, choices: Sequence[Choice]) -> Calls:
    """Finds for each call the latest choice of its job that was released by then."""
    by_job: defaultdict[str, list[Choice]] = defaultdict(list)
    for choice in sorted(choices, key=lambda choice: choice.released):
        by_job[choice.job].append(choice)
    made: set[int] = set()
    calls: list[Call] = []
    again: list[Call] = []
    for arrival in read_log(log, lane):
        own = [choice for choice in by_job[arrival.job] if choice.released <= arrival.at]
        if not own:
            raise RuntimeError(f"a call of {arrival.job} came, and no choice was made for it")
        call = Call(arrival=arrival, choice=own[-1])
        if call.choice.number in made:
            again.append(call)
        made.add(call.choice.number)
        calls.append(call)
    without = [choice for choice in choices if choice.number not in made]
    return Calls(calls=calls, without=without, again=again)


def by_partition(calls: Sequence[Arrival], partition_of: Mapping[str, str]) -> dict[str, list[Arrival]]:
    """The calls of each partition, in the order of their arrival."""
    found: defaultdict[str, list[Arrival]] = defaultdict(list)
    for call in calls:
        found[partition_of[call.job]].append(call)
    return dict(found)
