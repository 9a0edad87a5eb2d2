"""10,000 partitions with limits of their own beneath a common rate, by Zipf's law: are both kept, by arrivals?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from benchmarks.fair.choices import Choice
from benchmarks.fair.gateway import kill_scheduler, kill_worker, operation, running
from benchmarks.fair.history import by_partition, read_choices, read_jobs
from benchmarks.pacing.arrivals import Arrival, most_within, read_log
from benchmarks.pacing.promise import Given, Slots, broken
from benchmarks.pacing.scenarios import Run
from benchmarks.pacing.stack import Shape
from benchmarks.verdict import Verdicts

_LANE, _RATE, _OWN_RATE, _OWN_OPEN = "crowd", 200, 2, 1
_CALL_MS = "20-100"
_WORKERS = 4  # twelve calls are open on average, and one worker is killed


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many partitions and jobs, and for how long they go."""

    partitions: int
    jobs: int
    seconds: float


FULL = Scale(partitions=10_000, jobs=30_000, seconds=60)
QUICK = Scale(partitions=500, jobs=3_000, seconds=15)


def zipf(scale: Scale) -> list[str]:
    """A partition for each job, in a drawn order: the k-th has a share of 1/k, and each has one at least."""
    shares = [1 / rank for rank in range(1, scale.partitions + 1)]
    drawn = max(0, scale.jobs - scale.partitions) / sum(shares)
    names = [f"p{rank}" for rank, share in enumerate(shares) for _ in range(1 + round(drawn * share))]
    Random(7).shuffle(names)  # noqa: S311 - to be repeated
    return names


def measure(verdicts: Verdicts, scale: Scale) -> None:
    """Lets the backlog go for a while, with a worker and the scheduler killed -9."""
    operations = (
        f'[downstreams.{_LANE}]\nrate = "{_RATE}/s"\npartition = "header"\nmax_partitions = {scale.partitions + 1}\n'
        f'each = {{ rate = "{_OWN_RATE}/s", concurrency = {_OWN_OPEN} }}\n{operation(_LANE, call_ms=_CALL_MS)}'
    )
    names = zipf(scale)
    with running(verdicts.database, operations, shape=Shape(workers=_WORKERS)) as (stack, callers):
        stack.limit(_LANE, paused=True)
        callers.submit(_LANE, names)
        run = Run(stack)
        stack.limit(_LANE, paused=False)
        kill_worker(run, scale.seconds / 4)
        kill_scheduler(run, scale.seconds / 2)
        run.sleep_until(scale.seconds)
        stack.limit(_LANE, paused=True)
        time.sleep(2)
        choices, _ = read_choices(stack.database_url, _LANE)
        jobs = read_jobs(stack.database_url, _LANE)
        calls = read_log(stack.log, _LANE)
    away = sum(end - begin for begin, end in run.outages)
    until = run.began + scale.seconds
    made = sum(run.began <= call.at < until for call in calls)
    verdicts.add(
        f"{scale.partitions} partitions, {len(names)} jobs",
        f"{made} calls in {scale.seconds - away:.0f} s with a scheduler, "
        f"{made / (_RATE * (scale.seconds - away)):.1%} of {_RATE}/s",
    )
    _judge(verdicts, calls, choices, {job: partition for job, (partition, _) in jobs.items()}, run.began)


def _judge(
    verdicts: Verdicts,
    calls: Sequence[Arrival],
    choices: Sequence[Choice],
    partition_of: Mapping[str, str],
    began: float,
) -> None:
    slots = Slots(Given(job=each.job, released=each.released, slot=each.slot) for each in choices)
    beyond = broken(calls, slots, seconds=1, allowed=lambda _: _RATE, began=began)
    most = most_within(1, [call.at for call in calls])
    verdicts.add("the common rate", f"at the most {most} in any second, of {_RATE}", is_kept=not beyond)
    verdicts.list("windows beyond the common rate", beyond)
    of_each = by_partition(calls, partition_of)
    if not of_each:
        verdicts.add("the rate of each", "no call was made", is_kept=False)
        return
    beyond = [
        f"{name}: {each}"
        for name, own in of_each.items()
        for each in broken(own, slots, seconds=1, allowed=lambda _: _OWN_RATE, began=began)
    ]
    most = max(most_within(1, [call.at for call in own]) for own in of_each.values())
    verdicts.add(
        "the rate of each", f"at the most {most} in any second, of {_OWN_RATE}; {len(of_each)} had calls", not beyond
    )
    verdicts.list("windows beyond a partition's rate", beyond)
    together = [
        f"{name}: {second.job} began {1e3 * (first.until - second.at):.1f} ms before {first.job} had ended"
        for name, own in of_each.items()
        for first, second in pairwise(own)
        if second.at < first.until
    ]
    verdicts.add("open calls of each", f"{len(together)} began while another was open", is_kept=not together)
    verdicts.list("open together", together)
