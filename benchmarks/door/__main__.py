"""Times submits while all is well and while something is broken, in turns. `python -m benchmarks.door --help`.

Callers submit at a steady pace over connections that stay open. Each situation is measured several times, each time
right after one in which all was well: what matters is the ratio, for machines and their other load differ.
"""

import argparse
import math
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.chaos.load import Caller
from benchmarks.chaos.stack import Stack, running
from tests.support import run as test_run
from tests.support.waiting import wait_until

_CALLERS = 4
_WELL = "all is well"
_WORKERS = ("io-1", "io-2", "io-3", "cpu-1")


def _kill_workers(stack: Stack) -> None:
    for name in _WORKERS:
        stack.members[name].process.kill()


def _start_workers(stack: Stack) -> None:
    for name in _WORKERS:
        stack.members[name].start()
    for name in _WORKERS:
        stack.members[name].process.wait_for_log("ready.", timeout_seconds=60)


SITUATIONS: dict[str, tuple[Callable[[Stack], None], Callable[[Stack], None]]] = {
    "Valkey refuses": (lambda stack: stack.broker.kill(), lambda stack: stack.broker.start()),
    "Valkey is frozen": (lambda stack: stack.broker.freeze(), lambda stack: stack.broker.thaw()),
    "every worker is dead": (_kill_workers, _start_workers),
}


def main() -> None:
    """Prints a table of milliseconds and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.door", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--per-second", type=float, default=40.0, help="submits (default: %(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-door-"))
    seconds: dict[str, list[float]] = defaultdict(list)
    normal: dict[str, list[float]] = defaultdict(list)
    test_run.begin()
    try:
        with running(folder / "stack", arguments.database) as stack:

            def measure() -> list[float]:
                return submit_steadily(stack.port, seconds=arguments.seconds, per_second=arguments.per_second)

            measure()  # connections and caches are made
            for _ in range(arguments.rounds):
                for name, (break_it, mend) in SITUATIONS.items():
                    _await_quiet(stack)
                    normal[name] += measure()
                    break_it(stack)
                    time.sleep(1)
                    seconds[name] += measure()
                    mend(stack)
    finally:
        test_run.end()
    print(f"{arguments.database}, milliseconds from request to 202\n")
    print("| | submits | median | p99 | worst | p99 to that of the moments before |\n|---|---|---|---|---|---|")
    everything = [each for times in normal.values() for each in times]
    print(f"| {_WELL} | {_figures(everything)} | 1 |")
    for name, times in seconds.items():
        print(f"| {name} | {_figures(times)} | {_quantile(times, 0.99) / _quantile(normal[name], 0.99):.2f} |")


def submit_steadily(port: int, *, seconds: float, per_second: float) -> list[float]:
    """The seconds that each submit took; raises RuntimeError at anything but 202."""
    taken: list[float] = []
    wrong: list[str] = []
    until = time.monotonic() + seconds

    def call() -> None:
        caller = Caller(port)
        due = time.monotonic()
        while due < until:
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.perf_counter()
            answer = caller.ask("POST", "/v1/operations/free/jobs", {})
            taken.append(time.perf_counter() - began)
            if answer.status != 202:
                wrong.append(answer.why)
            due += _CALLERS / per_second
        caller.close()

    callers = [threading.Thread(target=call) for _ in range(_CALLERS)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    if wrong:
        raise RuntimeError(f"{len(wrong)} submits were not accepted: {wrong[:5]}")
    return taken


def _await_quiet(stack: Stack) -> None:
    """Waits until what was held up has run: a lane that catches up is a load of its own."""

    def is_quiet() -> bool:
        caller = Caller(stack.port)
        answer = caller.ask("POST", "/v1/operations/free/jobs", {})
        time.sleep(0.5)
        state = caller.ask("GET", f"/v1/jobs/{answer.document['id']}").state
        caller.close()
        return state == "succeeded"

    wait_until(is_quiet, description="the backlog is gone", timeout_seconds=120)


def _figures(seconds: Sequence[float]) -> str:
    shares = (0.5, 0.99, 1.0)
    return " | ".join([str(len(seconds)), *(f"{1000 * _quantile(seconds, share):.1f}" for share in shares)])


def _quantile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[math.ceil(share * len(seconds)) - 1]


if __name__ == "__main__":
    main()
