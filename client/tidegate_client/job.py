"""One job of the gateway: wait for it, get its result, call it off."""

from collections.abc import Generator
from typing import Any, Self

from tidegate_client.events import EventFeed, JobEvent
from tidegate_client.known_job import KnownJob, Progress, RawResult
from tidegate_client.snapshot import Snapshot
from tidegate_client.transport import Transport


class Job(KnownJob):
    """A job at the gateway. `seen` is how it was seen last; `refresh`, `wait` and the others look again."""

    def __init__(self, transport: Transport, seen: Snapshot) -> None:
        super().__init__(transport.gateway, seen)
        self._transport = transport

    def refresh(self) -> Self:
        """Looks at it once."""
        self._transport.run(self._look())
        return self

    def wait(self, timeout: float | None = None, progress: Progress | None = None) -> Snapshot:
        """Waits until it is final, however it ends, and returns how it ended.

        `progress` is called with each new Snapshot, the last one too. Raises NotDone after `timeout` seconds; the job
        goes on then.
        """
        return self._transport.run(self._until_final(timeout, progress))

    def events(self) -> Generator[JobEvent]:
        """Its changes as they happen, from how it is now to its final state; the last event has its result.

        Lost connections are made again. Raises ConnectionFailed when nothing is heard for as long as the client is
        patient, and Refused when there is no such job any more. What is not iterated to the end should be closed.
        """
        for event in self._transport.each(EventFeed(self._gateway, self.id)):
            self.seen = event.job
            yield event

    def result(self, timeout: float | None = None, progress: Progress | None = None) -> Any:
        """Waits for it and returns its result: JSON as Python has it, anything else as bytes.

        Raises JobFailed, JobExpired or JobCancelled when it ends without one; otherwise as `wait`.
        """
        return self._transport.run(self._value(timeout, progress))

    def raw_result(self, timeout: float | None = None, progress: Progress | None = None) -> RawResult:
        """As `result`, byte for byte."""
        return self._transport.run(self._raw_value(timeout, progress))

    def cancel(self) -> Self:
        """Calls it off: cancelled at once if it is queued, asked to stop if it runs (`seen.state` tells).

        Raises Refused (409) when it had already ended otherwise.
        """
        self._transport.run(self._call_off())
        return self

    def retry(self, idempotency_key: str | None = None) -> "Job":
        """Submits a job that ended without a result again and returns the new one.

        Raises Refused (409) when it goes on or succeeded.
        """
        return Job(self._transport, self._transport.run(self._again(idempotency_key)))

    def delete(self) -> None:
        """Erases it and its result. Raises Refused (409) while it goes on."""
        self._transport.run(self._erase())
