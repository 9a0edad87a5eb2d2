"""The listener: receives what a notifier published on a Redis pub/sub channel."""

import logging
from collections.abc import Sequence

import redis

from tidegate import clock
from tidegate.notify.messages import CHANNEL, connect, has_pubsub

log = logging.getLogger(__name__)


class Listener:
    """A subscription to one Redis channel. While Redis is away it just waits."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._redis = connect(url)
        self._channel = channel
        self._subscription: redis.client.PubSub | None = None

    def wait(self, seconds: float) -> bool:
        """Waits for a message, at most so many seconds; whether one came. Messages since the last call count."""
        return bool(self.hear(seconds))

    def hear(self, seconds: float) -> Sequence[bytes]:
        """Returns the messages since the last call, else waits so many seconds for the next, else returns none.

        When it has only now subscribed, anything may have been published before: then it returns one empty message.
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
        """Whether it is subscribed now, so that a message would reach it."""
        return self._subscription is not None

    def close(self) -> None:
        """Unsubscribes and closes its connection."""
        self._subscription = None
        self._redis.close()


def listener_for(url: str, channel: str = CHANNEL) -> Listener | None:
    """Makes a listener for this URL; None where the server has no pub/sub."""
    return Listener(url, channel) if has_pubsub(url) else None
