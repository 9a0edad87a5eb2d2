"""What Celery is told about each kind of broker."""

import ssl

import pytest
import redis
from amqp.exceptions import MessageNacked
from celery import Celery
from kombu import Connection

from tasks.app import app as tidegate
from tasks.brokers.options import settings_for
from tasks.brokers.redis import Transport
from tasks.scheduler.publisher import errors_of


def connection_to(url: str) -> Connection:
    """As a worker or the scheduler would open it; nothing is asked of a server here."""
    app = Celery()
    app.conf.update(settings_for(url))
    return app.connection_for_write()


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://host/0", False),
        ("rediss://host/0", {"ssl_cert_reqs": "required"}),
        ("rediss://host/0?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("amqp://host", None),
        (
            "rediss://host/0?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c.pem",
            {"ssl_ca_certs": "/etc/ca.pem", "ssl_certfile": "/c.pem"},  # redis-py verifies unless it is told not to
        ),
        ("amqps://host", {"server_hostname": "host", "ca_certs": None, "certfile": None, "keyfile": None}),
        (
            "amqps://u:p@host:5671/v?ca=/etc/ca.pem&cert=/c.pem&key=/c.key",
            {"server_hostname": "host", "ca_certs": "/etc/ca.pem", "certfile": "/c.pem", "keyfile": "/c.key"},
        ),
    ],
)
def test_over_tls_the_server_must_be_who_it_says(url: str, wanted: object) -> None:
    given = connection_to(url).ssl

    assert (given or None) == (wanted or None)


def test_the_virtual_host_of_rabbitmq_is_kept() -> None:
    assert connection_to("amqps://u:p@host/v?ca=/etc/ca.pem").virtual_host == "v"


@pytest.mark.parametrize(
    ("url", "queue", "options"),
    [
        ("sqs://", "tidegate-io", {}),
        ("sqs://k:s@/?prefix=shop-&region=eu-central-1", "shop-io", {"region": "eu-central-1"}),
        (
            "sqs://?queues=https://sqs.example/1/shop-",
            "io",
            {
                "predefined_queues": {
                    name: {"url": f"https://sqs.example/1/shop-{name}"} for name in ("io", "cpu", "webhooks", "gpu")
                }
            },
        ),
    ],
)
def test_the_queues_of_sqs_have_names_of_their_own_or_are_those_that_are_named(
    url: str, queue: str, options: dict[str, object]
) -> None:
    given = settings_for(url, ["gpu"])["broker_transport_options"]

    assert given["queue_name_prefix"] + "io" == queue
    assert {name: given.get(name) for name in ("region", "predefined_queues") if name in given} == options


@pytest.mark.parametrize(("url", "error"), [("amqp://host", MessageNacked), ("redis://host/0", redis.ConnectionError)])
def test_a_message_that_is_refused_is_known_to_the_publisher(url: str, error: type[Exception]) -> None:
    """RabbitMQ refuses one when its queue is full, and says so with an error of no family."""
    assert issubclass(error, errors_of(connection_to(url)))


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:6379/0", "rediss://redis.example:6380/1"])
def test_the_broker_s_url_keeps_its_scheme_by_which_flower_finds_the_lengths_of_queues(url: str) -> None:
    connection = tidegate.connection(url)

    assert connection.as_uri(include_password=True) == url
    assert isinstance(connection.transport, Transport)
