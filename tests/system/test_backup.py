"""The embedded default is backed up while it works, and goes on from the copy: the commands of docs/operating.md."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.gateway import OPERATIONS, Gateway
from tests.support.http_server import HttpServer, respond, serving
from tests.support.operating import commands
from tests.support.persistent_client import PersistentClient
from tests.support.processes import REPOSITORY
from tests.support.shell import sh
from tests.support.waiting import wait_until
from tests.support.webhooks import verified

ORDER = {"sku": "A-100", "quantity": 3}


class Downstream:
    """Takes a call and says nothing until it is told to; from then on it answers at once."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.may_answer = threading.Event()
        server.answer = self._answer

    def _answer(self, connection: socket.socket) -> None:
        self.may_answer.wait(60)
        respond(200, b"{}", content_type="application/json")(connection)


@pytest.fixture
def downstream() -> Iterator[Downstream]:
    """A silent one."""
    with serving() as server:
        silent = Downstream(server)
        yield silent
        silent.may_answer.set()


@pytest.fixture
def receiver() -> Iterator[HttpServer]:
    """Of webhooks."""
    with serving() as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, downstream: Downstream) -> Iterator[Gateway]:
    """A stack with an operation at the silent downstream."""
    operations = f'{OPERATIONS}\n[operations.silent]\nurl = "{downstream.server.url}"\nattempt_timeout = "50s"\n'
    settings = {"LEASE_SECONDS": "2", "GRACE_SECONDS": "1", "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    stack = Gateway(tmp_path, operations=operations, settings=settings)
    stack.start()
    yield stack
    if stack.process.is_running:
        stack.stop()


def follow(heading: str, gateway: Gateway, backups: Path) -> None:
    """Types what the page says under a heading, with these folders."""
    for command in commands(heading, data=gateway.data, backups=backups):
        if command == "make run":
            gateway.start()
        else:
            sh(command, cwd=REPOSITORY)


def accepted(gateway: Gateway, operation: str, **headers: str) -> str:
    """The URL of a job that is taken."""
    answer = gateway.submit(operation, json=ORDER, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def pause(gateway: Gateway, *, paused: bool) -> None:
    """Lets no quote go, or all."""
    assert gateway.client.patch("/v1/downstreams/sample", json={"paused": paused}).status_code == 200


def test_from_a_copy_made_under_load_every_job_that_is_in_it_goes_on(
    gateway: Gateway, downstream: Downstream, receiver: HttpServer, tmp_path: Path
) -> None:
    secret = gateway.client.post("/v1/webhook-secrets").json()["secret"]
    done = accepted(gateway, "quote")
    assert gateway.wait_final(done).status_code == 200
    pause(gateway, paused=True)
    running = accepted(gateway, "silent")
    wait_until(lambda: downstream.server.received, description="its call has begun")
    queued = accepted(gateway, "quote", **{"Webhook-Url": receiver.url})
    folder = tmp_path / "backups"

    with PersistentClient(gateway.client, per_second=20) as load:
        wait_until(lambda: len(load.accepted) > 5, description="there is a load")
        before = list(load.accepted)
        follow("Back up the embedded default", gateway, folder)
    late = accepted(gateway, "quote")
    gateway.stop()
    sh(f"rm -r {gateway.data}", cwd=tmp_path)
    gateway.data.mkdir()

    downstream.may_answer.set()
    gateway.client = httpx2.Client(base_url=gateway.url, timeout=10, trust_env=False)
    follow("Restore the embedded default", gateway, folder)

    assert gateway.client.get(done).json()["result"]["sku"] == "A-100"
    assert gateway.client.get(queued).status_code == 202
    assert gateway.client.get(late).status_code == 404, "what came after the copy is lost"
    pause(gateway, paused=False)
    assert {gateway.wait_final(url).status_code for url in (running, queued, *before)} == {200}
    keys = [received.headers["idempotency-key"] for received in downstream.server.received]
    assert len(keys) == 2, "the call was repeated"
    assert len(set(keys)) == 1, "under the same key"
    wait_until(lambda: receiver.received, description="the webhook has come")
    assert verified(receiver.received[0], secret)["type"] == "job.succeeded"
