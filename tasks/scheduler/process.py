"""The scheduler's process: main loop and threads. Start it with `python -m tasks.scheduler`; any number may run."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TypeAlias

from config import logs
from config import tracing as spans
from config.database import check_sessions, open_database
from config.gc_freeze import freeze_loaded_objects
from config.registry import load_registry
from config.settings import settings
from tasks.health_file import HealthFile, health_file_path, show_process
from tasks.scheduler.courier import Courier
from tasks.scheduler.final_count import FinalJobCounter, SchedulerHeartbeat
from tasks.scheduler.publisher import NotSent, Publisher
from tasks.scheduler.sampler import Sampler
from tasks.scheduler.work_signal import WorkSignal
from tidegate import clock, tracing
from tidegate.database.connection import UNREACHABLE
from tidegate.dispatch.batches import NO_BATCHES
from tidegate.dispatch.gate import SLOW_LOOK_SECONDS, Gate
from tidegate.dispatch.known_operations import KnownOperations
from tidegate.dispatch.ownership import Ownership
from tidegate.errors import ConfigurationError, DatabaseTooSlowError
from tidegate.jobs.job import Released
from tidegate.maintenance.sweep import LONGEST_WAIT, MOST_ERASED, SWEEP_SECONDS, ClockWatch, sweep
from tidegate.metrics.counters import CountWriter
from tidegate.metrics.families import SWEPT, UNSENT
from tidegate.notify.listener import Listener, listener_for
from tidegate.notify.messages import DELIVERIES, parse_wakeup
from tidegate.notify.notifier import Notifier, notifier_for
from tidegate.operations.registry import Registry
from tidegate.stores import Store

log = logging.getLogger(__name__)

PRUNE_SECONDS = 10.0
# The interval after nothing was old enough to prune.
SLOW_PRUNE_SECONDS = 60.0
# Until then processes of another version, which still take jobs for a lane that is declared no more, are gone.
ROLL_SECONDS = 600.0
# The pause after a query that was too slow: repeated at once it would be as slow.
TOO_SLOW_SECONDS = 60.0
_PING_SECONDS = 0.1
_FOR_ALL = b""
# Longer than the sweep's largest step takes. Samples and counts have limits of their own.
_PATIENCE = timedelta(seconds=20)


class Scheduler:
    """The main loop: releases jobs through the gate, publishes them, and sweeps once a second."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        notifier: Notifier,
        listener: Listener | None,
        *,
        retention: timedelta,
        lease: timedelta,
        pulse: HealthFile,
        work_signal: WorkSignal,
        longest_wait: timedelta = LONGEST_WAIT,
        registry: Registry | None = None,
    ) -> None:
        self._store = store
        self._longest_wait = longest_wait
        self._work_signal = work_signal
        self._notifier = notifier
        self._pulse = pulse
        self._heartbeat = SchedulerHeartbeat(store.facts)
        self._listener = listener
        self._messages = [_FOR_ALL]
        known = KnownOperations(store.heartbeats, registry.operations) if registry else None
        self._ownership = Ownership(self._heartbeat.id)
        self._gate = Gate(
            *(store.lanes, lambda: listener is not None and listener.is_listening, known, self._ownership.is_mine),
            batched=registry.batched if registry else NO_BATCHES,
        )
        self._publisher = publisher
        self._retention = retention
        self._clock_watch = ClockWatch(lease)
        self._sweep_due = self._prune_due = 0.0
        self._registry = registry
        self._forget_due = clock.monotonic() + ROLL_SECONDS
        self._broker_is_up = True

    def run_once(self) -> float:
        """Runs one turn and touches the health file; returns the seconds until the next turn unless woken.

        A turn that the database did not answer raises, and touches nothing.
        """
        seconds = self._turn()
        self._pulse.beat()
        return seconds

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Waits until the next turn is due, or a message wakes it."""
        if self._listener is None:
            stopped.wait(seconds)
        elif messages := self._listener.hear(seconds):
            self._messages += messages

    def _turn(self) -> float:
        if clock.monotonic() >= self._sweep_due:
            self._look_after()
        if not self._broker_is_up and not self._find_broker():
            self._messages = [_FOR_ALL]
            return _PING_SECONDS
        messages, self._messages = self._messages, []
        turn = self._gate.run_once(parse_wakeup(messages))
        if turn.released:
            try:
                self._broker_is_up = self._publisher.send(turn.released)
            except NotSent as error:
                log.warning("the broker is away, %d release(s) taken back: %s", len(error.unsent), error)
                self._store.lanes.take_back(error.unsent)
                for job in error.unsent:
                    self._store.counts.add(UNSENT, job.queue)
                self._broker_is_up = False
                return _PING_SECONDS
            if tracing.is_on():
                _trace(turn.released)
        return min(turn.look_again_seconds, max(0.0, self._sweep_due - clock.monotonic()))

    def end(self) -> None:
        """Removes the scheduler's heartbeat, when it stops."""
        self._heartbeat.end()

    def _look_after(self) -> None:
        self._heartbeat.beat()
        prunes = clock.monotonic() >= self._prune_due
        outlook = self._store.upkeep.read_outlook()
        self._work_signal.update(outlook)
        self._ownership.update(outlook.schedulers)
        swept = sweep(
            self._store.upkeep,
            retention=self._retention,
            watch=self._clock_watch,
            longest_wait=self._longest_wait,
            prunes=prunes,
            outlook=outlook,
        )
        if prunes and swept.pruned < MOST_ERASED:
            self._prune_due = clock.monotonic() + (PRUNE_SECONDS if swept.pruned else SLOW_PRUNE_SECONDS)
        if self._registry and clock.monotonic() >= self._forget_due:
            for name in self._store.limits.forget_undeclared(self._registry.downstreams):
                log.info("the downstream %r is forgotten: it is idle, and declared no more", name)
            self._forget_due = clock.monotonic() + SLOW_PRUNE_SECONDS
        if swept.total:
            self._messages.append(_FOR_ALL)
            log.info("swept: %s", swept)
            for action, number in asdict(swept).items():
                self._store.counts.add(SWEPT, action, by=number)
        if swept.expired or swept.rescued:
            self._notifier.notify_jobs_changed()
        self._sweep_due = clock.monotonic() + (0.0 if swept.is_full else SWEEP_SECONDS)
        if not (outlook.jobs_wait or swept.total):
            self._gate.nothing_waits()

    def _find_broker(self) -> bool:
        self._broker_is_up = self._publisher.is_up()
        if self._broker_is_up:
            log.info("the broker is back")
        return self._broker_is_up


def _trace(released: Sequence[Released]) -> None:
    for job in released:
        what = {"job.id": job.job_id, "operation": job.operation, "queue": job.queue}
        tracing.happened("release", parent=job.traceparent, seconds=job.waited.total_seconds(), **what)


def tell_of_undeclared(store: Store, registry: Registry) -> None:
    """Logs which jobs wait for operations that are declared no more: renamed, removed, or of a module that is gone."""
    try:
        waiting = store.lanes.waiting_operations()
    except DatabaseTooSlowError as error:
        log.warning("which operations jobs wait for is not known: %s", error)
        return
    for operation, number in sorted(waiting.items()):
        if operation not in registry.operations:
            log.warning(
                "%d job(s) wait for the operation %r, which is not declared: without a worker that runs it they expire",
                *(number, operation),
            )


_Wait: TypeAlias = Callable[[float, threading.Event], object]


def run(turn: Callable[[], float], wait: _Wait, stopped: threading.Event) -> None:
    """Runs turns until stopped. An exception is logged, and the next turn follows a second later."""
    while not stopped.is_set():
        try:
            seconds = turn()
        except UNREACHABLE as error:
            log.warning("the database can't be reached: %s", error)
            seconds = SLOW_LOOK_SECONDS
        except DatabaseTooSlowError as error:
            log.warning("%s: %s; the next try is in a minute", threading.current_thread().name, error)
            seconds = TOO_SLOW_SECONDS
        except Exception:
            log.exception("a turn of the scheduler failed")
            seconds = SLOW_LOOK_SECONDS
        if seconds > 0:
            wait(seconds, stopped)


def main() -> int:
    """Runs the scheduler until SIGTERM or SIGINT; returns the exit code."""
    try:
        current = settings()
        registry = load_registry(current)
        check_sessions(current)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        return 2
    logs.configure(current, "scheduler")
    spans.start("scheduler")
    show_process(current.run_folder, "scheduler")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    store = Store(open_database(current, pool_size=3, patience=_PATIENCE), fills=registry.fills)
    store.counted.know_operations(registry.downstream_of)
    work_signal = WorkSignal()
    scheduler = Scheduler(
        store,
        Publisher(registry),
        notifier_for(current.bell),
        listener_for(current.bell),
        retention=current.retention,
        lease=timedelta(seconds=current.lease_seconds),
        pulse=HealthFile(health_file_path(current.run_folder, "scheduler")),
        work_signal=work_signal,
        registry=registry,
        longest_wait=max([LONGEST_WAIT, *(each.retry.max_delay for each in registry.operations.values())]),
    )
    while not stopped.is_set():
        try:
            store.limits.declare(registry.downstreams.values())
            tell_of_undeclared(store, registry)
            break
        except UNREACHABLE as error:
            log.warning("the database can't be reached: %s", error)
            stopped.wait(SLOW_LOOK_SECONDS)
    log.info("scheduler of %d downstream(s)", len(registry.downstreams))
    sampler = Sampler(store.samples, store.scale, work_signal)
    final_job_counter = FinalJobCounter(store.facts)
    courier = Courier(store.sending, Publisher(registry), work_signal, listener_for(current.bell, DELIVERIES))
    beside: dict[str, tuple[Callable[[], float], _Wait]] = {
        "sampler": (sampler.run_once, sampler.wait),
        "census": (final_job_counter.run_once, lambda seconds, stopped: stopped.wait(seconds)),
        "courier": (courier.run_once, courier.wait),
    }
    for name, (turn, wait) in beside.items():
        threading.Thread(target=run, args=(turn, wait, stopped), name=name, daemon=True).start()
    writer = CountWriter(store.counts, store.counted.add)
    writer.start()
    freeze_loaded_objects()
    run(scheduler.run_once, scheduler.wait, stopped)
    log.info("scheduler stops")
    try:
        scheduler.end()
    except UNREACHABLE as error:
        log.warning("the database can't be reached: %s", error)
    writer.stop()
    spans.stop()
    return 0
