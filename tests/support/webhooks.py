"""Webhooks in tests: a gateway's hand to send them, receivers on loopback, and the verifier of Standard Webhooks."""

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import Row, case, select, update
from standardwebhooks import Webhook as Verifier

from tests.support.http_server import Received
from tests.support.jobs import open_lane, running
from tidegate.database.schema import IMPLICIT_CLIENT, deliveries, delivery_attempts, receivers
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.outcome import Succeeded
from tidegate.operations.queues import WEBHOOKS
from tidegate.stores import Store
from tidegate.webhooks.delivery import Webhook
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore
from tidegate.webhooks.sender import Sender
from tidegate.webhooks.signing import Keyring

KEYS = Keyring([b"k" * 32])
LOOPBACK = Egress([ip_network("127.0.0.0/8")])
BASE_URL = "https://gateway.example"


def to(url: str) -> Webhook:
    """A webhook to this URL."""
    return Webhook(url=url, base_url=BASE_URL)


def secrets_of(store: Store) -> SecretStore:
    """The secrets of this database, under the tests' key."""
    return SecretStore(store.database, cache(lambda: KEYS))


def make_secret(store: Store, client_id: str = IMPLICIT_CLIENT) -> str:
    """A secret as its client gets it."""
    return secrets_of(store).rotate(client_id, overlap=timedelta(days=1))[1]


def sender_of(store: Store, *, timeout: float = 15, egress: Egress = LOOPBACK, ca_file: Path | None = None) -> Sender:
    """One who sends; the timeout in seconds."""
    return Sender(
        store.sending,
        secrets_of(store),
        egress,
        timeout=timedelta(seconds=timeout),
        notifier=SilentNotifier(),
        ca_file=ca_file,
    )


def open_senders(store: Store, *, places: int = 8) -> None:
    """A live worker that sends so many side by side."""
    store.heartbeats.beat("webhooks-1", queue=WEBHOOKS, size=places, until=timedelta(minutes=5))


def send_due(store: Store, **options: Any) -> int:
    """Releases what may go now and sends it, one after the other; how many were sent."""
    open_senders(store)
    sender = sender_of(store, **options)
    return sum(sender.run(each.job_id, each.fence) for each in store.sending.release())


def verified(received: Received, secret: str) -> dict[str, Any]:
    """The payload, when the verifier takes it."""
    payload: dict[str, Any] = Verifier(secret).verify(received.body, dict(received.headers))
    assert payload == json.loads(received.body)
    return payload


def delivery_of(store: Store, job_id: str) -> Row[Any]:
    """The delivery's row as it lies there."""
    return required(store.database.fetch_one(select(deliveries).where(deliveries.c.job_id == job_id)))


def attempts_at(store: Store, job_id: str) -> Sequence[Row[Any]]:
    """The delivery's attempts, in order."""
    made = select(delivery_attempts).where(delivery_attempts.c.job_id == job_id).order_by(delivery_attempts.c.number)
    return store.database.fetch_all(made)


def receivers_of(store: Store) -> dict[str, Row[Any]]:
    """What is known of receivers, by name."""
    return {row.name: row for row in store.database.fetch_all(select(receivers))}


def change_delivery(store: Store, job_id: str, **values: Any) -> None:
    """Writes columns past every guard: what time would have done."""
    store.database.execute(update(deliveries).where(deliveries.c.job_id == job_id).values(**values))


def wake_receivers(store: Store) -> None:
    """Their rests are over."""
    store.database.execute(update(receivers).values(rests_until=None))


def make_due(store: Store, job_id: str) -> None:
    """Its next attempt is due: its lease ran out, its receiver has rested."""
    past = database_now(-timedelta(milliseconds=1))
    leased = case((deliveries.c.lease_until.is_not(None), past), else_=None)
    change_delivery(store, job_id, run_at=past, lease_until=leased)
    wake_receivers(store)


def ended_job(store: Store, url: str, *, content: bytes = b'{"sum":3}', is_json: bool = True) -> str:
    """A job that succeeded and is to be told there; its id."""
    open_lane(store)
    claimed = running(store, webhook=to(url))
    kind = "application/json" if is_json else "text/csv"
    result = Succeeded(content=content, content_type=kind, is_json=is_json)
    assert store.workers.succeed(claimed, result, call_seconds=None)
    return claimed.job_id
