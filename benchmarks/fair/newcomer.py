"""A newcomer behind 10,000 jobs of another: how long until its call begins, and what it costs the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.fair.choices import Choice, in_order
from benchmarks.fair.gateway import operation, running
from benchmarks.fair.history import read_calls, read_choices
from benchmarks.pacing.arrivals import median, quantile
from benchmarks.pacing.promise import LATE_SECONDS
from benchmarks.verdict import Verdicts

_LANE, _LOUD, _RATE = "crowded", "loud", 50
_SLOT_SECONDS = (1 + LATE_SECONDS) / _RATE
_MOST_SECONDS = 0.12 + 2 * _SLOT_SECONDS
_LEAST_USED = 0.97
_OPERATIONS = f'[downstreams.{_LANE}]\nrate = "{_RATE}/s"\npartition = "header"\n{operation(_LANE)}'


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many jobs wait, and how many newcomers come, one after the other."""

    jobs: int
    newcomers: int


FULL = Scale(jobs=10_000, newcomers=40)
QUICK = Scale(jobs=2_000, newcomers=10)


def measure(verdicts: Verdicts, scale: Scale) -> None:
    """Each newcomer is a partition that was never seen before, with one job."""
    random = Random(7)  # noqa: S311 - to be repeated
    with running(verdicts.database, _OPERATIONS) as (stack, callers):
        stack.limit(_LANE, paused=True)
        callers.submit(_LANE, [_LOUD] * scale.jobs)
        stack.limit(_LANE, paused=False)
        time.sleep(2)
        began, submitted = time.time(), {}
        for number in range(scale.newcomers):
            time.sleep(random.uniform(0.3, 0.7))
            asked = time.time()
            submitted[callers.submit_one(_LANE, f"newcomer-{number}")] = asked
        ended = time.time()
        time.sleep(1)
        stack.limit(_LANE, paused=True)
        time.sleep(1)
        order = in_order(*read_choices(stack.database_url, _LANE))
        calls = read_calls(stack.log, _LANE, order.choices)
    waits = {
        call.arrival.job: call.arrival.at - submitted[call.arrival.job]
        for call in calls.calls
        if call.arrival.job in submitted
    }
    late = {job: seconds for job, seconds in waits.items() if seconds > _MOST_SECONDS}
    verdicts.add(
        f"{scale.newcomers} newcomers behind {scale.jobs} jobs of another: from submit to first byte",
        f"median {1e3 * median([*waits.values()]):.0f} ms, 90 % {1e3 * quantile([*waits.values()], 0.9):.0f}, "
        f"longest {1e3 * max(waits.values()):.0f}; {len(late)} above {1e3 * _MOST_SECONDS:.0f} ms",
        is_kept=not late and len(waits) == scale.newcomers,
    )
    verdicts.list("too late", [f"{1e3 * seconds:.0f} ms, {_told(order.choices, job)}" for job, seconds in late.items()])
    turns = [choice for choice in order.choices if choice.job in submitted]
    within = [call for call in calls.calls if began <= call.arrival.at < ended]
    used = len(within) / (_RATE * (ended - began))
    verdicts.add(
        "what the other lost",
        f"{len(turns)} turns for {scale.newcomers} jobs; {used:.1%} of the lane used meanwhile",
        is_kept=len(turns) == scale.newcomers and used >= _LEAST_USED,
    )


def _told(choices: Sequence[Choice], job: str) -> str:
    """Where a job's time went."""
    own = next(choice for choice in choices if choice.job == job)
    return f"released for a slot {1e3 * (own.slot - own.released):.0f} ms later, {own.outcome}"
