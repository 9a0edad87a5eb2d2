"""What runs in a worker process beside Celery: its runner or sender, its heartbeat, and an orderly stop."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery import signals
from celery.worker import state

from config import logs, tracing
from config.database import check_sessions, open_database
from config.gc_freeze import freeze_loaded_objects
from config.sealing_keys import load_sealer
from config.settings import settings
from config.webhook_keyring import check_keyring
from tasks.health_file import HealthFile, health_file_path, show_process
from tasks.worker import process_tree
from tasks.worker.command import POOLS
from tasks.worker.priority import lower_priority
from tasks.worker.retirement import allow_retirement
from tasks.worker.runners import (
    PATIENCE,
    WORKER_ID,
    asked_concurrency,
    count_writers,
    notifier,
    open_attempts,
    registry,
    runner,
)
from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import ConfigurationError
from tidegate.execution.heartbeat import Heartbeat
from tidegate.metrics.counters import CountWriter
from tidegate.operations.queues import BUILT_IN, WEBHOOKS, Pool
from tidegate.operations.registry import Registry
from tidegate.stores import Store

log = logging.getLogger(__name__)

_heartbeats: list[Heartbeat] = []
_handlers: list[Any] = []


@signals.celeryd_init.connect
def _prepare(sender: str, options: Mapping[str, Any], **_: Any) -> None:
    """Configures logging and checks the settings before anything else; a bad one stops the start by its name."""
    try:
        current, name = settings(), sender.partition("@")[0]
        signals.setup_logging.connect(lambda **_: logs.configure(current, name), weak=False)
        if options.get("queues") == [WEBHOOKS]:  # a sender of webhooks needs no downstream's secret
            check_keyring(current)
        else:
            registry()
            load_sealer(current)
        check_sessions(current)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        sys.exit(2)
    asked_concurrency.append(options.get("concurrency") or 0)
    process_tree.install()
    lower_priority(current.worker_nice)  # inherited by the children, as is the next line
    freeze_loaded_objects()


@signals.celeryd_init.connect
def _show_pulse(sender: str, **_: Any) -> None:
    """Touches the health file while Celery's consumer is connected and the database takes heartbeats.

    The other file says only that the process lives.

    Celery sends this signal every 2 s while it is connected.
    """
    folder, name = settings().run_folder, sender.partition("@")[0]
    show_process(folder, name)
    pulse = HealthFile(health_file_path(folder, name))

    def beat(**_: Any) -> None:
        if any(heartbeat.is_heard for heartbeat in _heartbeats):
            pulse.beat()

    signals.heartbeat_sent.connect(beat, weak=False)


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    """Starts the heartbeat, by which the gate counts this worker."""
    if _heartbeats:
        return
    controller = sender.controller
    queues = set(controller.app.amqp.queues.consume_from)
    # A sender of webhooks knows no operations: it has not what their secrets refer to.
    known = None if queues == {WEBHOOKS} else registry()
    is_prefork = controller.pool_cls.__module__ == "celery.concurrency.prefork"
    if known and (fault := _queue_fault(queues, known, is_prefork=is_prefork)):
        log.error("%s", fault)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    lease = timedelta(seconds=settings().lease_seconds)
    # A heartbeat without an answer must leave time for another within the lease.
    own = Store(open_database(settings(), pool_size=1, patience=min(PATIENCE, lease / 2)))
    if known:
        own.counted.know_operations(known.downstream_of)
    heartbeat = Heartbeat(
        own.heartbeats,
        worker=WORKER_ID,
        queue=queues.pop(),
        size=controller.concurrency,
        lease=lease,
        children=(lambda: set(controller.pool.info["processes"])) if is_prefork else None,
        wake_all=_wake_all,
        # No thread of its own, which a fork could catch inside the database's client library.
        write_counts=CountWriter(own.counts, own.counted.add).turn,
        open_attempts=open_attempts,
        operations=[*known.operations] if known else None,
    )
    _heartbeats.append(heartbeat)
    sender.tell_whether_it_hears = heartbeat.hears
    allow_retirement(sender.stop_taking, is_idle=lambda: not state.reserved_requests)
    heartbeat.start()
    notifier().wake_scheduler()
    freeze_loaded_objects()


def _queue_fault(queues: AbstractSet[str], known: Registry, *, is_prefork: bool) -> str | None:
    """Why a worker can't serve these queues; None: it can."""
    if len(queues) != 1 or not queues <= known.queues.keys():
        choice = ", -Q ".join([*known.queues, WEBHOOKS])
        return f"start a worker with exactly one of -Q {choice}, not {', '.join(sorted(queues))}"
    (queue,) = queues
    pool = known.queues[queue]
    # The built-in ones are served as their workers are started.
    if queue not in BUILT_IN and is_prefork != (pool is Pool.PROCESSES):
        return f"the queue {queue} is declared with {pool}: start its worker with --pool {POOLS[pool]}"
    return None


def _wake_all() -> None:
    """Wakes the scheduler and all waiting requests: jobs were taken from attempts and are queued again."""
    notifier().wake_scheduler()
    notifier().notify_jobs_changed()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    """Prepares a forked child: it connects now and not at its first job."""
    runner()
    process_tree.allow_children()
    signals.task_prerun.connect(_die_of_sigterm, weak=False)
    signals.task_postrun.connect(_end_attempt, weak=False)
    freeze_loaded_objects()


def _die_of_sigterm(**_: Any) -> None:
    """Lets SIGTERM kill the child at once during a job.

    It is how billiard begins a hard limit, and its handler would raise SystemExit inside the operation: an attempt that
    was ended would count as one that failed.
    """
    _handlers.append(signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _end_attempt(**_: Any) -> None:
    """Ends what the attempt has started, and restores billiard's SIGTERM handler: it releases the queue's lock."""
    if ended := process_tree.end_children():
        log.warning("%d process(es) that an attempt had started and left behind were ended", ended)
    signal.signal(signal.SIGTERM, _handlers.pop())


@signals.worker_process_shutdown.connect
def _end_child(**_: Any) -> None:
    """Writes a child's last two seconds of counts."""
    _stop_writers()


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    """Handles the first SIGTERM: Celery takes no more work; what still runs after the grace is handed back."""
    threading.Thread(target=_stop_after_grace, name="grace", daemon=True).start()


def _stop_after_grace() -> None:
    clock.sleep(settings().grace_seconds)
    log.warning("grace is over, what still runs is handed back")
    descendants = process_tree.descendants()
    _hand_back()
    _stop_writers()
    for each in descendants:  # some may have left the group
        with suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)
    # Threads can't be ended from outside, and Celery would wait for them; children end with their group's leader.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)  # also for the first process of a container, whom its own SIGKILL spares


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    """Ends a worker whose attempts all ended within the grace."""
    _hand_back()
    _stop_writers()


def _stop_writers() -> None:
    while count_writers:
        count_writers.pop().stop()
    tracing.stop()


def _hand_back() -> None:
    while _heartbeats:
        try:
            handed_back = _heartbeats.pop().stop()
        except UNREACHABLE as error:
            log.warning("the database can't be reached, leases will run out instead: %s", error)
            return
        if handed_back:
            log.warning("%d job(s) handed back to run elsewhere", handed_back)
            _wake_all()
            clock.sleep(0.05)  # the notifier publishes from a thread
