"""The whole stack of each tree, as `make run` starts it: what its processes spend on submits, polls, a drain and round
trips. Both run all the time, and the one that is not measured waits."""

import http.client
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.price.in_process import Spent
from benchmarks.price.servers import PriceServer, Sent
from benchmarks.price.trees import Tree
from tests.support.processes import ChildProcess, free_port
from tests.support.waiting import wait_until

_JOBS = "/v1/operations/nothing/jobs"
_LANE = "/v1/downstreams/nothing"
_ONE_NAME = {"steward": "scheduler"}  # one word, one thing: as it was called before
_LONG_SECONDS = 120
_LONGEST_REST_SECONDS = 5.0  # the server lets go of a connection that has rested for ten
_ROUND_TRIPS = 4  # a job through an idle system costs about so many that are drained


class TreeStack:
    """The processes of one tree."""

    def __init__(self, tree: Tree, folder: Path, server: PriceServer) -> None:
        self.tree = tree
        self._server = server
        self._url = server.make()
        self._port = free_port()
        self._run = folder / "run"
        settings = {"TIDEGATE_PORT": str(self._port), "TIDEGATE_SAMPLE_PORT": str(free_port())}
        environment = tree.environment(folder, self._url, **settings)
        # The repository's root, where a child process begins, must not come before the tree.
        code = f"import os, runpy; os.chdir({str(tree.folder)!r}); runpy.run_module('embedded', run_name='__main__')"
        self.process = ChildProcess(
            [sys.executable, "-P", "-c", code], log=folder / "stack.log", environment=environment
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._used_at = 0.0

    def start(self) -> None:
        """Returns when it answers and has run a job."""
        self.process.start()
        wait_until(self._has_run_a_job, description="a job is run", timeout_seconds=180)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._connection.close()
        self.process.stop(signal_number=signal.SIGINT)

    def submits(self, count: int) -> list[str]:
        """Into the lane, which is paused; their ids."""
        return [self.ask("POST", _JOBS, {})["id"] for _ in range(count)]

    def polls(self, ids: Sequence[str]) -> None:
        """Of jobs that wait."""
        for job_id in ids:
            self.ask("GET", f"/v1/jobs/{job_id}")

    def pause(self, *, paused: bool) -> None:
        """Holds the lane back, or lets it go."""
        self.ask("PATCH", _LANE, {"paused": paused})
        time.sleep(0.1)

    def drain(self, last: str) -> None:
        """Lets the lane go and waits until the last job, and with it all, has ended."""
        self.ask("PATCH", _LANE, {"paused": False})
        until = time.monotonic() + _LONG_SECONDS
        while self._status("GET", f"/v1/jobs/{last}") == 202 or not self._is_empty():
            if time.monotonic() > until:
                raise RuntimeError(f"{self.tree.name} does not drain its lane:\n{self.process.logs()[-3000:]}")
            time.sleep(0.2)

    def round_trips(self, count: int) -> None:
        """One job after the other."""
        for _ in range(count):
            status = self._round_trip()
            if status != 200:
                raise RuntimeError(f"{self.tree.name} answered {status}")

    def spent(self) -> dict[str, float]:
        """Seconds of processor time so far, by process."""
        seconds: dict[str, float] = defaultdict(float)
        for file in self._run.glob("*.pid"):
            name = file.stem.rstrip("-0123456789")
            if name == "supervisor":
                continue
            process = psutil.Process(int(file.read_text()))
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                seconds[_ONE_NAME.get(name, name)] += times.user + times.system
        return seconds

    def sent(self) -> Sent | None:
        """What its database was asked so far."""
        return self._server.sent(self._url)

    def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        """The document of an answer of 200 or 202."""
        status, body = self._send(method, path, document, headers)
        if status not in {200, 202}:
            raise RuntimeError(f"{self.tree.name}: {method} {path} was answered {status}: {body[:500]!r}")
        return json.loads(body)

    def _round_trip(self) -> int:
        return self._send("POST", _JOBS, {}, {"Prefer": "wait=20"})[0]

    def _has_run_a_job(self) -> bool:
        if not self.process.is_running:
            raise RuntimeError(f"{self.tree.name} does not start:\n{self.process.logs()[-3000:]}")
        try:
            return self._round_trip() == 200
        except OSError:
            self._connection.close()
            return False

    def _is_empty(self) -> bool:
        lane = self.ask("GET", _LANE)
        return not lane["in_flight"]

    def _status(self, method: str, path: str) -> int:
        return self._send(method, path, None, {})[0]

    def _send(self, method: str, path: str, document: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        content = None if document is None else json.dumps(document).encode()
        kinds = {"Content-Type": "application/json"} if content else {}
        used_at, self._used_at = self._used_at, time.monotonic()
        if self._used_at - used_at > _LONGEST_REST_SECONDS:
            self._connection.close()  # and opened anew by what follows
        self._connection.request(method, path, content, {**kinds, **headers})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def stacks(trees: Sequence[Tree], folder: Path, server: PriceServer) -> Iterator[list[TreeStack]]:
    """Both, started; stopped afterwards."""
    started: list[TreeStack] = []
    try:
        for number, tree in enumerate(trees):
            data = folder / f"stack-{number}"
            data.mkdir()
            started.append(TreeStack(tree, data, server))
            started[-1].start()
        yield started
    finally:
        for stack in started:
            stack.stop()


def measure(
    trees: Sequence[Tree], folder: Path, server: PriceServer, *, pairs: int, jobs: int
) -> list[dict[str, Spent]]:
    """What a job costs the processes of each side, by what is done with it and by process."""
    with stacks(trees, folder, server) as both:
        found: list[dict[str, Spent]] = [defaultdict(Spent) for _ in both]
        _round(both[0], jobs, defaultdict(Spent))
        _round(both[1], jobs, defaultdict(Spent))
        for number in range(pairs):
            for which in (0, 1) if number % 2 else (1, 0):
                _round(both[which], jobs, found[which])
        for spent in (spent for side in found for spent in side.values()):
            spent.statements /= pairs
            spent.buffers = None if spent.buffers is None else spent.buffers / pairs
        return [dict(side) for side in found]


def _round(stack: TreeStack, jobs: int, found: dict[str, Spent]) -> None:
    ids: list[str] = []
    trips = max(1, jobs // _ROUND_TRIPS)
    stack.pause(paused=True)
    with _paid(stack, "submit over HTTP", jobs, found, "web"):
        ids += stack.submits(jobs)
    with _paid(stack, "poll over HTTP", jobs, found, "web"):
        stack.polls(ids)
    with _paid(stack, "drain", jobs, found, "scheduler", "io"):
        stack.drain(ids[-1])
    with _paid(stack, "round trip", trips, found, "web", "scheduler", "io"):
        stack.round_trips(trips)


@contextmanager
def _paid(stack: TreeStack, what: str, times: int, found: dict[str, Spent], *processes: str) -> Iterator[None]:
    """Adds what these processes spend in the block, which does something so many times."""
    seconds, sent = stack.spent(), stack.sent()
    yield
    after, sent_after = stack.spent(), stack.sent()
    for process in processes:
        found[f"{what}, {process}"].seconds.append((after[process] - seconds[process]) / times)
    if sent and sent_after:
        spent = found[f"{what}, {processes[0]}"]
        spent.statements += (sent_after.statements - sent.statements) / times
        spent.buffers = (spent.buffers or 0.0) + (sent_after.buffers - sent.buffers) / times
