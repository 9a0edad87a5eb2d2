"""What lies between the processes: a broker with messages, hints that may be lost, receivers of webhooks."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from tasks.scheduler.publisher import NotSent
from tests.simulation.world import Process, Signal, World
from tidegate.jobs.job import Call, Released
from tidegate.webhooks.delivery import ReleasedDelivery

WEBHOOKS = "webhooks"
Message: TypeAlias = tuple[str, "int | tuple[Call, ...]"]
"""A job's release, or a batch's id and the releases of its jobs."""
_REMEMBERED_ENDS = 4096


@dataclass
class Line:
    """How well messages and hints arrive, at this time of the world. Chances are from 0 to 1."""

    away_until: float = 0.0
    loses: float = 0.0
    doubles: float = 0.0
    hints_lost: float = 0.02


class Broker:
    """Messages by queue. One is handed to one consumer and then forgotten, as with early acknowledgement."""

    def __init__(self, world: World, line: Line) -> None:
        self._world = world
        self._line = line
        self._queues: dict[str, deque[Message]] = {}
        self._filled: dict[str, Signal] = {}

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._world.now >= self._line.away_until

    def put(self, queue: str, call: Message) -> None:
        """Takes a message; it may be lost, doubled or late."""
        world = self._world
        chance = world.draw(f"message {queue} {call[0]} {call[1]}")
        if chance < self._line.loses:
            world.tell(f"the message of {call[0]}:{call[1]} is lost", "broker")
            return
        copies = 2 if chance > 1 - self._line.doubles else 1
        for copy in range(copies):
            delay = 0.001 + (2.0 if chance > 0.995 else 0.005) * world.draw(f"way {copy} {call}")
            world.spawn(f"broker/{queue}", lambda: self._arrive(queue, call), after=delay)

    def _arrive(self, queue: str, call: Message) -> None:
        self._queues.setdefault(queue, deque()).append(call)
        self._signal(queue).wake(1)

    def take(self, queue: str) -> Message:
        """Waits for a message."""
        messages = self._queues.setdefault(queue, deque())
        while not messages or not self.is_up:
            if self.is_up:
                self._signal(queue).wait()
            else:
                self._world.sleep(self._line.away_until - self._world.now)
        return messages.popleft()

    def _signal(self, queue: str) -> Signal:
        return self._filled.setdefault(queue, Signal(self._world))


class SimulatedPublisher:
    """What the scheduler publishes with: `tasks.scheduler.publisher.Publisher` without Celery."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker

    def is_up(self) -> bool:
        """Whether the broker answers now."""
        self._world.sleep(0.002)
        return self._broker.is_up

    def send(self, released: Sequence[Released]) -> bool:
        """Publishes a message for each job, and one for all jobs of a batch; False: it is uncertain."""
        by_message: dict[str, list[Released]] = {}
        for job in released:
            by_message.setdefault(job.batch.id if job.batch else job.job_id, []).append(job)
        messages = [
            (jobs[0].queue, (its_id, _releases(jobs) if jobs[0].batch else jobs[0].fence))
            for its_id, jobs in by_message.items()
        ]
        return self._send(messages, [*by_message.values()])

    def send_deliveries(self, released: Sequence[ReleasedDelivery]) -> bool:
        """As `send`, for deliveries."""
        return self._send([(WEBHOOKS, (each.job_id, each.fence)) for each in released], [[each] for each in released])

    def _send(self, messages: Sequence[tuple[str, Message]], released: Sequence[Sequence[object]]) -> bool:
        self._world.sleep(0.001)
        for number, (queue, call) in enumerate(messages):
            if not self._broker.is_up:
                raise NotSent("simulated", [each for message in released[number:] for each in message])
            self._broker.put(queue, call)
        self._world.sleep(0.001)
        return self._broker.is_up


def _releases(jobs: Sequence[Released]) -> tuple[Call, ...]:
    return tuple((job.job_id, job.fence) for job in jobs)


class Hints:
    """Redis pub/sub: reaches who listens now, or nobody."""

    def __init__(self, world: World, line: Line) -> None:
        self._world = world
        self._line = line
        self._listeners: dict[str, list[Callable[[bytes], None]]] = {}

    def listen(self, channel: str, hear: Callable[[bytes], None]) -> None:
        """Has each message of the channel told to `hear`."""
        self._listeners.setdefault(channel, []).append(hear)

    def publish(self, channel: str, message: bytes) -> None:
        """Sends a hint to all who listen."""
        world = self._world
        for number, hear in enumerate(self._listeners.get(channel, ())):
            key = f"hint {channel} {number} {message!r} {world.steps}"
            if world.now >= self._line.away_until and world.draw(key) >= self._line.hints_lost:
                world.spawn(f"hint/{channel}", partial(hear, message), after=0.0005 + 0.003 * world.draw(key))


class SimulatedNotifier:
    """A notifier over simulated pub/sub."""

    def __init__(self, hints: Hints, channel: str) -> None:
        self._hints = hints
        self._channel = channel

    def wake_scheduler(self, lane: str = "") -> None:
        """Wakes the scheduler."""
        self._hints.publish(self._channel, lane.encode())

    def notify_place_freed(self) -> None:
        """Tells the scheduler of a free place."""
        self._hints.publish(self._channel, b":")

    def notify_jobs_changed(self, *job_ids: str) -> None:
        """Nobody here waits for a job; readers ask again and again."""

    def notify_attempt_began(self, job_id: str) -> None:
        """As `notify_jobs_changed`."""


class SimulatedListener:
    """A listener to one channel."""

    is_listening = True

    def __init__(self, world: World, hints: Hints, channel: str, process: Process) -> None:
        self._world = world
        self._process = process
        self._heard: list[bytes] = [b""]
        self._signal = Signal(world)
        hints.listen(channel, self._hear)

    def _hear(self, message: bytes) -> None:
        if not self._process.is_dead:
            self._heard.append(message)
            self._signal.wake()

    def hear(self, seconds: float) -> Sequence[bytes]:
        """The messages since the last call, else waits for the next."""
        if not self._heard:
            self._signal.wait(seconds)
        heard, self._heard = self._heard, []
        return heard

    def wait(self, seconds: float) -> bool:
        """Waits for a message."""
        return bool(self.hear(seconds))


class SimulatedHandoff:
    """The hints between a call that ends and its follower."""

    def __init__(self, world: World, hints: Hints, process: Process) -> None:
        self._world = world
        self._hints = hints
        self._process = process
        self._ended: set[Call] = set()
        self._alarmed_until = 0.0
        self._heard = Signal(world)
        hints.listen("ended", self._hear)

    def notify_call_ended(self, ended: Call) -> None:
        """Publishes that this call has ended."""
        self._hints.publish("ended", f"{ended[0]}:{ended[1]}".encode())

    def alarm(self) -> None:
        """Publishes that a downstream refused or failed."""
        self._hints.publish("ended", b"alarm")

    def is_alarmed(self) -> bool:
        """Whether an alarm came lately."""
        return self._world.now < self._alarmed_until

    def look_seconds(self) -> float:
        """Seconds between a waiting follower's reads of the rows."""
        return 0.2

    def wait(self, call: Call, seconds: float) -> bool:
        """Waits for the end of a call; whether it was told."""
        until = self._world.now + seconds
        while call not in self._ended and self._world.now < until:
            self._heard.wait(until - self._world.now)
        return call in self._ended

    def _hear(self, message: bytes) -> None:
        if self._process.is_dead:
            return
        if message == b"alarm":
            self._alarmed_until = self._world.now + 10.0
            return
        job_id, _, fence = message.decode().rpartition(":")
        self._ended.add((job_id, int(fence)))
        self._heard.wake()


@dataclass
class Receivers:
    """Where webhooks go: each refuses the first few tries of a job, as its plan says, and then takes it."""

    world: World
    told: dict[str, list[str]] = field(default_factory=dict)
    """By job, the `type` of each webhook that was taken."""
    tries: dict[str, int] = field(default_factory=dict)

    def post(self, job_id: str, event: str) -> int:
        """Takes a webhook, or not; returns the status. OSError: no answer."""
        world = self.world
        number = self.tries[job_id] = self.tries.get(job_id, 0) + 1
        world.sleep(0.01 + world.draw(f"receiver {job_id} {number}"))
        chance = world.draw(f"receives {job_id} {number}")
        if number <= 2 and chance < 0.1:
            raise ConnectionResetError("simulated")
        if number <= 2 and chance < 0.3:
            return 503
        self.told.setdefault(job_id, []).append(event)
        if chance > 0.97 and number <= 2:
            raise ConnectionResetError("simulated: taken, and the answer is lost")
        return 200
