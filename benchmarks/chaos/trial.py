"""One trial: load, faults, healing, and the books at the end."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.chaos.books import Books
from benchmarks.chaos.checks import Violations, await_living, await_nothing_left, open_jobs
from benchmarks.chaos.faults import Hand, Kind, Struck, await_whole, plan
from benchmarks.chaos.load import Accepted, Load
from benchmarks.chaos.stack import DATABASE, LEASE_SECONDS, SCHEDULERS, WEB, WORKERS, running
from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database

_HEALED_WITHIN_SECONDS = 120
_NONE_ACCEPTED_SECONDS = 120
# A call whose process died keeps its place for its attempt timeout and 2 s.
_FREED_WITHIN_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trial found; `violations` by promise, all empty when all was kept."""

    seed: int
    database: str
    seconds: float
    healed_after: float  # from the last fault's end until every job was final
    submits: dict[str, Any]
    polls: dict[str, int]
    faults: dict[str, int]
    struck: list[tuple[str, str, str]]
    figures: dict[str, Any]
    stories: dict[str, list[str]]
    violations: Violations

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.violations.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, to be kept."""
        return asdict(self)


def run(
    folder: Path,
    *,
    seed: int,
    jobs: int,
    faults: int,
    database: str,
    gap_seconds: float = 5.0,
    only: Sequence[Kind] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """At least so many jobs under so many faults, `gap_seconds` between two on average, `only` of these kinds."""
    random = Random(seed)  # noqa: S311 - to be repeated
    with running(folder, database) as stack:
        hand = Hand(stack, plan(random, faults, database=database, gap_seconds=gap_seconds, only=only))
        # A quarter more than is wanted: while the door is shut nothing is accepted.
        load = Load(stack.port, seed, per_second=1.25 * jobs / (faults * gap_seconds))
        began = time.time()
        load.start()
        hand.run(lambda: False)
        say(f"{len(hand.struck)} faults, {len(load.accepted)} jobs accepted")
        await_accepted(load, jobs)
        load.stop()
        hand.look()
        await_whole(stack)
        healed_at = time.time()
        opened = Database(stack.database_url)
        try:
            await_end(opened)
            took = time.time() - healed_at
            say(f"{open_jobs(opened)} jobs are open after {took:.1f} s")
            running_now = {"workers": len(WORKERS), "stewards": len(SCHEDULERS)}
            ghosts = await_living(opened, running_now, timeout_seconds=2 * LEASE_SECONDS + 5)
            books = Books(opened, stack, load, hand.struck)  # before the end, which hands back what was left behind
            left = stack.stop()
            return Report(
                seed=seed,
                database=database,
                seconds=time.time() - began,
                healed_after=took,
                submits=_submits(load, hand.struck),
                polls=dict(load.polls),
                faults=dict(Counter(str(fault.kind) for _, _, fault in hand.struck)),
                struck=[(_told(begin), _told(end), str(fault)) for begin, end, fault in hand.struck],
                figures=books.figures(),
                stories=books.stories(),
                violations={
                    **books.violations(),
                    "nothing dies by itself": hand.unexplained,
                    "only the living count": ghosts,
                    "SIGTERM ends everything and leaves nothing": left,
                },
            )
        finally:
            opened.close()


def await_accepted(load: Load, jobs: int) -> None:
    """Waits until so many jobs were accepted, however slow the machine; AssertionError when none was for long."""
    while len(load.accepted) < jobs:
        _await_another(load)


def _await_another(load: Load) -> None:
    had = len(load.accepted)
    wait_until(
        lambda: len(load.accepted) > had,
        description=f"more than {had} jobs are accepted",
        timeout_seconds=_NONE_ACCEPTED_SECONDS,
    )


def await_end(database: Database) -> None:
    """Waits until everything is over, no longer than it may take: what is left, the books will name."""

    def is_over() -> bool:
        try:
            return open_jobs(database) == 0
        except UNREACHABLE:
            return False

    with suppress(AssertionError):
        wait_until(is_over, description="every job is final", timeout_seconds=_HEALED_WITHIN_SECONDS)
    await_nothing_left(database, timeout_seconds=_FREED_WITHIN_SECONDS)


def _told(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S.%f}"[:-3]


def _submits(load: Load, struck: Sequence[Struck]) -> dict[str, Any]:
    """Times to the 202; `undisturbed`: while web server and database were whole, whatever else was broken."""
    closed = [(begin, end) for begin, end, fault in struck if fault.hurts & {WEB, DATABASE}]

    def is_disturbed(job: Accepted) -> bool:
        return any(begin <= job.submitted_at + job.seconds and job.submitted_at <= end + 1 for begin, end in closed)

    everything = sorted(job.seconds for job in load.accepted)
    undisturbed = sorted(job.seconds for job in load.accepted if not is_disturbed(job))
    return {
        "accepted": len(everything),
        "refused": dict(load.refused),
        "milliseconds": _quantiles(everything),
        "undisturbed": len(undisturbed),
        "undisturbed milliseconds": _quantiles(undisturbed),
    }


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    at = {"median": 0.5, "p99": 0.99, "worst": 1.0}
    return {name: round(1000 * seconds[math.ceil(share * len(seconds)) - 1], 1) for name, share in at.items()}
