"""The embedded default with a range of workers: a slow rate, a step, a pause, a storm of 429 and a sine of load.

`python -m benchmarks.scale_default --help`. The supervisor obeys the wanted number by itself; this program submits,
asks GET /v1/scale and looks into run/ once a second, and judges the downstream's own log at the end.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.commands import downstream_arguments, python_process
from benchmarks.scale import OPERATIONS, most_in_a_second, reversals, text_of
from tests.support import postgresql
from tests.support import run as test_run
from tests.support.gateway import Gateway
from tests.support.processes import free_port

_OPERATIONS = (
    OPERATIONS
    + """[downstreams.storm]
concurrency = 90
[operations.storm]
url = "http://127.0.0.1:{port}/storm/1000"
timeout = "24h"
admission = false
[downstreams.sine]
rate = "80/s"
concurrency = 90
[operations.sine]
url = "http://127.0.0.1:{port}/sine/1000"
timeout = "24h"
admission = false
"""
)
# So many calls go well, which is some ten seconds of them, and then none.
_GO_WELL = 900
_MOST_AT_ONCE = 1000


@dataclass(frozen=True)
class Seen:
    """What was wanted and there at one look: workers that have places, and processes with a pid file."""

    at: float
    wanted: int
    workers: int
    processes: int


@dataclass
class Watched:
    """A gateway, and what its workers did since `began`."""

    gateway: Gateway
    began: float = 0.0
    seen: list[Seen] = field(default_factory=list)

    def begin(self, title: str) -> None:
        """Begins a part of the measurement."""
        print(f"\n{title}", flush=True)
        self.began, self.seen = time.monotonic(), []

    def look(self) -> Seen:
        """Looks once, and says it when something changed."""
        answer: dict[str, Any] = self.gateway.client.get("/v1/scale", timeout=30).json()["queues"].get("io", {})
        processes = len(list((self.gateway.data / "run").glob("io-*.pid")))
        seen = Seen(time.monotonic() - self.began, answer.get("wanted", 0), answer.get("workers", 0), processes)
        if not self.seen or (seen.wanted, seen.workers, seen.processes) != (
            self.seen[-1].wanted,
            self.seen[-1].workers,
            self.seen[-1].processes,
        ):
            print(
                f"{seen.at:6.1f} s  wanted {seen.wanted}, with places {seen.workers}, processes {seen.processes}: "
                f"{answer.get('because')}",
                flush=True,
            )
        self.seen.append(seen)
        return seen

    def look_for(self, seconds: float, meanwhile: Callable[[float], None] = lambda _: None) -> None:
        """Looks once a second for so long; `meanwhile` is called before with the seconds since `began`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            due = time.monotonic() + 1
            meanwhile(time.monotonic() - self.began)
            self.look()
            time.sleep(max(0.0, due - time.monotonic()))

    def first(self, condition: Callable[[Seen], bool]) -> float | None:
        """The instant of the first look of which this is so."""
        return next((seen.at for seen in self.seen if condition(seen)), None)

    def submit(self, operation: str, jobs: int) -> None:
        """Submits so many jobs, in bulk."""
        for submitted in range(0, jobs, _MOST_AT_ONCE):
            document: list[dict[str, Any]] = [{"input": {}}] * min(_MOST_AT_ONCE, jobs - submitted)
            path = f"/v1/operations/{operation}/jobs/bulk"
            self.gateway.client.post(path, json=document, timeout=60).raise_for_status()

    def limit(self, downstream: str, *, paused: bool) -> None:
        """An operator's change."""
        self.gateway.client.patch(f"/v1/downstreams/{downstream}", json={"paused": paused}).raise_for_status()


def main() -> None:
    """Measures once, and says what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_default", description=__doc__)
    parser.add_argument("--workers", default="1-6", help="TIDEGATE_IO_WORKERS (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=10_000, help="of the step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=100, help="of the step (default: %(default)s); 0: no step")
    parser.add_argument("--sine-seconds", type=float, default=600, help="(default: %(default)s); 0: no sine")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    print(f"in {folder}", flush=True)
    test_run.begin()
    try:
        with ExitStack() as stack:
            port, log = free_port(), folder / "arrivals.jsonl"
            settings = {"IO_WORKERS": arguments.workers, "IO_CONCURRENCY": "16", "SAMPLE_PORT": "0"}
            if arguments.database == "postgresql":
                settings["DATABASE_URL"] = stack.enter_context(postgresql.fresh_database())
            downstream = python_process(
                folder,
                "downstream",
                downstream_arguments(port, log, "--limit", f"storm={_GO_WELL}/1h"),
                dict[str, str](),
            )
            stack.callback(downstream.kill)
            downstream.start()
            downstream.wait_for_log("listening on")
            gateway = Gateway(folder, operations=_OPERATIONS.replace("{port}", str(port)), settings=settings)
            stack.callback(gateway.stop)
            gateway.start()
            watched = Watched(gateway)
            found = _steps(watched, arguments.jobs, arguments.seconds) if arguments.seconds else []
            found += [_sine(watched, arguments.sine_seconds)] if arguments.sine_seconds else []
        load = ", ".join(f"{each:.1f}" for each in psutil.getloadavg())
        print("", *found, _promises(log), f"load of the machine: {load}", sep="\n", flush=True)
    finally:
        test_run.end()


def _steps(watched: Watched, jobs: int, seconds: float) -> list[str]:
    found = []
    watched.submit("slow", jobs)
    watched.begin("2/s")
    watched.look_for(15)
    found.append(f"2/s with {jobs} waiting wanted {sorted({seen.wanted for seen in watched.seen})} worker(s)")

    watched.limit("wide", paused=True)
    watched.submit("wide", jobs)
    watched.begin("the step")
    watched.limit("wide", paused=False)
    watched.look_for(seconds)
    found.append(
        f"the step of {jobs}: 6 wanted after {text_of(watched.first(lambda seen: seen.wanted >= 6))}, there after "
        f"{text_of(watched.first(lambda seen: seen.workers >= 6))}, "
        f"{reversals([seen.wanted for seen in watched.seen])} reversal(s), "
        f"at the most {max(seen.wanted for seen in watched.seen)}"
    )

    watched.begin("the pause")
    watched.limit("wide", paused=True)
    watched.look_for(75)
    found.append(f"the pause: {_fewer(watched)}")

    watched.begin("the storm")
    watched.submit("storm", 5000)
    watched.look_for(95)
    found.append(f"the storm, which begins when {_GO_WELL} calls went well: {_fewer(watched, after=5)}")
    watched.limit("storm", paused=True)
    watched.limit("slow", paused=True)
    return found


def _sine(watched: Watched, seconds: float) -> str:
    owed = 0.0

    def wave(at: float) -> None:
        nonlocal owed
        owed += 40 - 30 * math.cos(2 * math.pi * at / (seconds / 2))
        watched.submit("sine", int(owed))
        owed -= int(owed)

    watched.begin(f"the sine, between 10 and 70 calls a second, twice within {seconds:.0f} s")
    watched.look_for(seconds, wave)
    numbers = [seen.wanted for seen in watched.seen]
    return f"the sine: {reversals(numbers)} reversal(s), between {min(numbers[10:])} and {max(numbers)} workers"


def _fewer(watched: Watched, *, after: float = 0) -> str:
    wanted = max(seen.wanted for seen in watched.seen)
    fewer = watched.first(lambda seen: seen.at > after and seen.wanted < wanted)
    gone = watched.first(lambda seen: seen.at > after and seen.processes <= 1)
    return f"{wanted} wanted, fewer after {text_of(fewer)}, one process left after {text_of(gone)}"


def _promises(log: Path) -> str:
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    lines = []
    for lane in sorted({call["lane"] for call in calls}):
        own = [call for call in calls if call["lane"] == lane]
        again = len(own) - len({call["job"] for call in own if call["status"] == 200})
        lines.append(
            f"{lane}: {len(own)} calls, never more than {max(call['open'] for call in own)} open, never more than "
            f"{most_in_a_second([call['at'] for call in own])} begun in a second, {again} not the only one of its job"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
