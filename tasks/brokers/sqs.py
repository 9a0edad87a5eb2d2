"""A kombu transport for SQS, with fixes in three places where one failed request would end a whole worker."""

from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped] # it ships no types
from kombu.transport import SQS


class Channel(SQS.Channel):
    """kombu 5.7's channel, which also survives failed requests."""

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        """Treats a request that was cut off or answered 5xx, an empty list, as the dictionary that kombu expects."""
        received: int = super()._on_messages_ready(  # type: ignore[misc] # not in kombu's stubs
            queue, qname, messages or {}
        )
        return received

    def asynsqs(self, queue: str | None = None) -> Any:
        """A client whose refusals are connection errors, so that the consumer reconnects.

        Kombu raises bare Exceptions for them (throttling, an expired token, a queue that is gone).
        """
        connection = super().asynsqs(queue)
        connection._for_status = _refused  # noqa: SLF001 - kombu has no other place for it
        return connection


class Transport(SQS.Transport):
    """kombu's SQS transport; a refusal of its synchronous client is a connection error too, and makes it reconnect."""

    Channel = Channel
    connection_errors = (*SQS.Transport.connection_errors, ClientError)


def _refused(response: Any, body: Any) -> ConnectionError:
    return ConnectionError(f"SQS answered {response.status}: {body!r}")
