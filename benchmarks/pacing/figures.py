"""The figures of one run: the downstream's log against what the lane could have sent."""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, func, select, type_coerce

from benchmarks.pacing.arrivals import Arrival, Span, doubles, length, most_within, overlap, read_log, union, without
from benchmarks.pacing.promise import Change, Given, Slots, broken, in_force
from benchmarks.pacing.scenarios import Run, Scenario
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs
from tidegate.database.statement import required
from tidegate.states import FINAL_STATES

# A released job's call starts at most the gate's horizon later, and up to 20 ms after its slot.
_UNDER_WAY_SECONDS = 0.15


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One line of the table. `utilisation`: of the rate over the time in which calls could be made (with a concurrency:
    of the places). `most`: calls in any window of so many seconds, by their first bytes. `broken`: each window that
    held more than was promised.
    """

    title: str
    calls: int
    seconds: float
    utilisation: float | None
    most: dict[str, int]
    most_open: int
    refused: int
    doubles: int
    unfinished: int = 0
    misses: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    instants: list[float] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    job: str
    released: float
    slot: float
    ended: float | None
    outcome: str | None
    has_place_from: float
    """Its release; of a follower, the end of the attempt on whose place it waited."""


def await_end(run: Run, *, longest_seconds: float) -> None:
    """Waits until every job is final, or so long."""
    database = Database(run.stack.database_url)
    statement = select(func.count()).where(jobs.c.state.not_in(FINAL_STATES))
    while time.time() < run.began + longest_seconds:
        if required(database.fetch_one(statement))[0] == 0:
            break
        time.sleep(0.5)
    database.close()


def figures_of(scenario: Scenario, run: Run) -> Figures:
    """Reads log and database of a run that is over."""
    lane = scenario.lane
    calls = read_log(run.stack.log, lane)
    instants = [call.at for call in calls]
    waits, tries, unfinished = _history(run.stack.database_url, lane, run.stack.log.with_name(f"attempts-{lane}.csv"))
    backlog = union((max(begin, run.began), end) for begin, end in waits if end > run.began)
    lived = without(backlog, run.outages)
    if scenario.rate:
        changes = [(each.confirmed, each.calls) for each in run.changes]
        utilisation = _slots_used(instants, lived, [(run.began, scenario.rate), *changes])
    elif scenario.concurrency:
        utilisation = _places_used(calls, lived, tries, scenario.concurrency)
    else:
        utilisation = None
    most_open = max(call.open for call in calls)
    excess = _excess(scenario, run, calls, Slots(Given(job=e.job, released=e.released, slot=e.slot) for e in tries))
    refused = _refused(scenario, calls)
    misses = ["windows"] if excess else []
    if utilisation is not None and scenario.utilisation and utilisation < scenario.utilisation:
        misses.append(f"utilisation under {scenario.utilisation:.0%}")
    if scenario.concurrency and most_open > scenario.concurrency:
        misses.append(f"{most_open} open")
    if refused:
        misses.append(f"{refused} refused")
    if unfinished:
        misses.append(f"{unfinished} unfinished")
    return Figures(
        title=scenario.title,
        calls=len(calls),
        seconds=instants[-1] - instants[0],
        utilisation=utilisation,
        most={f"{seconds:g} s": most_within(seconds, instants) for seconds, _ in scenario.windows or ((1.0, 0),)},
        most_open=most_open,
        refused=sum(call.is_refused for call in calls),
        doubles=doubles(calls),
        unfinished=unfinished,
        misses=misses,
        broken=excess,
        instants=[at - run.began for at in instants],
        events=[(at - run.began, what) for at, what in run.events],
    )


def middle_of(rounds: Sequence[Figures]) -> Figures:
    """One line for several rounds: the median of what was used and how long it took, the worst of everything else."""
    by_use = sorted(rounds, key=lambda row: row.utilisation or 0.0)
    seconds = sorted(row.seconds for row in rounds)
    return replace(
        by_use[len(rounds) // 2],
        seconds=seconds[len(rounds) // 2],
        most={window: max(row.most[window] for row in rounds) for window in rounds[0].most},
        **{
            name: max(getattr(row, name) for row in rounds)
            for name in ("most_open", "refused", "doubles", "unfinished")
        },
        misses=list(dict.fromkeys(miss for row in rounds for miss in row.misses)),
        broken=[each for row in rounds for each in row.broken],
    )


def _excess(scenario: Scenario, run: Run, calls: Sequence[Arrival], slots: Slots) -> list[str]:
    """The windows that held more than was promised: by one rate for all, or by those that were in force in turn."""
    found = []
    changes = [Change(asked=0.0, confirmed=0.0, calls=scenario.rate or 0), *run.changes]
    for seconds, at_most in scenario.windows:

        def allowed(call: Arrival, at_most: int = at_most) -> int:
            own = slots.of(call)
            return in_force(changes, own.released, own.slot) if run.changes and own else at_most

        found += broken(calls, slots, seconds=seconds, allowed=allowed, began=run.began)
    return found


def _refused(scenario: Scenario, calls: Sequence[Arrival]) -> int:
    """The refusals that should not have been; of a partner who allows less than is declared, those after his answer."""
    told = min(call.until for call in calls) if scenario.is_told_the_limit else 0.0
    return sum(call.is_refused and call.at > told for call in calls)


def _slots_used(instants: list[float], lived: list[Span], rates: list[tuple[float, float]]) -> float:
    ends = [at for at, _ in rates[1:]] + [float("inf")]
    slots = 1 + sum(rate * overlap(lived, [(begin, end)]) for (begin, rate), end in zip(rates, ends, strict=True))
    used = sum(any(begin <= at <= end + _UNDER_WAY_SECONDS for begin, end in lived) for at in instants)
    return used / slots


def _places_used(calls: list[Arrival], lived: list[Span], tries: list[_Attempt], concurrency: int) -> float:
    """Of the places that no dead attempt held: of a call whose worker died from its end on, of a message that died with
    a worker from its release on, each until the sweep ends it."""
    used = overlap(lived, [(call.at, call.until) for call in calls])
    dead = [
        (_call_until(each, calls), each.ended) for each in tries if each.outcome in {"lost", "unclaimed"} and each.ended
    ]
    dead = [(begin, end) for begin, end in dead if begin < end]
    return used / (concurrency * length(lived) - overlap(lived, dead))


def _call_until(attempt: _Attempt, calls: list[Arrival]) -> float:
    """When the attempt's call was over at the downstream; without one, when it got its place."""
    own = [
        call.until for call in calls if call.job == attempt.job and attempt.released <= call.at <= (attempt.ended or 0)
    ]
    return max([attempt.has_place_from, *own])


def _history(url: str, lane: str, history: Path) -> tuple[list[Span], list[_Attempt], int]:
    """When jobs waited for their slots; all attempts, also written to `history`; how many jobs are not final."""
    database = Database(url)
    columns = (jobs.c.id, jobs.c.created_at, jobs.c.run_at, jobs.c.state)
    with database.transaction() as connection:
        rows = connection.execute(_plain(*columns).where(jobs.c.downstream == lane)).all()
        tried = connection.execute(
            _plain(*attempts.c).where(attempts.c.downstream == lane).order_by(attempts.c.released_at)
        ).all()
    database.close()
    with history.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([attempts.c.keys(), *tried])
    ended = {(row.job_id, row.fence): row.ended_at / 1e6 for row in tried if row.ended_at}
    tries = [
        _Attempt(
            job=row.job_id,
            released=row.released_at / 1e6,
            slot=row.slot_at / 1e6,
            ended=row.ended_at and row.ended_at / 1e6,
            outcome=row.outcome,
            has_place_from=max(row.released_at / 1e6, ended.get((row.follows_job, row.follows_fence), 0.0)),
        )
        for row in tried
    ]
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for each in tries:
        first.setdefault(each.job, each.slot)
        last[each.job] = each.slot
    waits = [(row.created_at / 1e6, first[row.id]) for row in rows if row.id in first]
    # A job that came back waits from its new run_at on.
    waits += [(row.run_at / 1e6, last[row.id]) for row in rows if row.id in first and last[row.id] > first[row.id]]
    return [wait for wait in waits if wait[0] < wait[1]], tries, sum(row.state not in FINAL_STATES for row in rows)


def _plain(*columns: Any) -> Any:
    """SELECT with instants as microseconds."""
    return select(
        *(type_coerce(c, BigInteger).label(c.name) if c.name.endswith(("_at", "_until")) else c for c in columns)
    )
