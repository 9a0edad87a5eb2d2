"""Wakes the scheduler, and who watches a job: says over Redis pub/sub what is due and what changed."""

import logging
import threading
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Protocol

import redis

from tidegate import clock
from tidegate.notify.messages import BEGAN, CHANGES, CHANNEL, FREED, connect, has_pubsub

log = logging.getLogger(__name__)

# A beginning waits for so long, for the end of a short call to go with it.
_BEGAN_SECONDS = 0.02
_AFTER_FAILURE_SECONDS = 1.0
# More are told as "any": nobody needs to remember what was not sent while Redis was away.
_MOST_NAMED = 5000


class Bell(Protocol):
    """What can be rung."""

    def ring(self, lane: str = "") -> None:
        """Asks the scheduler for a look soon, at a lane where something is due, or at all of them. Returns at once and
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
        """Asks the scheduler for a look soon, at a lane where something is due, or at all of them. Returns at once and
        never fails."""
        if lane and len(self._lanes) < _MOST_NAMED:
            self._lanes.append(lane)
        else:
            self._any_lane = True
        self._rings += lane != FREED
        self._is_urgent.set()
        self._send_soon()

    def freed(self) -> None:
        """Says that a place came free, for a lane that waits for one. Returns at once and never fails."""
        self.ring(FREED)

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
            self._changed.append(job_id + BEGAN)
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
                log.warning("could not ring, scheduler and watchers look by themselves once a second: %s", error)
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


def bell_for(url: str, channel: str = CHANNEL) -> Bell:
    """The bell that fits the broker, or whatever else stands in the settings for it."""
    return RedisBell(url, channel) if has_pubsub(url) else SilentBell()


GATHER_SECONDS = 0.003
"""Between two messages; the first after a rest goes out at once."""
BURST_SECONDS = 0.013
"""In a burst each message takes time from it, and rings are gathered for longer."""
# More than so many in so long are a burst: 230 a second. One client that submits as soon as it was answered is none.
_FEW = 3


class Tempo:
    """Of one bell, which tells it of each of its messages."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()

    def rest_after(self, rings: int, now: float) -> float:
        """Seconds until the next message may go, after one that says so many rings."""
        self._recent.append((now, rings))
        while now - self._recent[0][0] >= BURST_SECONDS:
            self._recent.popleft()
        return BURST_SECONDS if sum(count for _, count in self._recent) > _FEW else GATHER_SECONDS
