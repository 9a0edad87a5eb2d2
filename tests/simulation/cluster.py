"""The simulated cluster: web processes, schedulers, workers and senders made of the product's own parts, and callers."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_network
from typing import Any, cast

from tasks.scheduler.courier import Courier
from tasks.scheduler.process import Scheduler
from tasks.scheduler.sampler import Sampler
from tasks.scheduler.work_signal import WorkSignal
from tests.simulation.downstream import SimulatedOperation
from tests.simulation.invariants import Asked, Invariants
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
from tests.simulation.plan import SCHEDULERS, SENDERS, WEBS, WORKERS
from tests.simulation.stores import Faults, SimulatedDatabase
from tests.simulation.world import Process, World
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.errors import DatabaseUnreachableError, Refusal
from tidegate.execution.heartbeat import Heartbeat
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.execution.runner import Runner
from tidegate.gateway import Gateway
from tidegate.intake.admission import Admission
from tidegate.intake.submission import Submission
from tidegate.jobs.job import Job
from tidegate.notify.messages import CHANNEL, DELIVERIES
from tidegate.operations.operation import Body, Limits, Registry
from tidegate.states import State
from tidegate.stores import Store
from tidegate.webhooks.checks import WebhookChecks
from tidegate.webhooks.delivery import Webhook
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secrets import SecretStore
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
    Limits(name="narrow", concurrency=2, breaker_after=3),
    Limits(name="calls", rates=("10/s",), concurrency=4),
    Limits(name="free"),
)


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
    is_healthy: bool = False
    """From then on every downstream answers well."""

    def __post_init__(self) -> None:
        self.broker = Broker(self.world, self.line)
        self.hints = Hints(self.world, self.line)
        self.receivers = Receivers(self.world)
        self.registry = Registry(
            operations={limits.name: SimulatedOperation(self, limits.name) for limits in LIMITS},
            downstreams={limits.name: limits for limits in LIMITS},
        )
        self.gateways: dict[str, Gateway] = {}
        self.asked: dict[str, list[Asked]] = {}
        self._stopping: set[Process] = set()
        self._incarnations: dict[str, int] = {}

    def start(self) -> None:
        """Starts every process, as after a deployment."""
        onlooker = Store(self._database(self.world.nobody))
        onlooker.limits.declare(LIMITS)
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
        main = {"web": self._web, "scheduler": self._scheduler, "webhooks": self._sender}.get(
            role.split("-", maxsplit=1)[0]
        )
        self.world.spawn(f"{process.name}/main", lambda: (main or self._worker)(role, process), process)

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

    @property
    def _heartbeats(self) -> dict[Process, Heartbeat]:
        return self.__dict__.setdefault("_beating", {})

    def _database(self, process: Process) -> Database:
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

    def _web(self, role: str, process: Process) -> None:
        store = Store(self._database(process), retention=RETENTION)
        lanes = LaneCache(store, self.registry.downstreams)
        self.gateways[role] = Gateway(
            store.callers,
            store.submissions,
            self.registry,
            lanes,
            Admission(lanes=lanes, max_backlog=200),
            self._notifier(),
            store.deliveries,
            WebhookChecks(_EGRESS, SecretStore(store.database, lambda: _KEYS)),
        )

    def _scheduler(self, role: str, process: Process) -> None:
        world = self.world
        store = Store(self._database(process), retention=RETENTION)
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
        )
        sampler = Sampler(store.samples, work_signal)
        heard = SimulatedListener(world, self.hints, DELIVERIES, process)
        courier = Courier(store.sending, cast("Any", publisher), work_signal, cast("Any", heard))
        stopped = cast("Any", work_signal.jobs.__class__(world))
        for name, turn, wait in (
            ("sampler", sampler.run_once, lambda seconds: sampler.wait(seconds, stopped)),
            ("courier", courier.run_once, lambda seconds: courier.wait(seconds, stopped)),
        ):
            work = lambda turn=turn, wait=wait: self._again_and_again(turn, wait)  # noqa: E731
            world.spawn(f"{process.name}/{name}", work, process)
        self._again_and_again(scheduler.run_once, lambda seconds: scheduler.wait(seconds, stopped))

    def _worker(self, role: str, process: Process) -> None:
        queue = role.split("-", maxsplit=1)[0]
        open_attempts = OpenAttempts()
        self.invariants.workers[process.name] = process, open_attempts.all
        store, own = Store(self._database(process)), Store(self._database(process))
        runner = Runner(
            store,
            self.registry,
            worker=process.name,
            lease=LEASE,
            max_result=1_000_000,
            notifier=self._notifier(),
            handoff=SimulatedHandoff(self.world, self.hints, process),
            open_attempts=open_attempts,
        )
        heartbeat = self._heartbeat(own, process, queue, PLACES, open_attempts)
        self._consume(process, queue, PLACES, runner.run)
        heartbeat.start()
        self._notifier().ring()

    def _sender(self, role: str, process: Process) -> None:
        store = Store(self._database(process))
        secrets = SecretStore(store.database, cache(lambda: _KEYS))
        sender = SimulatedSender(
            store.sending, secrets, _EGRESS, timeout=_WEBHOOK_TIMEOUT, notifier=self._notifier(DELIVERIES)
        )
        sender.receivers = self.receivers
        heartbeat = self._heartbeat(store, process, WEBHOOKS, 2, OpenAttempts())
        self._consume(process, WEBHOOKS, 2, sender.run)
        heartbeat.start()

    def _heartbeat(self, store: Store, process: Process, queue: str, size: int, held: OpenAttempts) -> Heartbeat:
        def tell_all() -> None:
            self._notifier().ring()

        heartbeat = self._heartbeats[process] = Heartbeat(
            store.presence,
            worker=process.name,
            queue=queue,
            size=size,
            lease=LEASE,
            tell_all=tell_all,
            write_counts=lambda: None,
            open_attempts=held,
        )
        return heartbeat

    def _consume(self, process: Process, queue: str, places: int, run: Callable[[str, int], object]) -> None:
        def consume() -> None:
            while process not in self._stopping:
                run(*self.broker.take(queue))

        for place in range(places):
            self.world.spawn(f"{process.name}/place-{place}", consume, process)

    # Callers

    def submit(
        self,
        label: str,
        web: str,
        operation: str,
        timeout: float,
        later: float,
        has_key: bool,
        has_webhook: bool,
    ) -> None:
        """A caller submits a job, and then reads it again and again."""
        self.bulk([label], web, operation, timeout, later=later, has_key=has_key, has_webhook=has_webhook)

    def bulk(
        self,
        labels: Sequence[str],
        web: str,
        operation: str,
        timeout: float = 60.0,
        *,
        later: float = 0.0,
        has_key: bool = False,
        has_webhook: bool = False,
        retry_of: Asked | None = None,
    ) -> None:
        """A caller submits jobs together. What it is told is noted; if the process dies, it is told nothing."""
        not_before = self.world.now + later if later else 0.0
        requests = [
            Asked(label, has_webhook=has_webhook, has_key=has_key, not_before=not_before, downstream=operation)
            for label in labels
        ]
        for each in requests:
            self.asked.setdefault(each.label, []).append(each)
            self.invariants.asked.append(each)
        process = self.roles[web]
        if process.is_dead or web not in self.gateways:
            for each in requests:
                each.told = "refused"
            return

        wanted = self.world.wall() + timedelta(seconds=later) if later else None

        def ask() -> None:
            submissions = [
                Submission(
                    operation=operation,
                    body=Body(content=each.label.encode(), content_type="text/plain"),
                    client_id=IMPLICIT_CLIENT,
                    timeout=timedelta(seconds=timeout),
                    not_before=wanted,
                    idempotency_key=f"key of {each.label}" if has_key else None,
                    webhook=Webhook(url="http://127.0.0.1/told", base_url="http://gateway") if has_webhook else None,
                )
                for each in requests
            ]
            gateway = self.gateways[web]
            try:
                if retry_of and retry_of.job:
                    answers: Sequence[Job | Refusal] = [gateway.retry(_dashed(retry_of.job), client_id=None)]
                else:
                    answers = gateway.submit_each(submissions)
            except Refusal as refusal:
                answers = [refusal for _ in requests]
            except DatabaseUnreachableError as error:
                for each in requests:
                    each.told = "unknown" if error.may_be_done else "refused"
                    self.world.tell(f"{each.label} gets 503, {each.told}")
                return
            for each, answer in zip(requests, answers, strict=True):
                self._note(each, answer)

        self.world.spawn(f"{process.name}/submit {labels[0]} {len(self.asked[labels[0]])}", ask, process)

    def _note(self, asked: Asked, answer: Job | Refusal) -> None:
        if isinstance(answer, Refusal):
            asked.told = "refused"
            self.world.tell(f"{asked.label} is refused: {type(answer).__name__}")
            return
        asked.told, asked.job = "accepted", answer.id.replace("-", "")
        self.world.tell(f"{asked.label} is accepted as {asked.job}")
        self.world.spawn(f"caller/{asked.label}", lambda: self._read(asked, answer.id))

    def _read(self, asked: Asked, job_id: str) -> None:
        while True:
            self.world.sleep(0.2 + 2 * self.world.draw_here("poll"))
            try:
                job = self._gateway().get(job_id, client_id=None)
            except UNREACHABLE:
                continue
            except Refusal:
                return
            self.invariants.answered(asked, job.state, job.deadline.timestamp(), job.seen_at.timestamp())
            if job.state.is_final:
                return

    def _gateway(self) -> Gateway:
        return next(iter(self.gateways.values()))

    def act(self, what: str, label: str) -> None:
        """A caller cancels, erases or retries its job, if it knows of one."""
        for asked in self.asked.get(label, ())[:1]:
            if asked.job is None:
                return
            if what == "retry":
                self.bulk([f"{label} again"], WEBS[0], asked.downstream, retry_of=asked)
            else:
                work = self._cancel if what == "cancel" else self._erase
                self.world.spawn(f"caller/{label} {what}", lambda: work(asked))

    def _cancel(self, asked: Asked) -> None:
        job_id = _dashed(asked.job or "")
        try:
            job = self._gateway().cancel(job_id, client_id=None)
        except (*UNREACHABLE, Refusal):
            return
        self.world.tell(f"{asked.label} is answered: {job.state}, after it was asked to cancel it")
        asked.cancelled_fence = self.invariants.fence_of(asked.job or "")

    def _erase(self, asked: Asked) -> None:
        job = asked.job or ""
        self.invariants.erased.add(job)
        try:
            self._gateway().delete(_dashed(job), client_id=None)
        except (*UNREACHABLE, Refusal):
            return
        self.world.tell(f"{asked.label} is erased by its caller")

    def operate(self, lane: str, changes: dict[str, Any], *, paused: bool | None) -> None:
        """An operator changes limits of a lane, or pauses or resumes it."""

        def change() -> None:
            try:
                Store(self._database(self.world.nobody)).limits.change(lane, changes, paused=paused)
            except UNREACHABLE:
                return
            self.world.tell(f"{lane} is changed: {changes} paused={paused}", "operator")

        self.world.spawn(f"operator/{lane}", change)


class SimulatedSender(Sender):
    """A sender whose posts go to simulated receivers."""

    receivers: Receivers

    def _post(self, url: Any, headers: dict[str, str], body: bytes) -> tuple[int, str | None]:  # noqa: ARG002
        return self.receivers.post(headers["webhook-id"], body.decode()[:40]), None


class Surprises(logging.Handler):
    """Notes what the product logs as an error."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes in one line of the log."""
        if record.msg != "job %s: %s raised":  # an operation may raise what it likes
            text = record.getMessage()
            if record.exc_info and record.exc_info[1]:
                text = f"{text} ({record.exc_info[1]!r:.300})"
            self.errors.append(text)
            self._world.tell(f"logs an error: {text}")


def _dashed(job: str) -> str:
    return f"{job[:8]}-{job[8:12]}-{job[12:16]}-{job[16:20]}-{job[20:]}"


__all__ = ["LEASE", "LIMITS", "Cluster", "ExitStack", "State", "Surprises"]
