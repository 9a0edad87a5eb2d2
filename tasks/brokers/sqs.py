"""kombu's transport for SQS, put right in three places where an error of one request would end a whole worker."""

from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped] # it ships no types
from kombu.transport import SQS


class Channel(SQS.Channel):
    """Receives as kombu 5.7 does, and survives what goes wrong meanwhile."""

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        """A request that was cut off or answered 5xx comes as an empty list, where kombu looks for a dictionary."""
        received: int = super()._on_messages_ready(  # type: ignore[misc] # not in kombu's stubs
            queue, qname, messages or {}
        )
        return received

    def asynsqs(self, queue: str | None = None) -> Any:
        """Its refusals (throttling, a token that ran out, a queue that is gone) are bare Exceptions of kombu's; as
        errors of the connection they make the consumer connect anew."""
        connection = super().asynsqs(queue)
        connection._for_status = _refused  # noqa: SLF001 - kombu has no other place for it
        return connection


class Transport(SQS.Transport):
    """With refusals of the other, synchronous client among the errors after which one connects anew."""

    Channel = Channel
    connection_errors = (*SQS.Transport.connection_errors, ClientError)


def _refused(response: Any, body: Any) -> ConnectionError:
    return ConnectionError(f"SQS answered {response.status}: {body!r}")
