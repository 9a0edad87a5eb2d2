"""Wakes the steward when there is something to do. Lost wakes do no harm: it looks by itself once a second."""

import logging
import threading
from typing import Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tidegate import clock

log = logging.getLogger(__name__)

CHANNEL = "tidegate:wake"
_TIMEOUT_SECONDS = 0.5
_GATHER_SECONDS = 0.003
_AFTER_FAILURE_SECONDS = 1.0


class Bell(Protocol):
    """What can be rung."""

    def ring(self) -> None:
        """Asks for a look soon. Returns at once and never fails."""
        ...


class SilentBell:
    """For brokers without pub/sub: the slow look serves."""

    def ring(self) -> None:
        """Does nothing."""


class RedisBell:
    """Rings over Redis pub/sub from a thread of its own: rings that come together are sent as one."""

    def __init__(self, url: str) -> None:
        self._redis = _connect(url)
        self._rung = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Asks for a look soon. Returns at once and never fails."""
        self._rung.set()
        if self._thread is None or not self._thread.is_alive():  # also after a fork, where the thread stayed behind
            with self._start:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._send, name="bell", daemon=True)
                    self._thread.start()

    def _send(self) -> None:
        while True:
            self._rung.wait()
            clock.sleep(_GATHER_SECONDS)
            self._rung.clear()
            try:
                self._redis.publish(CHANNEL, b"")
            except (redis.RedisError, OSError) as error:
                log.warning("could not wake the steward, it looks by itself once a second: %s", error)
                clock.sleep(_AFTER_FAILURE_SECONDS)


class Ear:
    """Hears what RedisBell rings. While Redis is away it just waits."""

    def __init__(self, url: str) -> None:
        self._redis = _connect(url)
        self._subscription: redis.client.PubSub | None = None

    def wait(self, seconds: float) -> bool:
        """Waits for a ring, at most so long; whether one came. Rings since the last call count."""
        until = clock.monotonic() + seconds
        try:
            if self._subscription is None:
                subscription = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                subscription.subscribe(CHANNEL)
                self._subscription = subscription
                return True  # whatever was rung while there was no subscription
            message = None
            while message is None and (left := until - clock.monotonic()) > 0:
                message = self._subscription.get_message(timeout=left)
            while self._subscription.get_message(timeout=0):
                pass
        except (redis.RedisError, OSError) as error:
            if self._subscription is not None:
                log.warning("Redis is away, looking once a second: %s", error)
            self._subscription = None
            clock.sleep(until - clock.monotonic())
            return False
        return message is not None


def bell_for(broker_url: str) -> Bell:
    """The bell that fits the broker."""
    return RedisBell(broker_url) if _has_pubsub(broker_url) else SilentBell()


def ear_for(broker_url: str) -> Ear | None:
    """The ear that fits the broker; None where there is no pub/sub."""
    return Ear(broker_url) if _has_pubsub(broker_url) else None


def is_reachable(broker_url: str) -> bool | None:
    """Whether a Redis broker answers within half a second; None for other brokers."""
    if not _has_pubsub(broker_url):
        return None
    try:
        with _connect(broker_url) as connection:
            return bool(connection.ping())
    except (redis.RedisError, OSError):
        return False


def _has_pubsub(broker_url: str) -> bool:
    return broker_url.startswith(("redis://", "rediss://", "unix://"))


def _connect(url: str) -> redis.Redis:
    # redis-py's own default tries ten times with backoff and takes seconds to say that nobody is there.
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
