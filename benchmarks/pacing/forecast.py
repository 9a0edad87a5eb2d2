"""How true the forecast is: `estimated_start` against the start, and how often a client that obeys Retry-After asks."""

import heapq
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import BigInteger, select, type_coerce

from benchmarks.pacing.arrivals import median, quantile
from benchmarks.pacing.figures import await_end
from benchmarks.pacing.scenarios import LANE, Run, Scenario
from benchmarks.pacing.stack import Answer, running
from tidegate.database.connection import Database
from tidegate.database.schema import jobs

# Every so-manyth job is polled by a client that obeys Retry-After, and as many at instants of our choice.
_EVERY = 20
_LOOKS_AT = (5, 15, 30, 45)
_MOST_POLLS = 3


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """A lane with a minute of work; `error` is the target."""

    scenario: Scenario
    error: float


BACKLOGS = (
    Backlog(scenario=Scenario(name="pure-rate", title="50/s", jobs=3000), error=0.03),
    Backlog(
        scenario=Scenario(
            name="five-places",
            title="5 places, calls of 80 to 120 ms",
            limits="concurrency = 5",
            jobs=2500,
            call_ms="80-120",
        ),
        error=0.15,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Errors are medians, as a share of the wait that was left. `in_burst`: told with the 202, while all submitted."""

    title: str
    wait_seconds: float
    in_burst: float
    later: float
    all_together: float
    polls: int
    most_polls: int


@dataclass(frozen=True, kw_only=True)
class _Guess:
    job: str
    asked_at: float
    start: float


def run(folder: Path, database: str, out: Path) -> None:
    """Measures both lanes, prints a table and writes forecast-DATABASE.json."""
    rows = []
    print(f"\nforecast, {database}\n\n| lane | longest wait | error in the burst | later | together | polls, 90 % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for backlog in BACKLOGS:
        row = _measured(backlog, folder, database)
        rows.append(row)
        kept = row.all_together < backlog.error and row.polls <= _MOST_POLLS
        print(
            f"| {row.title} | {row.wait_seconds:.0f} s | {row.in_burst:.1%} | {row.later:.1%} | {row.all_together:.1%} "
            f"| {row.polls} (most {row.most_polls}) | {'kept' if kept else f'missed: < {backlog.error:.0%}, <= 3'}",
            flush=True,
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / f"forecast-{database}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _measured(backlog: Backlog, folder: Path, database: str) -> Accuracy:
    scenario = backlog.scenario
    with running(folder / scenario.name, database, scenario.operations) as stack:
        work = Run(stack)
        answers = stack.submit_many(LANE, scenario.jobs)
        in_burst = [guess for answer in answers if (guess := _guess(answer))]
        later, polls = _watch(work, answers)
        await_end(work, longest_seconds=scenario.longest_seconds)
        starts = _starts(stack.database_url)
    return Accuracy(
        title=scenario.title,
        wait_seconds=max(starts[guess.job] - guess.asked_at for guess in in_burst),
        in_burst=_error(in_burst, starts),
        later=_error(later, starts),
        all_together=_error(in_burst[::_EVERY] + later, starts),
        polls=round(quantile(polls, 0.9)),
        most_polls=max(polls),
    )


def _watch(work: Run, answers: Sequence[Answer]) -> tuple[list[_Guess], list[int]]:
    """Polls until the last client has its result: what was forecast meanwhile, and how often each client asked."""
    obedient, observed = answers[::_EVERY], answers[_EVERY // 2 :: _EVERY]
    # (due, job, polls so far); None for those that are asked when we choose.
    due: list[tuple[float, str, int | None]] = [
        (answer.at + int(answer.headers["retry-after"]), str(answer.document["id"]), 0) for answer in obedient
    ]
    due += [(work.began + at, str(answer.document["id"]), None) for answer in observed for at in _LOOKS_AT]
    heapq.heapify(due)
    guesses: list[_Guess] = []
    polls: list[int] = []
    while due and due[0][0] < work.began + 120:
        at, job, before = heapq.heappop(due)
        time.sleep(max(0.0, at - time.time()))
        answer = work.stack.request("GET", f"/v1/jobs/{job}")
        if guess := _guess(answer):
            guesses.append(guess)
        if before is None:
            continue
        if answer.status == 202:
            heapq.heappush(due, (time.time() + int(answer.headers["retry-after"]), job, before + 1))
        else:
            polls.append(before + 1)
    return guesses, polls


def _guess(answer: Answer) -> _Guess | None:
    waiting = answer.document.get("waiting")
    if not waiting or not waiting["estimated_start"]:
        return None
    start = datetime.fromisoformat(waiting["estimated_start"]).timestamp()
    return _Guess(job=str(answer.document["id"]), asked_at=answer.at, start=start)


def _error(guesses: Sequence[_Guess], starts: dict[str, float]) -> float:
    errors = [
        abs(guess.start - starts[guess.job]) / (starts[guess.job] - guess.asked_at)
        for guess in guesses
        if starts[guess.job] > guess.asked_at
    ]
    return median(errors)


def _starts(url: str) -> dict[str, float]:
    database = Database(url)
    rows = database.fetch_all(
        select(jobs.c.id, type_coerce(jobs.c.started_at, BigInteger)).where(jobs.c.downstream == LANE)
    )
    database.close()
    return {job: started / 1e6 for job, started in rows}
