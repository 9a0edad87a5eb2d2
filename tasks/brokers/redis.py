"""kombu's transport for Redis, with one client to send with."""

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """Sends with one client. kombu 5.7 makes one for each message or batch, which takes as long as to send it; the
    connections are the pool's in either case."""

    _sending: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc] # not in kombu's stubs
        if self._sending is None:
            self._sending = super()._create_client()  # type: ignore[misc]
        return self._sending


class Transport(redis.Transport):
    """kombu's, with that channel."""

    Channel = Channel
