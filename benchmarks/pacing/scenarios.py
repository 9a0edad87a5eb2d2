"""What is done to a stack while it works off a backlog: each scenario with its limits and its targets."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.commands import await_scheduler, await_worker
from benchmarks.pacing.arrivals import Span
from benchmarks.pacing.promise import Change
from benchmarks.pacing.stack import Stack

LANE = "paced"


@dataclass
class Run:
    """A scenario at work. `events`: what was done when. `outages`: when no scheduler, no worker or no broker lived."""

    stack: Stack
    began: float = field(default_factory=time.time)
    events: list[tuple[float, str]] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

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
    """`limits`: TOML lines of the downstream. `windows`: seconds, and the calls that may come in any such window.

    `partner`: the rates above which the downstream refuses.
    """

    name: str
    title: str
    lane: str = LANE
    limits: str = 'rate = "50/s"'
    rate: int | None = 50
    concurrency: int | None = None
    jobs: int = 1000
    call_ms: str = "5"
    is_burst: bool = False
    """Whether the jobs are submitted while the lane already runs, and not before."""
    fault: Callable[[Run], None] = lambda _: None
    windows: tuple[tuple[float, int], ...] = ((1.0, 50),)
    utilisation: float | None = 0.97
    """The least share of the rate (with `concurrency`: of the places) that must be used; of a rate it can be 98 %."""
    partner: tuple[str, ...] = ()
    is_told_the_limit: bool = False
    """Whether the downstream allows less than is declared and says so: its first calls may come too fast."""
    longest_seconds: float = 120

    @property
    def operations(self) -> str:
        """The operations file."""
        return (
            f"[downstreams.{self.lane}]\n{self.limits}\n[operations.{self.lane}]\n"
            f'url = "http://127.0.0.1:{{port}}/{self.lane}/{self.call_ms}"\ntimeout = "20m"\nattempt_timeout = "2s"\n'
        )

    @property
    def strictness(self) -> tuple[str, ...]:
        """Options of the downstream's command line."""
        limits = tuple(f"--limit={self.lane}={rate}" for rate in self.partner)
        return (*limits, "--announce") if self.is_told_the_limit else limits


def _kill_worker(run: Run) -> None:
    run.sleep_until(8)
    run.note("kill -9 of a worker")
    run.stack.workers[0].kill()


def _freeze_workers(run: Run, at: float = 6, seconds: float = 4) -> None:
    run.sleep_until(at)
    with run.outage("workers frozen"):
        for worker in run.stack.workers:
            worker.freeze()
        time.sleep(seconds)
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


def _kill_scheduler(run: Run, at: float = 6) -> None:
    run.sleep_until(at)
    with run.outage("kill -9 of the scheduler"):
        run.stack.scheduler.kill()
        time.sleep(2)
        run.stack.scheduler.start()
        await_scheduler(run.stack.scheduler)


def _restart_broker(run: Run, at: float = 6) -> None:
    run.sleep_until(at)
    with run.outage("kill -9 of Valkey"):
        run.stack.broker.kill()
        time.sleep(1)
        run.stack.broker.start()


def _kill_each_in_turn(run: Run) -> None:
    """A worker (which comes back), the scheduler, all workers frozen, Valkey: while the fastest lane is at work."""
    run.sleep_until(3)
    run.note("kill -9 of a worker")
    run.stack.workers[0].kill()
    run.stack.workers[0].start()
    _kill_scheduler(run, at=7)
    _freeze_workers(run, at=13, seconds=2)
    _restart_broker(run, at=18)


def _change(run: Run, at: float, rate: int) -> None:
    run.sleep_until(at)
    asked = time.time()
    run.stack.limit(LANE, rate=f"{rate}/s")
    run.changes.append(Change(asked=asked, confirmed=time.time(), calls=rate))
    run.note(f"{rate}/s")


def _change_rate(run: Run) -> None:
    for at, rate in ((5, 100), (9, 10), (14, 50)):
        _change(run, at, rate)


def _lower_rate(run: Run) -> None:
    _change(run, 5, 20)


SCENARIOS = (
    Scenario(name="steady", title="steady"),
    Scenario(name="burst", title="steady, submitted meanwhile", is_burst=True),
    Scenario(name="worker", title="a worker killed -9", fault=_kill_worker),
    Scenario(name="frozen", title="all workers frozen 4 s", fault=_freeze_workers),
    Scenario(name="restart", title="all workers stopped, restarted", fault=_restart_workers),
    Scenario(name="scheduler", title="the scheduler killed -9, back after 2 s", fault=_kill_scheduler),
    Scenario(name="valkey", title="Valkey killed -9, back after 1 s", fault=_restart_broker),
    Scenario(name="live", title="50 -> 100 -> 10 -> 50/s live", fault=_change_rate, utilisation=None),
    Scenario(name="lower", title="50 -> 20/s live", fault=_lower_rate, jobs=500, utilisation=None),
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
        jobs=150,
        windows=((1.0, 10), (60.0, 100)),
        longest_seconds=120,
    ),
    Scenario(
        name="told",
        title="a partner who allows 20/s of 50/s, and says so",
        rate=20,
        partner=("20/s",),
        is_told_the_limit=True,
        jobs=300,
        utilisation=None,
    ),
)
PARTNERS = (
    Scenario(
        name="partner-4",
        title="a strict partner, 4/s, burst 4; everything killed",
        lane="four",
        limits='rate = "4/s"\nburst = 4',
        rate=None,
        windows=((1.0, 4),),
        partner=("4/s",),
        fault=_kill_each_in_turn,
        longest_seconds=640,
    ),
    Scenario(
        name="partner-50",
        title="beside it 50/s, burst 25",
        lane="fifty",
        limits='rate = "50/s"\nburst = 25',
        rate=None,
        partner=("50/s",),
    ),
    Scenario(
        name="partner-two-rates",
        title='beside it "10/s" and "100/m", burst 5',
        lane="two-rates",
        limits='rate = ["10/s", "100/m"]\nburst = 5',
        rate=None,
        windows=((1.0, 10), (60.0, 100)),
        partner=("10/s", "100/m"),
    ),
)
"""Partners who refuse the call that is too many: three at once in one stack, for the slowest takes nine minutes."""
