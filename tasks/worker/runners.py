"""What a worker process makes its attempts with: registry, notifier, runners, sender. Each is made on first use."""

import uuid
from datetime import timedelta
from typing import Any

from config import tracing
from config.database import open_database
from config.registry import load_registry_with_secrets
from config.sealing_keys import load_sealer
from config.settings import settings
from config.webhook_keyring import load_keyring
from tasks.worker.singleton import once
from tidegate.execution.batch_runner import BatchRunner
from tidegate.execution.handoff import handoff_for
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.execution.runner import Runner
from tidegate.execution.token_keeper import TokenKeeper
from tidegate.metrics.counters import CountWriter
from tidegate.notify.messages import DELIVERIES
from tidegate.notify.notifier import Notifier, notifier_for
from tidegate.operations.registry import Registry
from tidegate.stores import Store
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore
from tidegate.webhooks.sender import Sender

# Made before any fork: children claim in the name of their parent, which renews the leases of all of them.
WORKER_ID = uuid.uuid4().hex
# A statement without an answer is given up after this, and made again on another connection.
PATIENCE = timedelta(seconds=10)
open_attempts = OpenAttempts()
count_writers: list[CountWriter] = []
asked_concurrency: list[int] = []
"""How many attempts side by side the command line asks for."""
_CONNECTIONS_BESIDE_ATTEMPTS = 2


@once
def registry() -> Registry:
    """The registry of operations, with secrets: loaded once, before any fork."""
    return load_registry_with_secrets(settings())


@once
def notifier() -> Notifier:
    """This process's notifier."""
    return notifier_for(settings().bell)


@once
def runner() -> Runner:
    """This process's runner. Made on first use, so that a forked child has connections of its own."""
    return Runner(**_of_runners())


@once
def batch_runner() -> BatchRunner:
    """This process's runner of batches."""
    return BatchRunner(**_of_runners())


@once
def _of_runners() -> dict[str, Any]:
    """What the two runners are made with, and share."""
    current = settings()
    store = _store(max(current.io_concurrency, *asked_concurrency, 0))
    store.counted.know_operations(registry().downstream_of)
    return {
        "store": store,
        "registry": registry(),
        "worker": WORKER_ID,
        "lease": timedelta(seconds=current.lease_seconds),
        "max_result": current.max_result,
        "notifier": notifier(),
        "handoff": handoff_for(current.bell),
        "open_attempts": open_attempts,
        "tokens": TokenKeeper(store.tokens, load_sealer(current)),
    }


@once
def sender() -> Sender:
    """This process's sender of webhooks, which knows nothing of operations and their secrets."""
    current = settings()
    store = _store(current.webhook_concurrency)
    return Sender(
        store.sending,
        SecretStore(store.database, once(lambda: load_keyring(current))),
        Egress(current.webhook_networks),
        timeout=current.webhook_timeout,
        ca_file=current.ca_file,
        notifier=notifier_for(current.bell, DELIVERIES),
    )


def _store(attempts: int) -> Store:
    """The stores for so many attempts side by side; also starts writing this process's counts."""
    tracing.start("worker")
    pool_size = attempts + _CONNECTIONS_BESIDE_ATTEMPTS
    store = Store(open_database(settings(), pool_size=pool_size, patience=PATIENCE))
    writer = CountWriter(store.counts, store.counted.add)
    writer.start()
    count_writers.append(writer)
    return store
