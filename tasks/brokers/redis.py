"""A kombu transport for Redis that reuses one client for sending."""

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """kombu's channel, which sends with one client.

    kombu 5.7 makes a client for each message or batch, which takes as long as to send it; the connections are the
    pool's in either case.
    """

    _sending: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc] # not in kombu's stubs
        if self._sending is None:
            self._sending = super()._create_client()  # type: ignore[misc]
        return self._sending


class Transport(redis.Transport):
    """kombu's Redis transport with that channel."""

    Channel = Channel
