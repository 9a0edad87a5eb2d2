"""Webhooks with real processes: a worker, a scheduler and a broker that die, and receivers that hang."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config.settings import Settings
from config.webhook_keyring import load_keyring
from tests.support.http_server import HttpServer, respond
from tests.support.jobs import row_of, submit
from tests.support.node_fixtures import StartWorker
from tests.support.nodes import SchedulerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.webhooks import attempts_at, delivery_of, to, verified
from tidegate.database.schema import IMPLICIT_CLIENT, deliveries
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.stores import Store
from tidegate.webhooks.secret_store import SecretStore

on_both = pytest.mark.both_databases("what a process that died had in hand is found by SQL")

pytestmark = pytest.mark.long  # workers, broker and scheduler are killed

# Long enough for a loaded machine; what is waited for takes a lease, 12 s, at the most.
PATIENCE = 60
TIMEOUT_SECONDS = 2


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """Loopback is open, and a sending takes at most 2 s."""
    return {
        **default_worker_env,
        "TIDEGATE_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "TIDEGATE_WEBHOOK_TIMEOUT": f"{TIMEOUT_SECONDS}s",
    }


@pytest.fixture
def secret(store: Store, tmp_path: Path) -> str:
    """A secret under the key in the data folder that the workers share."""
    settings = Settings(_env_file=None, data=tmp_path / "data")
    secrets = SecretStore(store.database, cache(lambda: load_keyring(settings)))
    return secrets.rotate(IMPLICIT_CLIENT, overlap=settings.retention)[1]


@pytest.fixture
def hanging() -> Iterator[list[str]]:
    """URLs of twelve receivers on addresses of their own that take everything and never answer."""
    with ExitStack() as listeners:
        urls = []
        for number in range(2, 14):
            # Nobody accepts: the system does so by itself, and the bytes lie there.
            listener = listeners.enter_context(socket.create_server((f"127.0.0.{number}", 0), backlog=128))
            urls.append(f"http://127.0.0.{number}:{listener.getsockname()[1]}/")
        yield urls


def cancelled_job(store: Store, url: str) -> str:
    """A job that has ended, told there; no worker was needed."""
    job_id = submit(store, webhook=to(url))
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    return job_id


def in_flight_elsewhere(store: Store, receiver: HttpServer) -> int:
    """How many places are taken by others than this receiver."""
    others = [deliveries.c.lease_until > database_now(), deliveries.c.url != receiver.url]
    return required(store.database.fetch_one(select(func.count()).select_from(deliveries).where(*others)))[0]


def await_delivery(store: Store, job_id: str) -> None:
    """Waits until it was taken."""
    wait_until(
        lambda: delivery_of(store, job_id).state == "delivered",
        description=f"the end of {job_id} was told",
        timeout_seconds=PATIENCE,
    )


def _has_succeeded(store: Store, job_id: str) -> bool:
    return bool(row_of(store, job_id).state == "succeeded")


@on_both
@pytest.mark.usefixtures("scheduler", "celery_worker")
def test_receivers_that_hang_slow_neither_jobs_nor_other_receivers(
    store: Store, receiver: HttpServer, secret: str, hanging: list[str], start_worker: StartWorker
) -> None:
    start_worker("webhooks", concurrency=8)
    known = cancelled_job(store, receiver.url)
    await_delivery(store, known)
    stuck = [cancelled_job(store, url) for url in hanging * 3]
    wait_until(lambda: any(attempts_at(store, each) for each in stuck), description="one of them hangs")
    jobs = [submit(store, lane="echo", webhook=to(hanging[0])) for _ in range(10)]
    told = [cancelled_job(store, receiver.url) for _ in range(20)]
    most_stuck = 0
    while any(delivery_of(store, job_id).state != "delivered" for job_id in told):
        most_stuck = max(most_stuck, in_flight_elsewhere(store, receiver))
        time.sleep(0.05)
    assert 1 <= most_stuck <= 4, "those that nobody knows have half of the eight places"
    for job_id in jobs:
        wait_until(
            partial(_has_succeeded, store, job_id),
            description="a job was done",
            timeout_seconds=PATIENCE,
        )
    assert len(receiver.received) == 21
    assert all(verified(each, secret) for each in receiver.received)
    assert [delivery_of(store, job_id).state for job_id in stuck] == ["pending"] * len(stuck)


@on_both
@pytest.mark.usefixtures("scheduler")
def test_a_worker_killed_in_the_middle_loses_nothing(
    store: Store, receiver: HttpServer, secret: str, start_worker: StartWorker
) -> None:
    reached = threading.Event()
    receiver.answer = lambda _: reached.set()
    worker = start_worker("webhooks")
    job_id = cancelled_job(store, receiver.url)
    assert reached.wait(PATIENCE)
    worker.kill()
    receiver.answer = respond(200)
    start_worker("webhooks", name="webhooks-2")
    await_delivery(store, job_id)
    lost, sent = attempts_at(store, job_id)
    assert "died" in lost.error
    assert (lost.status, sent.status) == (None, 200)
    first, second = receiver.received
    assert first.body == second.body
    assert verified(second, secret)["data"]["id"] == job_id


@pytest.mark.usefixtures("secret")
def test_a_wiped_broker_and_a_killed_scheduler_lose_nothing(
    store: Store, receiver: HttpServer, broker: Valkey, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    worker = start_worker("webhooks")
    worker.freeze()
    on_its_way = cancelled_job(store, receiver.url)
    wait_until(
        lambda: delivery_of(store, on_its_way).fence > 0, description="it was released", timeout_seconds=PATIENCE
    )
    broker.process.kill()
    scheduler.kill()
    not_yet = cancelled_job(store, receiver.url)
    worker.thaw()
    broker.start()
    scheduler.restart()
    for job_id in (on_its_way, not_yet):
        await_delivery(store, job_id)
    assert {each.headers["webhook-id"] for each in receiver.received} == {on_its_way, not_yet}
