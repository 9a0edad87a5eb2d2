"""A simulated world: one thread, a clock that jumps, and tasks that a seed makes run in one order and no other.

Deterministic simulation testing, as FoundationDB does it: whatever happens follows from the seed, so a failure repeats
to the letter. A task is a greenlet that gives way where real code would wait. What is drawn for it depends on its name
and its steps alone, so that a part of a plan can be left out without changing what the rest draws.
"""

import heapq
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from greenlet import greenlet

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


class Broken(BaseException):
    """Raised when an invariant does not hold. No Exception: no part of the product catches it."""


@dataclass(eq=False)
class Process:
    """A simulated process: its tasks stop when it is killed, and stand still while it is frozen."""

    name: str
    is_dead: bool = False
    frozen_until: float = 0.0
    died_at: float = float("inf")


@dataclass(eq=False)
class Task:
    """A thread of a simulated process. `ticket`: changes each time that it goes on, so that old wake-ups are void."""

    name: str
    process: Process
    run: greenlet
    steps: int = 0
    ticket: int = 0
    is_over: bool = False


@dataclass
class World:
    """The clock, the tasks and the story of one simulation. Times are seconds since its beginning."""

    seed: int
    now: float = 0.0
    clock_step: timedelta = timedelta(0)
    story: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Task, int]] = []
        self._order = itertools.count()
        self._main = greenlet.getcurrent()
        self._graveyard: list[Task] = []  # a greenlet that nobody holds would run its finally blocks
        self.task: Task | None = None
        self.nobody = Process("nobody")
        self.steps = 0

    def draw(self, key: str) -> float:
        """A number from 0 to 1 that depends on the seed and this key alone."""
        return zlib.crc32(f"{self.seed}:{key}".encode()) / 2**32

    def draw_here(self, key: str = "") -> float:
        """A number from 0 to 1 that depends on the seed, the running task, its step and this key."""
        task = self.task
        return self.draw(f"{task.name}/{task.steps}/{key}" if task else key)

    def wall(self) -> datetime:
        """What the machines' and the database's clock says."""
        return BEGINNING + timedelta(seconds=self.now) + self.clock_step

    def tell(self, what: str, who: str | None = None) -> None:
        """Adds a line to the story."""
        self.story.append((self.now, who or (self.task.process.name if self.task else "world"), what))

    def spawn(self, name: str, work: Callable[[], object], process: Process | None = None, after: float = 0.0) -> Task:
        """Starts a task, now or later. An exception in it ends the simulation."""

        def run() -> None:
            work()
            task.is_over = True

        task = Task(name, process or self.nobody, greenlet(run, parent=self._main))
        self._push(self.now + after, task)
        return task

    def sleep(self, seconds: float) -> None:
        """Lets the running task wait; without one, nothing happens."""
        if self.task is not None:
            self.wait(max(0.0, seconds))

    def wait(self, seconds: float | None) -> None:
        """Lets the running task wait until it is woken, at most so long."""
        task = self.task
        if task is None:
            raise Broken("only a task can wait")
        if seconds is not None:
            self._push(self.now + seconds, task)
        self._main.switch()

    def wake(self, task: Task) -> None:
        """Lets a waiting task go on now."""
        self._push(self.now, task)

    def kill(self, process: Process) -> None:
        """Ends a process at once: nothing of it runs any more, not even what `finally` says."""
        process.is_dead, process.died_at = True, self.now

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Runs the tasks until this time, or until it is over."""
        while self._queue and not is_over():
            at, _, task, ticket = self._queue[0]
            if at > until:
                break
            heapq.heappop(self._queue)
            if task.is_over or task.ticket != ticket or task.process.is_dead:
                self._bury(task)
                continue
            if task.process.frozen_until > max(at, self.now):
                self._push(task.process.frozen_until, task)
                continue
            self.now = max(self.now, at)
            self.steps += 1
            task.ticket += 1
            task.steps += 1
            self.task = task
            try:
                task.run.switch()
            finally:
                self.task = None
        else:
            return
        self.now = max(self.now, until)

    def _push(self, at: float, task: Task) -> None:
        heapq.heappush(self._queue, (at, next(self._order), task, task.ticket))

    def _bury(self, task: Task) -> None:
        if task.process.is_dead and not task.is_over:
            self._graveyard.append(task)


class Signal:
    """Tasks that wait for the same thing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Task] = []

    def wait(self, seconds: float | None = None) -> None:
        """Waits for `wake`, at most so long."""
        task = self._world.task
        if task is None:
            raise Broken("only a task can wait")
        self._waiting.append(task)
        self._world.wait(seconds)
        if task in self._waiting:
            self._waiting.remove(task)

    def wake(self, most: int | None = None) -> None:
        """Lets those who wait go on: all of them, or the first few."""
        waiting = [task for task in self._waiting if not task.process.is_dead]
        woken, self._waiting = waiting[:most], waiting[len(waiting[:most]) :]
        for task in woken:
            self._world.wake(task)
