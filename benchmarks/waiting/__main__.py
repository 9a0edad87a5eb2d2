"""Measures what held requests cost and how fast they are told. `python -m benchmarks.waiting --help`.

Two web processes, the load, the database and Valkey on the same cores. Submits are timed with and without held streams
in pairs, each pair in another order: what matters is the median of their ratios. The processor time that the web
processes need for a submit depends less on what else the machine does.
"""

import argparse
import http.client
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from benchmarks.waiting.streams import HOST, Stream, Streams
from tests.support import postgresql, sqlite
from tests.support import run as test_run
from tests.support.valkey import Valkey
from tests.support.web_server import WebServer
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.notify.notifier import RedisNotifier
from tidegate.stores import Store

_SUBMITTERS = 8
_KILLED = 500


class Bench:
    """Two web processes over a fresh database. Nothing runs the jobs; they change when the benchmark says so."""

    def __init__(self, stack: ExitStack, folder: Path, database: str) -> None:
        url = (
            stack.enter_context(postgresql.fresh_database())
            if database == "postgresql"
            else sqlite.fresh_database(folder)
        )
        broker = Valkey(folder)
        broker.start()
        stack.callback(broker.stop)
        self.server = WebServer(folder, url, broker.url, WEB_WORKERS="2")
        stack.callback(self.server.close)
        self.server.start()
        self.database = Database(url)
        stack.callback(self.database.close)
        self.store = Store(self.database)
        self.notifier = RedisNotifier(broker.url)

    def submit(self, count: int) -> list[str]:
        """Submits so many jobs; their ids."""
        return [self.server.submit() for _ in range(count)]

    def change(self, *job_ids: str) -> None:
        """Changes these jobs as a worker would: a commit, and then the bell."""
        self.database.execute(jobs.update().where(jobs.c.id.in_(job_ids)).values(version=jobs.c.version + 1))
        self.notifier.notify_jobs_changed(*job_ids)

    def megabytes(self) -> float:
        """Resident memory of the web processes."""
        return sum(process.memory_info().rss for process in self._workers()) / 1e6

    def processor_seconds(self) -> float:
        """What the web processes have used so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._workers())

    def _workers(self) -> list[psutil.Process]:
        return psutil.Process(self.server.process.pid).children()

    def submits_per_second(self, seconds: float) -> float:
        """As fast as eight callers can."""
        counts = [0] * _SUBMITTERS
        until = time.monotonic() + seconds

        def call(number: int) -> None:
            connection = http.client.HTTPConnection(HOST, self.server.port, timeout=30)
            while time.monotonic() < until:
                connection.request("POST", "/v1/operations/echo/jobs", b"1", {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"a submit was answered {answer.status}")
                counts[number] += 1
            connection.close()

        threads = [threading.Thread(target=call, args=(number,)) for number in range(_SUBMITTERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / seconds


def main() -> None:
    """Prints what it measured as it goes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--held", type=int, default=1000, help="event streams (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement (default: %(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-waiting-"))
    test_run.begin()
    try:
        with ExitStack() as stack:
            bench = Bench(stack, folder, arguments.database)
            print(f"{arguments.database}, two web processes, load {os.getloadavg()[0]:.1f}", flush=True)
            bench.submits_per_second(2)  # connections and caches are made
            job_ids = bench.submit(arguments.held)
            cost(bench, job_ids, pairs=arguments.pairs, seconds=arguments.seconds)
            latency(bench, job_ids)
            kill(bench, job_ids[:_KILLED])
    finally:
        test_run.end()


def cost(bench: Bench, job_ids: Sequence[str], *, pairs: int, seconds: float) -> None:
    """Submits with held streams against submits without."""
    before = bench.megabytes()
    ratios, cpu_ratios = [], []
    for number in range(pairs):
        rates, cpu = {}, {}
        for is_held in (True, False) if number % 2 else (False, True):
            streams = Streams(bench.server.port, job_ids if is_held else [])
            streams.open()
            used = bench.processor_seconds()
            rates[is_held] = bench.submits_per_second(seconds)
            cpu[is_held] = (bench.processor_seconds() - used) / (rates[is_held] * seconds)
            streams.close()
            if is_held:
                bench.change(*job_ids)  # who is told notices at once that the client has gone
                time.sleep(1)
        ratios.append(rates[True] / rates[False])
        cpu_ratios.append(cpu[True] / cpu[False])
        told = f"{rates[False]:.0f}/s, held {rates[True]:.0f}/s, {ratios[-1]:.2f}, processor {cpu_ratios[-1]:.2f}"
        print(f"  pair {number + 1}: {told}", flush=True)
    print(f"submits with {len(job_ids)} held streams: {statistics.median(ratios):.3f} of those without (median)")
    print(f"processor time of a submit: {statistics.median(cpu_ratios):.3f} of that without (median)")
    print(f"memory of both: {before:.0f} MB before, {bench.megabytes():.0f} MB after")


def _is_past(stream: Stream, last: str) -> bool:
    return stream.last_id != last


def latency(bench: Bench, job_ids: Sequence[str]) -> None:
    """From the commit of a change to its event: one of all, and all at once."""
    streams = Streams(bench.server.port, job_ids)
    streams.open()
    by_job = {stream.job_id: stream for stream in streams.all}
    taken = []
    for _ in range(200):
        stream = by_job[random.choice(job_ids)]  # noqa: S311 - a sample
        last = stream.last_id
        bench.change(stream.job_id)
        changed_at = time.monotonic()
        streams.follow(partial(_is_past, stream, last))
        taken.append(1000 * (stream.told_at - changed_at))
        time.sleep(0.01)
    taken.sort()
    print(f"one of {len(job_ids)} told after {taken[100]:.1f} ms (median), {taken[197]:.1f} ms (p99)")
    known = {stream.job_id: stream.last_id for stream in streams.all}
    bench.change(*job_ids)
    changed_at = time.monotonic()
    streams.follow(lambda: all(stream.last_id != known[stream.job_id] for stream in streams.all))
    taken = sorted(1000 * (stream.told_at - changed_at) for stream in streams.all)
    print(f"all of them told after {taken[len(taken) // 2]:.0f} ms (median), {taken[-1]:.0f} ms (the last)")
    print(f"memory of both with all held: {bench.megabytes():.0f} MB")
    streams.close()


def kill(bench: Bench, job_ids: Sequence[str]) -> None:
    """kill -9 to the web server with many streams open; half of the jobs end while it is dead, half afterwards."""
    bench.change(*job_ids)
    time.sleep(1)
    streams = Streams(bench.server.port, job_ids)
    streams.open()
    bench.server.process.kill()
    for job_id in job_ids[::2]:
        bench.store.callers.cancel(job_id, None)
    starter = threading.Thread(target=bench.server.start)
    starter.start()
    streams.follow(lambda: all(stream.is_open or stream.has_ended for stream in streams.all))
    starter.join()
    for job_id in job_ids[1::2]:
        bench.store.callers.cancel(job_id, None)
        bench.notifier.notify_jobs_changed(job_id)
    streams.follow(lambda: all(stream.has_ended for stream in streams.all))
    again = sum(stream.connections > 1 for stream in streams.all)
    print(f"web killed -9 with {len(job_ids)} streams open: {again} connected again, all saw the end")
    streams.close()


if __name__ == "__main__":
    main()
