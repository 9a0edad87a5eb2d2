"""What a worker process has beside Celery: its runner, its heartbeat, and how it stops."""

import logging
import os
import signal
import sys
import threading
import uuid
from datetime import timedelta
from functools import cache
from typing import Any

from celery import signals

from config import logs
from config.registry import load_registry_with_secrets
from config.settings import settings
from tidegate import clock
from tidegate.database import UNREACHABLE, Database
from tidegate.errors import ConfigurationError
from tidegate.heartbeat import Heartbeat
from tidegate.operations import Queue, Registry
from tidegate.runner import Runner
from tidegate.store import PresenceStore, Store
from tidegate.wake import Bell, bell_for

log = logging.getLogger(__name__)

# Made before any fork: children claim in the name of their parent, which renews the leases of all of them.
WORKER_ID = uuid.uuid4().hex
_heartbeats: list[Heartbeat] = []
_handlers: list[Any] = []
_CONNECTIONS_BESIDE_ATTEMPTS = 2
# A connection that a network lost without a word is given up after this, and the statement is made again.
_PATIENCE = timedelta(seconds=10)


@cache
def registry() -> Registry:
    """The operations, with secrets: loaded once, before any fork."""
    return load_registry_with_secrets(settings())


@cache
def bell() -> Bell:
    """This process's bell."""
    return bell_for(settings().broker_url)


@cache
def runner() -> Runner:
    """This process's runner. Made on first use, so that a forked child has connections of its own."""
    current = settings()
    return Runner(
        Store(
            Database(
                current.database,
                pool_size=current.io_concurrency + _CONNECTIONS_BESIDE_ATTEMPTS,
                patience=_PATIENCE,
            )
        ),
        registry(),
        worker=WORKER_ID,
        lease=timedelta(seconds=current.lease_seconds),
        max_result=current.max_result,
        bell=bell(),
    )


@signals.celeryd_init.connect
def _prepare(sender: str, **_: Any) -> None:
    """Before anything else: logs by our format, and a bad setting stops the start by its name."""
    try:
        level, name = settings().log_level, sender.partition("@")[0]
        signals.setup_logging.connect(lambda **_: logs.configure(level, name), weak=False)
        registry()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        sys.exit(2)


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    """Tells the gate that this worker is there. Also called after a reconnect to the broker, then does nothing."""
    if _heartbeats:
        return
    controller = sender.controller
    queues = set(controller.app.amqp.queues.consume_from)
    if len(queues) != 1 or not queues <= set(Queue):
        log.error("start a worker with exactly one of -Q %s, not %s", ", -Q ".join(Queue), ", ".join(sorted(queues)))
        os.kill(os.getpid(), signal.SIGTERM)
        return
    is_prefork = controller.pool_cls.__module__ == "celery.concurrency.prefork"
    heartbeat = Heartbeat(
        PresenceStore(Database(settings().database, pool_size=1, patience=_PATIENCE)),
        worker=WORKER_ID,
        queue=queues.pop(),
        size=controller.concurrency,
        lease=timedelta(seconds=settings().lease_seconds),
        children=(lambda: set(controller.pool.info["processes"])) if is_prefork else None,
        after_take_back=bell().ring,
    )
    _heartbeats.append(heartbeat)
    heartbeat.start()
    bell().ring()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    """A forked child connects now and not at its first job."""
    runner()
    signals.task_prerun.connect(_die_of_sigterm, weak=False)
    signals.task_postrun.connect(_exit_on_sigterm, weak=False)


def _die_of_sigterm(**_: Any) -> None:
    """During a job SIGTERM ends the child at once. It is how billiard begins a hard limit, and its handler would raise
    SystemExit inside the operation: an attempt that was ended would count as one that failed."""
    _handlers.append(signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _exit_on_sigterm(**_: Any) -> None:
    """Between jobs billiard's handler stands again: it gives the queue's lock back."""
    signal.signal(signal.SIGTERM, _handlers.pop())


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    """The first SIGTERM: Celery takes no more work; what still runs after the grace is handed back."""
    threading.Thread(target=_stop_after_grace, name="grace", daemon=True).start()


def _stop_after_grace() -> None:
    clock.sleep(settings().grace_seconds)
    log.warning("grace is over, what still runs is handed back")
    _hand_back()
    # Threads can't be ended from outside, and Celery would wait for them; children end with their group's leader.
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(0)


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    """Everything has ended within the grace."""
    _hand_back()


def _hand_back() -> None:
    while _heartbeats:
        try:
            handed_back = _heartbeats.pop().stop()
        except UNREACHABLE as error:
            log.warning("the database can't be reached, leases will run out instead: %s", error)
            return
        if handed_back:
            log.warning("%d job(s) handed back to run elsewhere", handed_back)
            bell().ring()
            clock.sleep(0.05)  # the bell rings from a thread
