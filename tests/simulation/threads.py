"""Stand-ins for `threading`, `random` and `uuid_utils` in product code: the same names, over a simulated world."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.simulation.world import Signal, Task, World

# Modules whose locks are held while they ask the database, or that wait.
THREADED = (
    "tidegate.database.batching",
    "tidegate.dispatch.lane_cache",
    "tidegate.dispatch.partitions.cache",
    "tidegate.execution.heartbeat",
    "tasks.scheduler.work_signal",
)
RANDOM = ("tidegate.dispatch.gate", "tidegate.dispatch.forecast")


class Lock:
    """threading.Lock, and as an RLock one that its owner may take again."""

    def __init__(self, world: World, *, reentrant: bool = False) -> None:
        self._world = world
        self._reentrant = reentrant
        self._owner: Task | None = None
        self._depth = 0
        self._freed = Signal(world)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock, or waits for it."""
        until = None if timeout < 0 else self._world.now + timeout
        while self._depth and not (self._reentrant and self._owner is self._world.task):
            left = None if until is None else until - self._world.now
            if not blocking or (left is not None and left <= 0):
                return False
            self._freed.wait(left)
        self._owner, self._depth = self._world.task, self._depth + 1
        return True

    def release(self) -> None:
        """Frees the lock; any task may do it, as with threading.Lock."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._freed.wake(1)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Event:
    """threading.Event."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._changed = Signal(world)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Sets it and wakes who waits."""
        self._is_set = True
        self._changed.wake()

    def clear(self) -> None:
        """Unsets it."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set, at most so long."""
        until = None if timeout is None else self._world.now + timeout
        while not self._is_set:
            left = None if until is None else until - self._world.now
            if left is not None and left <= 0:
                return False
            self._changed.wait(left)
        return True


class Thread:
    """threading.Thread: a task of the process that starts it."""

    def __init__(
        self,
        world: World,
        *,
        target: Callable[..., object],
        args: Sequence[Any] = (),
        name: str = "",
        daemon: bool = True,  # noqa: ARG002 - threading's
    ) -> None:
        self._world = world
        self._work = lambda: target(*args)
        self._name = name
        self._task: Task | None = None

    def start(self) -> None:
        """Starts the task."""
        parent = self._world.task
        process = parent.process if parent else None
        self._task = self._world.spawn(f"{parent.name if parent else ''}/{self._name}", self._work, process)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._task is not None and not self._task.is_over

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended."""
        until = None if timeout is None else self._world.now + timeout
        while self.is_alive() and (until is None or self._world.now < until):
            self._world.sleep(0.01)


def threading_of(world: World) -> Any:
    """What stands in for the module `threading`."""
    return SimpleNamespace(
        Lock=lambda: Lock(world),
        RLock=lambda: Lock(world, reentrant=True),
        Event=lambda: Event(world),
        Thread=lambda **given: Thread(world, **given),
    )


def _random_of(world: World) -> Any:
    def shuffle(items: list[Any]) -> None:
        items.sort(key=lambda item: world.draw_here(f"shuffle {getattr(item, 'name', item)}"))

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * world.draw_here("uniform")

    return SimpleNamespace(random=lambda: world.draw_here("random"), shuffle=shuffle, uniform=uniform)


def _uuids_of(world: World) -> Any:
    """UUIDs of version 7: the milliseconds of the clock, how many were made in this step, then what is drawn."""
    made: dict[str, int] = {}

    def uuid7() -> str:
        step = f"{world.task.name}/{world.task.steps}" if world.task else ""
        number = made[step] = made.get(step, 0) + 1
        milliseconds = int(world.wall().timestamp() * 1000)
        drawn = [int(world.draw(f"uuid {step} {number} {part}") * 2**32) for part in (1, 2)]
        text = f"{milliseconds:012x}7{number % 4096:03x}8{drawn[0]:08x}{drawn[1]:07x}"[:32]
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return SimpleNamespace(uuid7=uuid7)


@contextmanager
def simulated_time(world: World) -> Iterator[None]:
    """Within it product code has the world's clock, threads, chance and UUIDs."""
    threading, random = threading_of(world), _random_of(world)
    with_names = [(f"{name}.threading", threading) for name in THREADED] + [
        (f"{name}.random", random) for name in RANDOM
    ]
    with_names += [
        ("tidegate.gateway.uuid_utils", _uuids_of(world)),
        ("tasks.scheduler.final_count.uuid_utils", _uuids_of(world)),
        ("tidegate.webhooks.sender.next_try.__defaults__", (random,)),
        ("tidegate.operations.retry.RetryPolicy.delay_after.__defaults__", (random,)),
        ("tidegate.clock.now", world.wall),
        ("tidegate.clock.monotonic", lambda: world.now),
        ("tidegate.clock.sleep", world.sleep),
        ("tidegate.clock.yield_thread", lambda: None),
    ]
    patches = [patch.object(*_place(target), stand_in) for target, stand_in in with_names]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in reversed(patches):
            each.stop()


def _place(target: str) -> tuple[Any, str]:
    """The owner of a dotted name, and the last part of it."""
    path, _, attribute = target.rpartition(".")
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            owner = getattr(owner, part)
        return owner, attribute
    raise LookupError(target)
