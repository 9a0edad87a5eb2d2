"""Messages over Redis pub/sub that a call of a downstream has ended, to the attempt that waits to make the next one.

Only a hint that saves time: if it is lost, the follower finds out from the rows. It is sent after the call has ended
and names it, so a follower that gets it may begin, whoever else is late or dead.
"""

import logging
import queue
import threading
from collections import OrderedDict
from typing import Protocol

import redis

from tidegate import clock
from tidegate.jobs.job import Call
from tidegate.notify.listener import Listener
from tidegate.notify.messages import connect, has_pubsub

log = logging.getLogger(__name__)

CHANNEL = "tidegate:ended"

_REMEMBERED = 4096
_LOOK_SECONDS = 0.02
_SLOW_LOOK_SECONDS = 0.2
_AFTER_FAILURE_SECONDS = 1.0
_ALARM = "alarm"
_ALARMED_SECONDS = 10.0


class Handoff(Protocol):
    """The interface of the hints between a call that ends and its follower."""

    def notify_call_ended(self, ended: Call) -> None:
        """Publishes that this call has ended. Returns at once and never fails."""
        ...

    def wait(self, call: Call, seconds: float) -> bool:
        """Waits for the end of a call, at most so many seconds; whether it was told, now or before."""
        ...

    def alarm(self) -> None:
        """Publishes that a downstream refused or failed. Returns at once and never fails.

        For a while followers read the rows before they call, so that none calls a downstream that is paused.
        """
        ...

    def is_alarmed(self) -> bool:
        """Whether an alarm came lately."""
        ...

    def look_seconds(self) -> float:
        """Seconds between a waiting follower's reads of the rows."""
        ...


class SilentHandoff:
    """For brokers without pub/sub: followers poll the rows."""

    def notify_call_ended(self, ended: Call) -> None:
        """Does nothing."""

    def wait(self, call: Call, seconds: float) -> bool:  # noqa: ARG002 - the protocol's
        """Sleeps; nothing is ever told."""
        clock.sleep(seconds)
        return False

    def alarm(self) -> None:
        """Does nothing."""

    def is_alarmed(self) -> bool:
        """Always True: a follower that is told nothing must read the rows."""
        return True

    def look_seconds(self) -> float:
        """A short interval, for there is no other way."""
        return _LOOK_SECONDS


class RedisHandoff:
    """The hints over Redis pub/sub, with a sending and a listening thread, started when first needed."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._outbox: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended: OrderedDict[Call, None] = OrderedDict()
        self._heard = threading.Condition()
        self._listener = Listener(url, CHANNEL)
        self._alarmed_until = 0.0
        self._start = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    def notify_call_ended(self, ended: Call) -> None:
        """Publishes that this call has ended. Returns at once and never fails."""
        job_id, fence = ended
        self._publish(f"{job_id}:{fence}")

    def alarm(self) -> None:
        """Publishes that a downstream refused or failed. Returns at once and never fails."""
        self._publish(_ALARM)

    def is_alarmed(self) -> bool:
        """Whether an alarm came in the last 10 s, or could not have been received."""
        return not self._listener.is_listening or clock.monotonic() < self._alarmed_until

    def wait(self, call: Call, seconds: float) -> bool:
        """Waits for the end of a call, at most so many seconds; whether it was told, now or before."""
        self._keep_running("handoff-listen", self._listen)
        with self._heard:
            return self._heard.wait_for(lambda: call in self._ended, timeout=seconds)

    def look_seconds(self) -> float:
        """A long interval while Redis is there."""
        return _SLOW_LOOK_SECONDS if self._listener.is_listening else _LOOK_SECONDS

    def _publish(self, message: str) -> None:
        self._outbox.put(message)
        self._keep_running("handoff-tell", self._send)

    def _keep_running(self, name: str, target: object) -> None:
        if name not in self._threads:
            with self._start:
                if name not in self._threads:
                    thread = threading.Thread(target=target, name=name, daemon=True)  # type: ignore[arg-type]
                    self._threads[name] = thread
                    thread.start()

    def _send(self) -> None:
        while True:
            message = self._outbox.get()
            try:
                self._redis.publish(CHANNEL, message)
            except (redis.RedisError, OSError) as error:
                log.warning("could not tell followers, they look into the rows: %s", error)
                clock.sleep(_AFTER_FAILURE_SECONDS)

    def _listen(self) -> None:
        while True:
            for message in self._listener.hear(_AFTER_FAILURE_SECONDS):
                self._hear(message.decode("ascii", "replace"))

    def _hear(self, message: str) -> None:
        if message == _ALARM:
            self._alarmed_until = clock.monotonic() + _ALARMED_SECONDS
        job_id, _, fence = message.rpartition(":")
        if not fence.isdecimal():  # an alarm, or nothing: the listener has only now subscribed
            return
        with self._heard:
            self._ended[job_id, int(fence)] = None
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            self._heard.notify_all()


def handoff_for(broker_url: str) -> Handoff:
    """Makes the hand-off for this broker: over Redis pub/sub, or silent."""
    return RedisHandoff(broker_url) if has_pubsub(broker_url) else SilentHandoff()
