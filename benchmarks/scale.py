"""Workers that obey the wanted number: a step of jobs of a second beside a slow rate with a long backlog, then a pause.

`python -m benchmarks.scale --help`. Everything is real; this program stands for an orchestrator: it asks
GET /v1/scale once a second, starts what is missing and stops what is too much, within a range.
"""

import argparse
import json
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.commands import python_process, worker_arguments
from benchmarks.pacing.stack import Shape, Stack
from tests.support import postgresql, sqlite
from tests.support import run as test_run
from tests.support.processes import ChildProcess

OPERATIONS = """
[downstreams.wide]
concurrency = 90
[operations.wide]
url = "http://127.0.0.1:{port}/wide/1000"
timeout = "24h"
admission = false
[downstreams.slow]
rate = "2/s"
[operations.slow]
url = "http://127.0.0.1:{port}/slow/100"
timeout = "24h"
admission = false
"""
_THREADS = 16
_MOST_AT_ONCE = 1000


@dataclass
class Orchestrator:
    """Starts and stops workers as GET /v1/scale says, once a second, and notes what it saw since `began`."""

    stack: Stack
    least: int
    most: int
    began: float = 0.0
    seen: list[tuple[float, int, int]] = field(default_factory=list)
    more: list[ChildProcess] = field(default_factory=list)

    def turn(self) -> int:
        """Asks once and obeys; returns the number that is wanted."""
        queue: dict[str, Any] = self.stack.request("GET", "/v1/scale").document["queues"]["io"]
        self.seen.append((time.monotonic() - self.began, queue["wanted"], queue["workers"]))
        print(f"{self.seen[-1][0]:6.1f} s  wanted {queue['wanted']}, there {queue['workers']}: {queue['because']}")
        number = min(self.most, max(self.least, queue["wanted"])) - 1
        while len(self.more) < number:
            name = f"io-more-{len(self.seen)}-{len(self.more)}"
            arguments = worker_arguments("tasks.app", name, "io", size=_THREADS)
            self.more.append(python_process(self.stack.folder, name, arguments, self.stack.environment))
            self.more[-1].start()
        while len(self.more) > number:
            threading.Thread(target=self.more.pop().stop, kwargs={"timeout_seconds": 30}).start()
        return int(queue["wanted"])

    def turns(self, seconds: float) -> None:
        """Obeys for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()
            time.sleep(1)

    def first(self, *, wanted: int = 0, there: int = 0) -> float | None:
        """When so many were wanted, or there, for the first time; None: never."""
        return next((at for at, asked, live in self.seen if asked >= wanted and live >= there), None)


def main() -> None:
    """Measures once, and says what was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="of the step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=150, help="of the step (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    test_run.begin()
    try:
        with ExitStack() as stack:
            if arguments.database == "postgresql":
                url = stack.enter_context(postgresql.fresh_database())
            else:
                url = sqlite.fresh_database(folder)
            made = Stack(folder / "stack", url, OPERATIONS, Shape(workers=1, threads=_THREADS))
            stack.callback(made.stop)
            made.start()
            _measure(made, arguments.jobs, arguments.seconds)
    finally:
        test_run.end()


def _measure(stack: Stack, jobs: int, seconds: float) -> None:
    orchestrator = Orchestrator(stack, least=1, most=10)
    try:
        _submit(stack, "slow", jobs)
        orchestrator.began = time.monotonic()
        orchestrator.turns(15)
        alone = {wanted for _, wanted, _ in orchestrator.seen}
        stack.limit("wide", paused=True)
        _submit(stack, "wide", jobs)
        stack.limit("wide", paused=False)
        orchestrator.began, orchestrator.seen = time.monotonic(), []
        orchestrator.turns(seconds)
        numbers = [wanted for _, wanted, _ in orchestrator.seen]
        right, reached = orchestrator.first(wanted=6), orchestrator.first(there=6)
        stack.limit("wide", paused=True)
        paused = time.monotonic() - orchestrator.began
        orchestrator.turns(75)
        fewer = next((at - paused for at, wanted, _ in orchestrator.seen if at > paused and wanted < 6), None)
    finally:
        for process in orchestrator.more:
            process.kill()
    calls = [json.loads(line) for line in stack.log.read_text().splitlines()]
    print(
        f"\n2/s with {jobs} waiting asked for {sorted(alone)} worker(s)"
        f"\nthe step: 6 wanted after {text_of(right)}, there after {text_of(reached)},"
        f" {reversals(numbers)} reversal(s), at the most {max(numbers)}"
        f"\nthe pause: fewer wanted after {text_of(fewer)}"
        f"\nnever more open than {max(each['open'] for each in calls if each['lane'] == 'wide')} of 90,"
        f" and of 2/s {most_in_a_second([each['at'] for each in calls if each['lane'] == 'slow'])} in any second"
    )


def _submit(stack: Stack, operation: str, jobs: int) -> None:
    for _ in range(0, jobs, _MOST_AT_ONCE):
        document: list[dict[str, Any]] = [{"input": {}}] * min(_MOST_AT_ONCE, jobs)
        answer = stack.request("POST", f"/v1/operations/{operation}/jobs/bulk", document)
        if answer.status >= 400:
            raise RuntimeError(f"the bulk submit was answered {answer.status}: {answer.document}")


def reversals(numbers: Sequence[int]) -> int:
    """How often numbers that rose fell, or the other way round."""
    steps = [after > before for before, after in pairwise(numbers) if before != after]
    return sum(one != other for one, other in pairwise(steps))


def most_in_a_second(instants: Sequence[float]) -> int:
    """The largest number of them within any second."""
    rising = sorted(instants)
    return max(bisect_left(rising, at + 1) - number for number, at in enumerate(rising))


def text_of(seconds: float | None) -> str:
    """Seconds in words; None: never."""
    return "never" if seconds is None else f"{seconds:.1f} s"


if __name__ == "__main__":
    main()
