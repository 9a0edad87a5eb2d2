"""What is done to a stack while it works off a backlog: each scenario with its limits and its targets."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.commands import await_scheduler, await_worker
from benchmarks.pacing.arrivals import Span
from benchmarks.pacing.stack import Stack

LANE = "paced"


@dataclass
class Run:
    """A scenario at work. `events`: what was done when. `outages`: when no scheduler, no worker or no broker lived."""

    stack: Stack
    began: float = field(default_factory=time.time)
    events: list[tuple[float, str]] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)

    def sleep_until(self, seconds: float) -> None:
        """Waits until so long after the beginning."""
        time.sleep(max(0.0, self.began + seconds - time.time()))

    def note(self, what: str) -> None:
        """Marks this instant."""
        self.events.append((time.time(), what))

    @contextmanager
    def outage(self, what: str) -> Iterator[None]:
        """Something that calls need is away meanwhile."""
        self.note(what)
        at = time.time()
        yield
        self.outages.append((at, time.time()))
        self.note("back")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`limits`: TOML lines of the downstream. `windows`: seconds, and the calls that may come in any such window."""

    name: str
    title: str
    limits: str = 'rate = "50/s"'
    rate: float | None = 50
    concurrency: int | None = None
    jobs: int = 1000
    call_ms: str = "5"
    is_burst: bool = False
    """Whether the jobs are submitted while the lane already runs, and not before."""
    fault: Callable[[Run], None] = lambda _: None
    windows: tuple[tuple[float, int], ...] = ((1.0, 52),)
    utilisation: float = 0.97
    """The least share of the slots (with `concurrency`: of the places) that must be used."""
    longest_seconds: float = 120

    @property
    def operations(self) -> str:
        """The operations file."""
        return (
            f"[downstreams.{LANE}]\n{self.limits}\n[operations.{LANE}]\n"
            f'url = "http://127.0.0.1:{{port}}/{LANE}/{self.call_ms}"\ntimeout = "10m"\nattempt_timeout = "2s"\n'
        )


def _kill_worker(run: Run) -> None:
    run.sleep_until(8)
    run.note("kill -9 of a worker")
    run.stack.workers[0].kill()


def _freeze_workers(run: Run) -> None:
    run.sleep_until(6)
    with run.outage("workers frozen"):
        for worker in run.stack.workers:
            worker.freeze()
        time.sleep(4)
        for worker in run.stack.workers:
            worker.thaw()


def _restart_workers(run: Run) -> None:
    run.sleep_until(6)
    workers = run.stack.workers
    with run.outage("workers stopped"):
        for worker in workers:
            worker.kill(signal.SIGTERM)
        with ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(lambda worker: worker.stop(), workers))
        for worker in workers:
            worker.start()
        await_worker(workers, all_of_them=False)


def _kill_scheduler(run: Run) -> None:
    run.sleep_until(6)
    with run.outage("kill -9 of the scheduler"):
        run.stack.scheduler.kill()
        time.sleep(2)
        run.stack.scheduler.start()
        await_scheduler(run.stack.scheduler)


def _restart_broker(run: Run) -> None:
    run.sleep_until(6)
    with run.outage("kill -9 of Valkey"):
        run.stack.broker.kill()
        time.sleep(1)
        run.stack.broker.start()


def _change_rate(run: Run) -> None:
    for at, rate in ((5, 100), (9, 10), (14, 50)):
        run.sleep_until(at)
        run.stack.limit(LANE, rate=f"{rate}/s")
        run.note(f"{rate}/s")
        run.rates.append((time.time(), rate))


SCENARIOS = (
    Scenario(name="steady", title="steady", utilisation=0.99),
    Scenario(name="burst", title="steady, submitted meanwhile", is_burst=True),
    Scenario(name="worker", title="a worker killed -9", fault=_kill_worker),
    Scenario(name="frozen", title="all workers frozen 4 s", fault=_freeze_workers),
    Scenario(name="restart", title="all workers stopped, restarted", fault=_restart_workers),
    Scenario(name="scheduler", title="the scheduler killed -9, back after 2 s", fault=_kill_scheduler),
    Scenario(name="valkey", title="Valkey killed -9, back after 1 s", fault=_restart_broker),
    Scenario(name="live", title="50 -> 100 -> 10 -> 50/s live", fault=_change_rate, windows=((1.0, 103),)),
    Scenario(
        name="places",
        title="concurrency 5, calls of 100 ms; a worker killed -9",
        limits="concurrency = 5",
        rate=None,
        concurrency=5,
        call_ms="100",
        fault=_kill_worker,
        windows=(),
        utilisation=0.95,
    ),
    Scenario(
        name="two-rates",
        title='"10/s" and "100/m"',
        limits='rate = ["10/s", "100/m"]',
        rate=None,
        jobs=210,
        windows=((1.0, 11), (60.0, 101)),
        longest_seconds=90,
    ),
)
