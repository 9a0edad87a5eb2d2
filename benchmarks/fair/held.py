"""What partitions at their limits cost the others, and a partition that was never seen before its first job."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.fair.gateway import Callers, operation, running
from benchmarks.lanes.figures import in_turns
from benchmarks.pacing.arrivals import read_log
from benchmarks.pacing.stack import Stack
from benchmarks.verdict import Verdicts
from tests.support.waiting import wait_until

_MOST_OF_HELD, _MOST_OF_FIRST = 1.05, 1.10
_RATE, _HOG_RATE = 200, 2
_OTHERS, _PER_SECOND = 40, 40


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many interleaved pairs, seconds of load and single jobs in each, and partitions that are held."""

    pairs: int
    seconds: float
    jobs: int
    held: int


FULL = Scale(pairs=15, seconds=3, jobs=10, held=1_000)
QUICK = Scale(pairs=3, seconds=1, jobs=3, held=100)


def _lane(name: str, partition: str, more: str = "") -> str:
    return f'[downstreams.{name}]\nrate = "{_RATE}/s"\npartition = "{partition}"\n{more}\n{operation(name)}\n'


def measure_held(verdicts: Verdicts, scale: Scale) -> None:
    """The others' wait beside one partition at 2/s, and beside many at a call an hour, with theirs alone."""
    hog = f'[downstreams.beside-one.partitions.hog]\nrate = "{_HOG_RATE}/s"\nconcurrency = 1'
    hogs = [f"hog-{number}" for number in range(scale.held)]
    many = "\n".join(f'[downstreams.beside-many.partitions.{name}]\nrate = "1/h"' for name in hogs)
    lanes = (
        _lane("alone", "header"),
        _lane("beside-one", "header", hog),
        _lane("beside-many", "header", f"max_partitions = {2 * scale.held + 100}\n{many}"),
    )
    with running(verdicts.database, "".join(lanes)) as (stack, callers):
        waits = Waits(stack, callers)
        seconds = scale.pairs * (scale.seconds + 1)
        callers.submit("beside-one", ["hog"] * int(2 * _HOG_RATE * seconds + 100))
        stack.limit("beside-one", paused=True)
        callers.submit("beside-many", hogs * 2)
        wait_until(
            lambda: stack.request("GET", "/v1/downstreams/beside-many").document["released"] >= scale.held,
            description="each that will be held was released once",
            timeout_seconds=120,
        )
        stack.limit("beside-many", paused=True)
        for lane, what in (("beside-one", "one at its 2/s"), ("beside-many", f"{scale.held} held for an hour")):
            alone, beside = in_turns(
                partial(waits.of_others, "alone", scale.seconds),
                partial(waits.of_others, lane, scale.seconds, is_paused=True),
                scale.pairs,
            )
            ratio = median(one / other for one, other in zip(beside, alone, strict=True))
            verdicts.add(
                f"wait of {_OTHERS} partitions with {_PER_SECOND} jobs a second beside {what}",
                f"{1e3 * median(beside):.1f} ms, alone {1e3 * median(alone):.1f} ms, {ratio:.3f} times "
                f"({scale.pairs} pairs)",
                is_kept=ratio <= _MOST_OF_HELD,
            )


def measure_first(verdicts: Verdicts, scale: Scale) -> None:
    """The first job of a partition that was never seen before, on an idle lane, and a job of one without partitions."""
    with running(verdicts.database, _lane("plain", "none") + _lane("shared", "header")) as (stack, callers):
        waits = Waits(stack, callers)
        names = (f"new-{number}" for number in itertools.count())
        plain, shared = in_turns(
            lambda: waits.of_single("plain", lambda: None, scale.jobs),
            lambda: waits.of_single("shared", lambda: next(names), scale.jobs),
            scale.pairs,
        )
    ratio = median(one / other for one, other in zip(shared, plain, strict=True))
    verdicts.add(
        "from submit to first byte, the first job of a new partition on an idle lane",
        f"{1e3 * median(shared):.1f} ms, without partitions {1e3 * median(plain):.1f} ms, {ratio:.3f} times "
        f"({scale.pairs} pairs)",
        is_kept=ratio <= _MOST_OF_FIRST,
    )


class Waits:
    """Submits jobs and finds out, by the downstream's log, how long each waited for its call."""

    def __init__(self, stack: Stack, callers: Callers) -> None:
        self._stack = stack
        self._callers = callers

    def of_others(self, lane: str, seconds: float, *, is_paused: bool = False) -> float:
        """The median wait of jobs that come one by one, each of the next partition. `is_paused`: but for this time."""
        if is_paused:
            self._stack.limit(lane, paused=False)
            time.sleep(0.5)
        submitted = {}
        began = time.time()
        for number in range(int(_PER_SECOND * seconds)):
            time.sleep(max(0.0, began + number / _PER_SECOND - time.time()))
            asked = time.time()
            submitted[self._callers.submit_one(lane, f"other-{number % _OTHERS}")] = asked
        waits = self._until_called(lane, submitted)
        if is_paused:
            self._stack.limit(lane, paused=True)
        return median(waits)

    def of_single(self, lane: str, name: Callable[[], str | None], jobs: int) -> float:
        """The median wait of jobs of which each comes when the one before is done."""
        submitted = {}
        for _ in range(jobs):
            asked = time.time()
            job = self._callers.submit_one(lane, name())
            submitted[job] = asked
            wait_until(partial(self._is_done, job), description="it is done")
        return median(self._until_called(lane, submitted))

    def _is_done(self, job: str) -> bool:
        return self._stack.request("GET", f"/v1/jobs/{job}").status == 200

    def _until_called(self, lane: str, submitted: Mapping[str, float]) -> list[float]:
        found: dict[str, float] = {}

        def are_called() -> bool:
            found.update({call.job: call.at for call in read_log(self._stack.log, lane)})
            return submitted.keys() <= found.keys()

        wait_until(are_called, description="each has had its call", timeout_seconds=60)
        return [found[job] - asked for job, asked in submitted.items()]
