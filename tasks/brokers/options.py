"""What Celery has to know about each kind of broker, beyond its address."""

from typing import Any
from urllib.parse import urlsplit

from config.broker_url import AMQP, SQS, scheme_of, words_of
from tidegate.operations.operation import Queue
from tidegate.webhooks.delivery import QUEUE as WEBHOOKS

# A release that is not published by then is left to the sweep; the scheduler has other lanes to look after.
PUBLISH_SECONDS = 1.0
CONFIRM_SECONDS = 2 * PUBLISH_SECONDS
_LOCAL = "redis://127.0.0.1:6379/0"
_QUEUES = (*Queue, WEBHOOKS)


def settings_for(url: str) -> dict[str, Any]:
    """Celery's settings for the broker of this URL."""
    scheme = scheme_of(url)
    if scheme in AMQP:
        return _rabbitmq(url)
    if scheme == SQS:
        return _sqs(url)
    return _redis(url or _LOCAL)


def _redis(url: str) -> dict[str, Any]:
    return {
        "broker_url": url,
        "broker_transport": "tasks.brokers.redis:Transport",
        # kombu's own choice for rediss:// is a connection that believes any certificate.
        "broker_use_ssl": {"ssl_cert_reqs": "required"} if url.startswith("rediss:") else None,
        "broker_transport_options": {
            # What a worker has taken is not kept in Redis too until it begins: that would be two of the three round
            # trips of a message, for nothing. One that dies with its worker is released again from its row.
            "ack_emulation": False,
            # Of opening a connection: else kombu sleeps 2 s, 4 s, ... between tries and the scheduler stands still.
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
        # Without a name py-amqp believes a good certificate of whichever host.
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
        # A worker whose connection died without a word notices within two of these.
        "broker_heartbeat": 10,
        # RabbitMQ closes the channel of a consumer that has had a message for half an hour (consumer_timeout), as one
        # has that waits behind long jobs; without this it would end the worker.
        "broker_channel_error_retry": True,
        # On a majority of the nodes' disks before it is confirmed; kept when any one of them dies.
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
        "broker_transport_options": {"max_retries": 0, "confirm_publish": True},
    }


def _sqs(url: str) -> dict[str, Any]:
    words = words_of(url)
    place = words.get("queues")
    options: dict[str, Any] = {
        "max_retries": 0,
        # An account has one namespace of queues, and `io` says little in it.
        "queue_name_prefix": "" if place else words.get("prefix", "tidegate-"),
        # How long a worker may keep a message before its attempt begins; then it is acknowledged. The row decides
        # whether one that comes twice still stands.
        "visibility_timeout": 3600,
        # Each empty answer costs money; kombu gives up a request after 20 s.
        "wait_time_seconds": 15,
        # Between two of those, and between two looks for a free thread: 0 would spin.
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
        options["predefined_queues"] = {name: {"url": place + name} for name in _QUEUES}
    return {
        "broker_url": url.partition("?")[0],
        "broker_transport": "tasks.brokers.sqs:Transport",
        # SQS has no broadcast: each worker's mailbox would be one more queue that is polled.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "broker_transport_options": options,
    }
