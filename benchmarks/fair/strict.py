"""Strict order: each partition's calls in the order of submit, one at a time, with retries and processes killed."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from random import Random

from benchmarks.fair.gateway import kill_scheduler, kill_worker, operation, running
from benchmarks.fair.history import by_partition, read_jobs
from benchmarks.pacing.arrivals import Arrival, doubles, read_log
from benchmarks.pacing.figures import await_end
from benchmarks.pacing.scenarios import Run
from benchmarks.verdict import Verdicts
from tidegate.operations.sharing import named_by

_LANE, _RATE, _UNWELL = "strict", 50, 0.1
_OPERATIONS = (
    f'[downstreams.{_LANE}]\nrate = "{_RATE}/s"\npartition = "header"\neach = {{ order = "strict" }}\n'
    + operation(_LANE, call_ms="20-60", more='retry = { attempts = 20, delay = "200ms" }')
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many partitions, and jobs of each."""

    partitions: int
    jobs: int


FULL = Scale(partitions=50, jobs=20)
QUICK = Scale(partitions=20, jobs=15)


def measure(verdicts: Verdicts, scale: Scale) -> None:
    """A tenth of the calls is answered 500, and tried again; a worker and the scheduler are killed -9."""
    names = [f"p{number}" for number in range(scale.partitions) for _ in range(scale.jobs)]
    Random(7).shuffle(names)  # noqa: S311 - to be repeated
    with running(verdicts.database, _OPERATIONS, strictness=("--unwell", f"{_LANE}={_UNWELL}")) as (stack, callers):
        stack.limit(_LANE, paused=True)
        submitted: defaultdict[str, list[str]] = defaultdict(list)
        for name, job in zip(names, callers.submit(_LANE, names), strict=True):
            submitted[name].append(job)
        run = Run(stack)
        stack.limit(_LANE, paused=False)
        for seconds in (2, 8):
            kill_worker(run, seconds)
            kill_scheduler(run, seconds + 3)
        await_end(run, longest_seconds=240)
        took = time.time() - run.began
        time.sleep(1)
        jobs = read_jobs(stack.database_url, _LANE)
        calls = read_log(stack.log, _LANE)
    of_each = by_partition(calls, {job: named_by(partition)[1] for job, (partition, _) in jobs.items()})
    unwell = sum(call.status == 500 for call in calls)
    verdicts.add(
        f"{len(names)} jobs of {scale.partitions} partitions",
        f"{len(calls)} calls in {took:.0f} s, {unwell} answered 500, {doubles(calls)} were not the first of their job",
    )
    wrong = [fault for name, own in submitted.items() for fault in out_of_order(name, own, of_each.get(name, []))]
    verdicts.add("each partition's calls in the order of submit", f"{len(wrong)} out of order", is_kept=not wrong)
    verdicts.list("out of order", wrong)
    together = [fault for name, own in of_each.items() for fault in at_once(name, own)]
    verdicts.add("one at a time", f"{len(together)} began while another was open", is_kept=not together)
    verdicts.list("at once", together)


def out_of_order(name: str, submitted: Sequence[str], calls: Sequence[Arrival]) -> list[str]:
    """Where the calls of a partition, repeats of a job left out, are not its jobs in the order of submit."""
    called = [job for job, _ in groupby(call.job for call in calls)]
    if called == list(submitted):
        return []
    missing = [job for job in submitted if job not in called]
    place = {job: number for number, job in enumerate(submitted)}
    wrong = [
        f"{name}: job {place[one]} before job {place[other]}"
        for one, other in pairwise(called)
        if place[other] != place[one] + 1 and not set(submitted[place[one] + 1 : place[other]]) & set(missing)
    ]
    return [*wrong, *(f"{name}: job {place[job]} was never called" for job in missing)]


def at_once(name: str, calls: Sequence[Arrival]) -> list[str]:
    """Calls of a partition that began before the one before had ended."""
    return [
        f"{name}: {second.job} {1e3 * (first.until - second.at):.1f} ms before the end of {first.job}"
        for first, second in pairwise(calls)
        if second.at < first.until
    ]
