"""The simulated cluster: web processes, schedulers, workers and senders of the product's own parts, and callers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from ipaddress import ip_network
from typing import Any, cast

from tasks.scheduler.courier import Courier
from tasks.scheduler.process import Scheduler
from tasks.scheduler.sampler import Sampler
from tasks.scheduler.work_signal import WorkSignal
from tests.simulation.batch_plan import MOST
from tests.simulation.batched import BatchedOperation
from tests.simulation.downstream import SimulatedOperation
from tests.simulation.invariants import Invariants
from tests.simulation.network import (
    WEBHOOKS,
    Broker,
    Hints,
    Line,
    Receivers,
    SimulatedHandoff,
    SimulatedListener,
    SimulatedNotifier,
    SimulatedPublisher,
)
from tests.simulation.plan import CLIENTS, SCHEDULERS, SENDERS, WEBS, WORKERS
from tests.simulation.stores import Faults, SimulatedDatabase
from tests.simulation.threads import Event
from tests.simulation.world import Process, World
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import IMPLICIT_CLIENT, clients
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.partitions.cache import PartitionCache
from tidegate.execution.batch_runner import BatchRunner
from tidegate.execution.heartbeat import Heartbeat
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.execution.runner import Runner
from tidegate.gateway import Gateway
from tidegate.intake.admission import Admission
from tidegate.notify.messages import CHANNEL, DELIVERIES
from tidegate.operations.limits import Limits
from tidegate.operations.registry import Registry
from tidegate.operations.sharing import PartitionLimits, Sharing
from tidegate.stores import Store
from tidegate.webhooks.checks import WebhookChecks
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore
from tidegate.webhooks.sender import Sender
from tidegate.webhooks.signing import Keyring

LEASE = timedelta(seconds=6)
RETENTION = timedelta(days=7)
PLACES = 3
_KEYS = Keyring([b"k" * 32])
_EGRESS = Egress([ip_network("127.0.0.0/8")])
_WEBHOOK_TIMEOUT = timedelta(seconds=5)

LIMITS = (
    Limits(name="steady", rates=("6/s",), burst=2, concurrency=3, breaker_after=4),
    Limits(name="narrow", concurrency=2, breaker_after=0),
    Limits(name="calls", rates=("10/s",), concurrency=4),
    Limits(name="free"),
    Limits(name="polled", rates=("8/s",), burst=2, concurrency=2, breaker_after=0),
    Limits(
        name="shared",
        rates=("8/s",),
        burst=2,
        concurrency=4,
        breaker_after=0,
        sharing=Sharing(
            by="header",
            named={
                "heavy": PartitionLimits(weight=3.0),
                "light": PartitionLimits(weight=0.25),
                "rated": PartitionLimits(rates=("2/s",)),
                "single": PartitionLimits(concurrency=1),
                "ordered": PartitionLimits(is_strict=True),
            },
        ),
    ),
    Limits(
        name="tenants",
        concurrency=3,
        breaker_after=0,
        sharing=Sharing(
            by="header",
            named={
                "heavy": PartitionLimits(weight=4.0),
                "light": PartitionLimits(weight=0.5),
                "ordered": PartitionLimits(is_strict=True),
            },
        ),
    ),
)

BATCHED_LIMITS = (
    Limits(name="models", rates=("5/s",), burst=2, concurrency=2, breaker_after=4),
    Limits(name="bulk", concurrency=2, breaker_after=0),
    Limits(
        name="pooled",
        rates=("8/s",),
        burst=2,
        concurrency=3,
        breaker_after=0,
        sharing=Sharing(
            by="header",
            named={
                "heavy": PartitionLimits(weight=3.0),
                "single": PartitionLimits(concurrency=1),
                "rated": PartitionLimits(rates=("2/s",)),
            },
        ),
    ),
)
"""Of downstreams that take many jobs in a call. Plans that do not use them are without them, and stay as they were."""


class _Pulse:
    """Where a process would touch its health file."""

    def beat(self) -> None:
        """Nobody looks."""


@dataclass
class Cluster:
    """All processes of one simulation. A role is played by one process at a time; who is killed is replaced."""

    world: World
    invariants: Invariants
    faults: Faults = field(default_factory=Faults)
    line: Line = field(default_factory=Line)
    roles: dict[str, Process] = field(default_factory=dict)
    has_batches: bool = False
    is_healthy: bool = False
    """From then on every downstream answers well."""

    def __post_init__(self) -> None:
        self.broker = Broker(self.world, self.line)
        self.hints = Hints(self.world, self.line)
        self.receivers = Receivers(self.world)
        self.limits = (*LIMITS, *BATCHED_LIMITS) if self.has_batches else LIMITS
        self.registry = Registry(
            operations={
                limits.name: (BatchedOperation if limits.name in MOST else SimulatedOperation)(self, limits.name)
                for limits in self.limits
            },
            downstreams={limits.name: limits for limits in self.limits},
        )
        self.gateways: dict[Process, Gateway] = {}
        self._heartbeats: dict[Process, Heartbeat] = {}
        self._stopping: set[Process] = set()
        self._incarnations: dict[str, int] = {}

    def start(self) -> None:
        """Starts every process, as after a deployment."""
        onlooker = Store(self.database(self.world.nobody))
        with onlooker.database.transaction() as connection:
            for name in CLIENTS:
                connection.execute(clients.insert().values(id=name, name=name, created_at=self.world.wall()))
        self.invariants.share({limits.name: limits.sharing for limits in self.limits if limits.sharing})
        onlooker.limits.declare(self.limits)
        SecretStore(onlooker.database, lambda: _KEYS).rotate(IMPLICIT_CLIENT, overlap=timedelta(days=1))
        for role in (*WEBS, *SCHEDULERS, *WORKERS, *SENDERS):
            self.start_role(role)

    def start_role(self, role: str) -> None:
        """Starts a process for this role, if none lives."""
        current = self.roles.get(role)
        if current and not current.is_dead:
            return
        number = self._incarnations[role] = self._incarnations.get(role, 0) + 1
        process = self.roles[role] = Process(role if number == 1 else f"{role}({number})")
        kind = role.partition("-")[0]
        mains = {"web": self._web, "scheduler": self._scheduler, "webhooks": self._sender}
        main = mains.get(kind, partial(self._worker, queue=kind))
        self.world.spawn(f"{process.name}/main", lambda: main(process), process)

    def kill(self, role: str) -> None:
        """Kills the process of a role, as kill -9 does."""
        self.world.tell("is killed", self.roles[role].name)
        self.world.kill(self.roles[role])

    def retire(self, role: str, grace: float) -> None:
        """Stops a worker in order: it takes nothing more, and what still runs after the grace is handed back."""
        process = self.roles[role]
        self.world.tell("is asked to stop", process.name)
        self._stopping.add(process)

        def stop() -> None:
            self.world.sleep(grace)
            try:
                self._heartbeats[process].stop()
            except UNREACHABLE as error:
                self.world.tell(f"can't hand back: {error}")
            self.world.kill(process)

        if process in self._heartbeats:
            self.world.spawn(f"{process.name}/grace", stop, process)

    def database(self, process: Process) -> Database:
        """This process's way to the database."""
        return cast("Database", SimulatedDatabase(self.world, process, self.faults, self.invariants.committed))

    def _notifier(self, channel: str = CHANNEL) -> SimulatedNotifier:
        return SimulatedNotifier(self.hints, channel)

    def _again_and_again(self, turn: Callable[[], float], wait: Callable[[float], object]) -> None:
        while True:
            try:
                seconds = turn()
            except UNREACHABLE as error:
                self.world.tell(f"the database can't be reached: {error}")
                seconds = 1.0
            if seconds > 0:
                wait(seconds)

    def _web(self, process: Process) -> None:
        store = Store(self.database(process), retention=RETENTION)
        lanes = LaneCache(store, self.registry.downstreams, self.registry.fills)
        self.gateways[process] = Gateway(
            store.callers,
            store.submissions,
            self.registry,
            lanes,
            Admission(lanes=lanes, partitions=PartitionCache(store, self.registry.downstreams), max_backlog=200),
            self._notifier(),
            store.deliveries,
            WebhookChecks(_EGRESS, SecretStore(store.database, lambda: _KEYS)),
        )

    def _scheduler(self, process: Process) -> None:
        world = self.world
        store = Store(self.database(process), retention=RETENTION)
        work_signal = WorkSignal()
        publisher = SimulatedPublisher(world, self.broker)
        scheduler = Scheduler(
            store,
            cast("Any", publisher),
            self._notifier(),
            cast("Any", SimulatedListener(world, self.hints, CHANNEL, process)),
            retention=RETENTION,
            lease=LEASE,
            pulse=cast("Any", _Pulse()),
            work_signal=work_signal,
            registry=self.registry if self.has_batches else None,
        )
        sampler = Sampler(store.samples, store.scale, work_signal)
        heard = SimulatedListener(world, self.hints, DELIVERIES, process)
        courier = Courier(store.sending, cast("Any", publisher), work_signal, cast("Any", heard))
        stopped = cast("Any", Event(world))
        for name, turn, wait in (
            ("sampler", sampler.run_once, lambda seconds: sampler.wait(seconds, stopped)),
            ("courier", courier.run_once, lambda seconds: courier.wait(seconds, stopped)),
        ):
            work = lambda turn=turn, wait=wait: self._again_and_again(turn, wait)  # noqa: E731
            world.spawn(f"{process.name}/{name}", work, process)
        self._again_and_again(scheduler.run_once, lambda seconds: scheduler.wait(seconds, stopped))

    def _worker(self, process: Process, queue: str) -> None:
        open_attempts = OpenAttempts()
        self.invariants.workers[process.name] = process, open_attempts.all
        store, own = Store(self.database(process)), Store(self.database(process))
        own_parts: dict[str, Any] = {
            "worker": process.name,
            "lease": LEASE,
            "max_result": 1_000_000,
            "notifier": self._notifier(),
            "handoff": SimulatedHandoff(self.world, self.hints, process),
            "open_attempts": open_attempts,
        }
        runner, batches = Runner(store, self.registry, **own_parts), BatchRunner(store, self.registry, **own_parts)

        def run(its_id: str, release: int | tuple[tuple[str, int], ...]) -> None:
            if isinstance(release, int):
                runner.run(its_id, release)
            else:
                batches.run(its_id, release)

        heartbeat = self._heartbeat(own, process, queue, PLACES, open_attempts)
        self._consume(process, queue, PLACES, run)
        heartbeat.start()
        self._notifier().wake_scheduler()

    def _sender(self, process: Process) -> None:
        store = Store(self.database(process))
        secrets = SecretStore(store.database, cache(lambda: _KEYS))
        sender = SimulatedSender(
            store.sending, secrets, _EGRESS, timeout=_WEBHOOK_TIMEOUT, notifier=self._notifier(DELIVERIES)
        )
        sender.receivers = self.receivers
        heartbeat = self._heartbeat(store, process, WEBHOOKS, 2, OpenAttempts())
        self._consume(process, WEBHOOKS, 2, sender.run)
        heartbeat.start()

    def _heartbeat(self, store: Store, process: Process, queue: str, size: int, held: OpenAttempts) -> Heartbeat:
        def wake_all() -> None:
            self._notifier().wake_scheduler()

        heartbeat = self._heartbeats[process] = Heartbeat(
            store.heartbeats,
            worker=process.name,
            queue=queue,
            size=size,
            lease=LEASE,
            wake_all=wake_all,
            write_counts=lambda: None,
            open_attempts=held,
        )
        return heartbeat

    def _consume(self, process: Process, queue: str, places: int, run: Callable[..., object]) -> None:
        def consume() -> None:
            while process not in self._stopping:
                run(*self.broker.take(queue))

        for place in range(places):
            self.world.spawn(f"{process.name}/place-{place}", consume, process)


class SimulatedSender(Sender):
    """A sender whose posts go to simulated receivers."""

    receivers: Receivers

    def _post(self, url: Any, headers: dict[str, str], body: bytes) -> tuple[int, timedelta | None]:  # noqa: ARG002
        return self.receivers.post(headers["webhook-id"], body.decode()[:40]), None


class Surprises(logging.Handler):
    """Notes what the product logs as an error."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes in one line of the log."""
        if record.msg not in {"job %s: %s raised", "batch %s: %s raised"}:  # an operation may raise what it likes
            text = record.getMessage()
            if record.exc_info and record.exc_info[1]:
                text = f"{text} ({record.exc_info[1]!r:.300})"
            self.errors.append(text)
            self._world.tell(f"logs an error: {text}")
