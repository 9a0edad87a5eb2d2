"""Memory of web, scheduler and workers after few and after many jobs. `python -m benchmarks.memory --help`.

What is compared is the resident memory of each process, children added to their worker, a moment after the last job
has ended. Small jobs, HTTP and Python, io and cpu, submitted and polled over connections that stay open.
"""

import argparse
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

import psutil

from benchmarks.chaos.checks import open_jobs
from benchmarks.chaos.load import Caller
from benchmarks.chaos.stack import Stack, running
from tests.support import run as test_run
from tests.support.waiting import wait_until
from tidegate.database.connection import Database

_CALLERS = 4
# Submits wait while this many jobs are open: what a deep backlog costs is another question.
_MOST_OPEN = 400
_PROCESSES = ("web", "scheduler-1", "scheduler-2", "io-1", "io-2", "io-3", "cpu-1")
_OPERATIONS = ("free", "free", "free", "steps", "compute")
_BODIES = {"free": {"n": 1}, "steps": {"count": 1}, "compute": {"milliseconds": 1}}
_MOST_GROWTH = 0.2


def main() -> int:
    """0 when nothing grew by more than a fifth."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--jobs", type=int, nargs=2, default=(1_000, 50_000), metavar=("FEW", "MANY"))
    arguments = parser.parse_args()
    few, many = arguments.jobs
    folder = Path(tempfile.mkdtemp(prefix="tidegate-memory-"))
    test_run.begin()
    try:
        with running(folder / "stack", arguments.database) as stack:
            began = time.monotonic()
            put_through(stack, few)
            before = resident(stack)
            print(f"{few} jobs after {time.monotonic() - began:.0f} s", flush=True)
            put_through(stack, many - few)
            after = resident(stack)
            print(f"{many} jobs after {time.monotonic() - began:.0f} s\n", flush=True)
    finally:
        test_run.end()
    print(f"| {arguments.database} | MB after {few} | MB after {many} | growth |\n|---|---|---|---|")
    for name, was in before.items():
        print(f"| {name} | {was:.1f} | {after[name]:.1f} | {after[name] / was - 1:+.1%} |")
    return int(any(after[name] > was * (1 + _MOST_GROWTH) for name, was in before.items()))


def put_through(stack: Stack, jobs: int) -> None:
    """Submits so many jobs and waits until all have ended; one in ten is polled once."""
    database = Database(stack.database_url)
    numbers, go_on = count(), threading.Event()
    go_on.set()
    wrong: list[str] = []

    def call() -> None:
        caller = Caller(stack.port)
        while (number := next(numbers)) < jobs and not wrong:
            go_on.wait()
            operation = _OPERATIONS[number % len(_OPERATIONS)]
            answer = caller.ask("POST", f"/v1/operations/{operation}/jobs", _BODIES[operation])
            if answer.status != 202:
                wrong.append(answer.why)
            elif number % 10 == 0:
                caller.ask("GET", f"/v1/jobs/{answer.document['id']}")
        caller.close()

    callers = [threading.Thread(target=call) for _ in range(_CALLERS)]
    for thread in callers:
        thread.start()
    while any(thread.is_alive() for thread in callers):
        time.sleep(0.2)
        (go_on.clear if open_jobs(database) > _MOST_OPEN else go_on.set)()
    if wrong:
        raise RuntimeError(f"a submit was answered {wrong[0]}")
    wait_until(lambda: open_jobs(database) == 0, description="every job has ended", timeout_seconds=600)
    database.close()
    time.sleep(2)


def resident(stack: Stack) -> dict[str, float]:
    """Megabytes by process. Children count with their parent: for what they share, once each."""

    def megabytes(pid: int) -> float:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return float(sum(each.memory_info().rss for each in family)) / 1024**2

    return {name: megabytes(stack.members[name].process.pid) for name in _PROCESSES}


if __name__ == "__main__":
    sys.exit(main())
