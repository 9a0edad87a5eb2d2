"""Celery settings for each kind of broker: Redis, RabbitMQ, SQS."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from config.broker_url import AMQP, SQS, scheme_of, words_of
from tidegate.operations.queues import BUILT_IN, WEBHOOKS

# A release that is not published by then is left to the sweep; the scheduler has other lanes to look after.
PUBLISH_SECONDS = 1.0
CONFIRM_SECONDS = 2 * PUBLISH_SECONDS
_LOCAL = "redis://127.0.0.1:6379/0"

REDIS_TRANSPORTS = dict.fromkeys(("redis", "rediss"), "tasks.brokers.redis:Transport")
"""What kombu uses for these schemes. Named in `broker_transport` it would stand in place of the scheme in the broker's
URL, by which Flower knows where to ask for the lengths of queues."""


def settings_for(url: str, own_queues: Iterable[str] = ()) -> dict[str, Any]:
    """The Celery settings for the broker of this URL. `own_queues`: declared beside those that are built in."""
    scheme = scheme_of(url)
    if scheme in AMQP:
        return _rabbitmq(url)
    if scheme == SQS:
        return _sqs(url, [*BUILT_IN, WEBHOOKS, *own_queues])
    return _redis(url or _LOCAL)


def _redis(url: str) -> dict[str, Any]:
    return {
        "broker_url": url,
        # kombu's default for rediss:// accepts any certificate.
        "broker_use_ssl": {"ssl_cert_reqs": "required"} if url.startswith("rediss:") else None,
        "broker_transport_options": {
            # A message that a worker has taken is not kept in Redis until its task begins: that would be two of its
            # three round trips, for nothing. If it dies with its worker, its job is released again from its row.
            "ack_emulation": False,
            # Retries of opening a connection: with them kombu sleeps 2 s, 4 s, ... and the scheduler stands still.
            "max_retries": 0,
            "socket_timeout": PUBLISH_SECONDS,
            "socket_connect_timeout": PUBLISH_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    }


def _rabbitmq(url: str) -> dict[str, Any]:
    parts, words = urlsplit(url), words_of(url)
    verified = {
        # Without a name py-amqp accepts a valid certificate of any host.
        "server_hostname": parts.hostname,
        "ca_certs": words.get("ca"),
        "certfile": words.get("cert"),
        "keyfile": words.get("key"),
    }
    return {
        "broker_url": url.partition("?")[0],
        "broker_use_ssl": verified if parts.scheme == "amqps" else None,
        # Opening a connection takes seven round trips.
        "broker_connection_timeout": 2 * PUBLISH_SECONDS,
        # Seconds; a worker whose connection died silently notices within two of these.
        "broker_heartbeat": 10,
        # RabbitMQ closes the channel of a consumer that has not acknowledged a message for half an hour
        # (consumer_timeout), such as one prefetched behind long jobs; without this that would end the worker.
        "broker_channel_error_retry": True,
        # A quorum queue: a message is on most nodes' disks before it is confirmed, and survives the loss of one node.
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        "broker_transport_options": {"max_retries": 0, "confirm_publish": True},
    }


def _sqs(url: str, queues: Iterable[str]) -> dict[str, Any]:
    words = words_of(url)
    place = words.get("queues")
    options: dict[str, Any] = {
        "max_retries": 0,
        # An account has one namespace of queues, and `io` says little in it.
        "queue_name_prefix": "" if place else words.get("prefix", "tidegate-"),
        # How long a worker may keep a message before its attempt begins and acknowledges it. If it is delivered twice,
        # the row's fence tells.
        "visibility_timeout": 3600,
        # Each empty answer costs money; kombu gives up a request after 20 s.
        "wait_time_seconds": 15,
        # Seconds between two polls, and between two looks for a free thread: 0 would spin.
        "polling_interval": 0.1,
        "client-config": {
            "connect_timeout": PUBLISH_SECONDS,
            "read_timeout": 2 * PUBLISH_SECONDS,
            "retries": {"total_max_attempts": 1},
        },
    }
    if region := words.get("region"):
        options["region"] = region
    if place:
        options["predefined_queues"] = {name: {"url": place + name} for name in queues}
    return {
        "broker_url": url.partition("?")[0],
        "broker_transport": "tasks.brokers.sqs:Transport",
        # SQS has no broadcast: each worker's mailbox would be one more queue that is polled.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "broker_transport_options": options,
    }
