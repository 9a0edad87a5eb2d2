"""The notifier: publishes over Redis which lanes have due jobs and which jobs changed: wakes scheduler and waiters."""

import logging
import threading
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Protocol

import redis

from tidegate import clock
from tidegate.notify.messages import BEGAN, CHANGES, CHANNEL, FREED, connect, has_pubsub

log = logging.getLogger(__name__)

# The beginning of an attempt is sent so much later: the end of a short call then goes in the same message.
_BEGAN_SECONDS = 0.02
_AFTER_FAILURE_SECONDS = 1.0
# Beyond so many unsent names the message says "any": the queue must not grow while Redis is away.
_MOST_NAMED = 5000


class Notifier(Protocol):
    """The interface of a notifier."""

    def wake_scheduler(self, lane: str = "") -> None:
        """Wakes the scheduler to release the due jobs of one lane, which is a downstream's queue, or of all ("").

        Returns at once and never fails.
        """
        ...

    def notify_place_freed(self) -> None:
        """Tells the scheduler that a downstream can take one more call at a time. Returns at once and never fails."""
        ...

    def notify_jobs_changed(self, *job_ids: str) -> None:
        """Tells who waits for these jobs that they changed; none named: any may have.

        Returns at once and never fails.
        """
        ...

    def notify_attempt_began(self, job_id: str) -> None:
        """Tells who waits for this job that an attempt at it began; who waits for its end alone ignores it."""
        ...


class SilentNotifier:
    """The notifier where there is no pub/sub: publishes nothing, so that every receiver polls."""

    def wake_scheduler(self, lane: str = "") -> None:
        """Does nothing."""

    def notify_place_freed(self) -> None:
        """Does nothing."""

    def notify_jobs_changed(self, *job_ids: str) -> None:
        """Does nothing."""

    def notify_attempt_began(self, job_id: str) -> None:
        """Does nothing."""


class RedisNotifier:
    """Publishes over Redis pub/sub from a thread of its own; notices that come together are sent as one message."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._redis = connect(url)
        self._channel = channel
        # No lock, which a fork could leave held: a deque's append and popleft are atomic.
        self._lanes: deque[str] = deque()
        self._any_lane = False
        self._changed: deque[str] = deque()
        self._any_changed = False
        # Notices since the last message, roughly: beginnings and freed places are not counted, so each job is once.
        self._notices = 0
        self._has_notices = threading.Event()
        self._is_urgent = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake_scheduler(self, lane: str = "") -> None:
        """Wakes the scheduler to release the due jobs of one lane, which is a downstream's queue, or of all ("").

        Returns at once and never fails.
        """
        if lane and len(self._lanes) < _MOST_NAMED:
            self._lanes.append(lane)
        else:
            self._any_lane = True
        self._notices += lane != FREED
        self._is_urgent.set()
        self._send_soon()

    def notify_place_freed(self) -> None:
        """Tells the scheduler that a downstream can take one more call at a time. Returns at once and never fails."""
        self.wake_scheduler(FREED)

    def notify_jobs_changed(self, *job_ids: str) -> None:
        """Tells who waits for these jobs that they changed; none named: any may have.

        Returns at once and never fails.
        """
        if job_ids and len(self._changed) < _MOST_NAMED:
            self._changed.extend(job_ids)
        else:
            self._any_changed = True
        self._notices += 1
        self._is_urgent.set()
        self._send_soon()

    def notify_attempt_began(self, job_id: str) -> None:
        """Tells who waits for this job that an attempt at it began; who waits for its end alone ignores it."""
        if len(self._changed) < _MOST_NAMED:
            self._changed.append(job_id + BEGAN)
            self._send_soon()

    def _send_soon(self) -> None:
        self._has_notices.set()
        if self._thread is None or not self._thread.is_alive():  # also after a fork, where the thread stayed behind
            with self._start:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._send, name="notifier", daemon=True)
                    self._thread.start()

    def _send(self) -> None:
        tempo, rests_until = SendInterval(), 0.0
        while True:
            self._has_notices.wait()
            self._is_urgent.wait(_BEGAN_SECONDS)
            clock.sleep(rests_until - clock.monotonic())
            self._has_notices.clear()
            self._is_urgent.clear()
            notices, self._notices = self._notices, 0
            try:
                self._publish()
            except (redis.RedisError, OSError) as error:
                log.warning("could not ring, scheduler and watchers look by themselves once a second: %s", error)
                self._any_lane = self._any_changed = True  # told with the next message
                clock.sleep(_AFTER_FAILURE_SECONDS)
            now = clock.monotonic()
            rests_until = now + tempo.rest_after(notices, now)

    def _publish(self) -> None:
        any_lane, self._any_lane = self._any_lane, False
        lanes = _taken(self._lanes)
        any_changed, self._any_changed = self._any_changed, False
        named = _taken(self._changed)
        # Changes first: a client waits for these, and the scheduler, woken at once, would take processor time from it.
        if any_changed or named:
            self._redis.publish(CHANGES, b"" if any_changed else " ".join(named))
        if any_lane or lanes:
            self._redis.publish(self._channel, b"" if any_lane else " ".join(lanes))


def _taken(words: deque[str]) -> AbstractSet[str]:
    return {words.popleft() for _ in range(len(words))}


def notifier_for(url: str, channel: str = CHANNEL) -> Notifier:
    """Makes the notifier for this URL: over Redis, or silent for a server without pub/sub."""
    return RedisNotifier(url, channel) if has_pubsub(url) else SilentNotifier()


GATHER_SECONDS = 0.003
"""Between two messages; the first after a rest goes out at once."""
BURST_SECONDS = 0.013
"""In a burst each message takes time from it, and notices are gathered for longer."""
# More notices than this in BURST_SECONDS are a burst: 230 a second. One client that submits one by one makes none.
_FEW = 3


class SendInterval:
    """The pause between one notifier's messages: longer in a burst, so that more is sent in one."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()

    def rest_after(self, notices: int, now: float) -> float:
        """Seconds to pause after a message that stood for so many notices."""
        self._recent.append((now, notices))
        while now - self._recent[0][0] >= BURST_SECONDS:
            self._recent.popleft()
        return BURST_SECONDS if sum(count for _, count in self._recent) > _FEW else GATHER_SECONDS
