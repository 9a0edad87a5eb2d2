"""Wakes the steward, and who watches a job, over Redis pub/sub. Lost wakes do no harm: both look by themselves once a
second.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tidegate import clock
from tidegate.tempo import Tempo

log = logging.getLogger(__name__)

CHANNEL = "tidegate:wake"
"""Its messages are names of lanes with blanks between, and a colon for a place that came free; an empty one: look at
all. `rung_in` reads them."""
DELIVERIES = "tidegate:deliveries"
"""Rung by those who send webhooks, when a place is free again."""
CHANGES = "tidegate:changed"
"""Its messages are ids of jobs with blanks between, with a colon behind those that only began an attempt; an empty one:
any job may have changed. `named_in` reads them."""
_BEGAN = ":"
_FREED = ":"
# As kombu writes the scheme of a socket, which is unix:// to redis-py.
_SOCKET = "redis+socket://"
_TIMEOUT_SECONDS = 0.5
# A beginning waits for so long, for the end of a short call to go with it.
_BEGAN_SECONDS = 0.02
_AFTER_FAILURE_SECONDS = 1.0
# More are told as "any": nobody needs to remember what was not sent while Redis was away.
_MOST_NAMED = 5000


class Bell(Protocol):
    """What can be rung."""

    def ring(self, lane: str = "") -> None:
        """Asks the steward for a look soon, at a lane where something is due, or at all of them. Returns at once and
        never fails."""
        ...

    def freed(self) -> None:
        """Says that a place came free, for a lane that waits for one. Returns at once and never fails."""
        ...

    def changed(self, *job_ids: str) -> None:
        """Tells who watches these jobs that they changed; none named: any may have. At once, and never fails."""
        ...

    def began(self, job_id: str) -> None:
        """As `changed`, for the beginning of an attempt: who only waits for the job's end need not look."""
        ...


class SilentBell:
    """Where there is no pub/sub: all look by themselves."""

    def ring(self, lane: str = "") -> None:
        """Does nothing."""

    def freed(self) -> None:
        """Does nothing."""

    def changed(self, *job_ids: str) -> None:
        """Does nothing."""

    def began(self, job_id: str) -> None:
        """Does nothing."""


class RedisBell:
    """Rings over Redis pub/sub from a thread of its own: rings that come together are sent as one."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._redis = connect(url)
        self._channel = channel
        # Without a lock, which a fork could leave held: appending and popping are atomic.
        self._lanes: deque[str] = deque()
        self._any_lane = False
        self._changed: deque[str] = deque()
        self._any_changed = False
        # Since the last message, about, and of each job once: its beginning and its place are not counted.
        self._rings = 0
        self._rung = threading.Event()
        self._is_urgent = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, lane: str = "") -> None:
        """Asks the steward for a look soon, at a lane where something is due, or at all of them. Returns at once and
        never fails."""
        if lane and len(self._lanes) < _MOST_NAMED:
            self._lanes.append(lane)
        else:
            self._any_lane = True
        self._rings += lane != _FREED
        self._is_urgent.set()
        self._send_soon()

    def freed(self) -> None:
        """Says that a place came free, for a lane that waits for one. Returns at once and never fails."""
        self.ring(_FREED)

    def changed(self, *job_ids: str) -> None:
        """Tells who watches these jobs that they changed; none named: any may have. At once, and never fails."""
        if job_ids and len(self._changed) < _MOST_NAMED:
            self._changed.extend(job_ids)
        else:
            self._any_changed = True
        self._rings += 1
        self._is_urgent.set()
        self._send_soon()

    def began(self, job_id: str) -> None:
        """As `changed`, for the beginning of an attempt: who only waits for the job's end need not look."""
        if len(self._changed) < _MOST_NAMED:
            self._changed.append(job_id + _BEGAN)
            self._send_soon()

    def _send_soon(self) -> None:
        self._rung.set()
        if self._thread is None or not self._thread.is_alive():  # also after a fork, where the thread stayed behind
            with self._start:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._send, name="bell", daemon=True)
                    self._thread.start()

    def _send(self) -> None:
        tempo, rests_until = Tempo(), 0.0
        while True:
            self._rung.wait()
            self._is_urgent.wait(_BEGAN_SECONDS)
            clock.sleep(rests_until - clock.monotonic())
            self._rung.clear()
            self._is_urgent.clear()
            rings, self._rings = self._rings, 0
            try:
                self._publish()
            except (redis.RedisError, OSError) as error:
                log.warning("could not ring, steward and watchers look by themselves once a second: %s", error)
                self._any_lane = self._any_changed = True  # told with the next ring
                clock.sleep(_AFTER_FAILURE_SECONDS)
            now = clock.monotonic()
            rests_until = now + tempo.rest_after(rings, now)

    def _publish(self) -> None:
        any_lane, self._any_lane = self._any_lane, False
        lanes = _taken(self._lanes)
        any_changed, self._any_changed = self._any_changed, False
        named = _taken(self._changed)
        # One after the other: woken together, both would share the machine, and a client waits for one of them.
        if any_changed or named:
            self._redis.publish(CHANGES, b"" if any_changed else " ".join(named))
        if any_lane or lanes:
            self._redis.publish(self._channel, b"" if any_lane else " ".join(lanes))


def _taken(words: deque[str]) -> AbstractSet[str]:
    return {words.popleft() for _ in range(len(words))}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What the steward was rung for: `lanes` where something is due, None: any may be; `freed`: a place came free."""

    lanes: AbstractSet[str] | None
    freed: bool = False


def rung_in(messages: Sequence[bytes]) -> Rung:
    """What these messages ring for."""
    words = {word for message in messages for word in message.decode("utf-8", "replace").split()}
    if not all(messages):
        return Rung(lanes=None)
    return Rung(lanes=words - {_FREED}, freed=_FREED in words)


def named_in(message: bytes) -> tuple[AbstractSet[str], AbstractSet[str]]:
    """The jobs that a message about changes names: those that changed, and those that only began an attempt. Neither:
    any job may have changed."""
    words = message.decode("ascii", "replace").split()
    begun = {word.removesuffix(_BEGAN) for word in words if word.endswith(_BEGAN)}
    return {word for word in words if not word.endswith(_BEGAN)}, begun


class Ear:
    """Hears what RedisBell says on one channel. While Redis is away it just waits."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._redis = connect(url)
        self._channel = channel
        self._subscription: redis.client.PubSub | None = None

    def wait(self, seconds: float) -> bool:
        """Waits for a ring, at most so long; whether one came. Rings since the last call count."""
        return bool(self.hear(seconds))

    def hear(self, seconds: float) -> Sequence[bytes]:
        """What was said since the last call, else the next that is said within so many seconds, else nothing.

        Before it listened anything may have been said: then it answers with one empty message.
        """
        until = clock.monotonic() + seconds
        messages: list[bytes] = []
        try:
            if self._subscription is None:
                subscription = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                subscription.subscribe(self._channel)
                self._subscription = subscription
                return [b""]
            while not messages and (left := until - clock.monotonic()) > 0:
                if message := self._subscription.get_message(timeout=left):
                    messages.append(message["data"])
            while message := self._subscription.get_message(timeout=0):
                messages.append(message["data"])
        except (redis.RedisError, OSError) as error:
            if self._subscription is not None:
                log.warning("Redis is away, looking once a second: %s", error)
            self._subscription = None
            clock.sleep(until - clock.monotonic())
            return []
        return messages

    @property
    def is_listening(self) -> bool:
        """Whether it would hear a ring now."""
        return self._subscription is not None

    def close(self) -> None:
        """Hears no more, and lets go of its connection."""
        self._subscription = None
        self._redis.close()


def bell_for(url: str, channel: str = CHANNEL) -> Bell:
    """The bell that fits the broker, or whatever else stands in the settings for it."""
    return RedisBell(url, channel) if has_pubsub(url) else SilentBell()


def ear_for(url: str, channel: str = CHANNEL) -> Ear | None:
    """The ear that fits the bell; None where there is no pub/sub."""
    return Ear(url, channel) if has_pubsub(url) else None


def is_reachable(broker_url: str) -> bool | None:
    """Whether a Redis broker answers within half a second; None for other brokers."""
    if not has_pubsub(broker_url):
        return None
    try:
        with connect(broker_url) as connection:
            return bool(connection.ping())
    except (redis.RedisError, OSError):
        return False


def has_pubsub(url: str) -> bool:
    """Whether this server can carry hints from process to process."""
    return url.startswith(("redis://", "rediss://", _SOCKET))


def connect(url: str) -> redis.Redis:
    """A client that says within half a second that nobody is there."""
    # redis-py's own default tries ten times with backoff and takes seconds to say that nobody is there.
    return redis.Redis.from_url(
        f"unix://{url.removeprefix(_SOCKET)}" if url.startswith(_SOCKET) else url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
