"""The whole stack over TLS to its broker, with certificates of an authority of one's own on both sides."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from config.broker_url import check_broker_url
from tasks.brokers.options import settings_for
from tests.support import rabbitmq, run
from tests.support.gateway import Gateway
from tests.support.rabbitmq import RabbitMQ
from tests.support.tls import Certificates, TlsProxy
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tidegate.notify.messages import connect, has_pubsub

# Of which a busy machine spends most on starting RabbitMQ.
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A server that wants TLS and a client's certificate; `address`: its URL without the files."""

    address: str
    certificates: Certificates

    @property
    def url(self) -> str:
        files = self.certificates
        return f"{self.address}?ca={files.authority}&cert={files.client}&key={files.client_key}"


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """RabbitMQ speaks TLS itself, and skips where it is not installed (REQUIRE_RABBITMQ=1: fails). The Valkey of the
    wheel was built without, and has it from a proxy before it."""
    if request.param == "rabbitmq" and rabbitmq.find_server() is None:
        if os.environ.get("REQUIRE_RABBITMQ") == "1":
            pytest.fail(f"REQUIRE_RABBITMQ=1, but {rabbitmq.NOT_FOUND}")
        pytest.skip(rabbitmq.NOT_FOUND)
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    folder = run.folder() / f"tls-{request.param}-{os.getpid()}"
    folder.mkdir()
    with ExitStack() as stack:
        server = RabbitMQ(folder, certificates=certificates) if request.param == "rabbitmq" else Valkey(folder)
        stack.callback(server.stop)
        server.start()
        if isinstance(server, RabbitMQ):
            address = f"amqps://guest:guest@127.0.0.1:{server.tls_port}//"
        else:
            proxy = stack.enter_context(TlsProxy(server.port, certificates))
            address = f"rediss://127.0.0.1:{proxy.port}/0"
        yield Broker(address=address, certificates=certificates)


def test_jobs_run_on_both_kinds_of_worker(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), settings={"BROKER_URL": broker.url})
    gateway.start()
    try:
        wait_until(
            lambda: len(gateway.client.get("/health/ready").json()["workers"]) == 3,
            description="all workers are there",
            timeout_seconds=60,
        )
        urls = [gateway.submit("echo", json=number).headers["Location"] for number in range(20)]
        urls += [gateway.submit("sleepy_cpu", json={"seconds": 0}).headers["Location"] for _ in range(3)]

        assert {gateway.wait_final(url).status_code for url in urls} == {200}
        broker_is = gateway.client.get("/health/ready").json()["broker"]
        assert broker_is == ("ok" if has_pubsub(broker.url) else "not asked")
        assert "could not ring" not in gateway.logs()
        assert "Redis is away" not in gateway.logs()
    finally:
        gateway.stop()


def opened_by_celery(url: str) -> None:
    """As a worker or the scheduler opens it."""
    app = Celery()
    app.conf.update(settings_for(url))
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=0)
        channel: Any = connection.default_channel  # its stub has nothing of what transports add
        channel.close()


def test_a_server_that_is_not_known_or_does_not_know_the_client_is_left_alone(broker: Broker) -> None:
    files = broker.certificates
    bad = {
        broker.url.replace(f"ca={files.authority}&", ""): "certificate verify failed: self-signed",
        broker.url.replace(str(files.authority), str(files.stranger)): "certificate verify failed: self-signed",
        broker.url.replace("127.0.0.1", "localhost"): "certificate verify failed: Hostname mismatch",
        f"{broker.address}?ca={files.authority}": None,  # the server hangs up, and each client says so in its own words
    }

    opened_by_celery(check_broker_url(broker.url))
    for given, reason in bad.items():
        url = check_broker_url(given)
        with pytest.raises((OperationalError, OSError), match=reason):
            opened_by_celery(url)
        if has_pubsub(url):
            with connect(url) as notifier, pytest.raises((RedisError, OSError), match=reason):
                notifier.ping()
