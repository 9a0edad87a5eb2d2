"""One job of the gateway, from asynchronous code: wait for it, get its result, call it off."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Self

from tidegate_client.events import EventFeed, JobEvent
from tidegate_client.known_job import KnownJob, Progress, RawResult
from tidegate_client.snapshot import Snapshot
from tidegate_client.transport import AsyncTransport


class AsyncJob(KnownJob):
    """As `Job`, for use in an event loop. A task that is cancelled while it waits leaves the job alone."""

    def __init__(self, transport: AsyncTransport, seen: Snapshot) -> None:
        super().__init__(transport.gateway, seen)
        self._transport = transport

    async def refresh(self) -> Self:
        """Looks at it once."""
        await self._transport.run(self._look())
        return self

    async def wait(self, timeout: float | None = None, progress: Progress | None = None) -> Snapshot:
        """Waits until it is final, however it ends, and returns how it ended.

        `progress` is called with each new Snapshot, the last one too. Raises NotDone after `timeout` seconds; the job
        goes on then.
        """
        return await self._transport.run(self._until_final(timeout, progress))

    async def events(self) -> AsyncGenerator[JobEvent]:
        """Its changes as they happen, from how it is now to its final state; the last event has its result.

        Lost connections are made again. Raises ConnectionFailed when nothing is heard for as long as the client is
        patient, and Refused when there is no such job any more. What is not iterated to the end should be closed.
        """
        async with aclosing(self._transport.each(EventFeed(self._gateway, self.id))) as events:
            async for event in events:
                self.seen = event.job
                yield event

    async def result(self, timeout: float | None = None, progress: Progress | None = None) -> Any:
        """Waits for it and returns its result: JSON as Python has it, anything else as bytes.

        Raises JobFailed, JobExpired or JobCancelled when it ends without one; otherwise as `wait`.
        """
        return await self._transport.run(self._value(timeout, progress))

    async def raw_result(self, timeout: float | None = None, progress: Progress | None = None) -> RawResult:
        """As `result`, byte for byte."""
        return await self._transport.run(self._raw_value(timeout, progress))

    async def cancel(self) -> Self:
        """Calls it off: cancelled at once if it is queued, asked to stop if it runs (`seen.state` tells).

        Raises Refused (409) when it had already ended otherwise.
        """
        await self._transport.run(self._call_off())
        return self

    async def retry(self, idempotency_key: str | None = None) -> "AsyncJob":
        """Submits a job that ended without a result again and returns the new one.

        Raises Refused (409) when it goes on or succeeded.
        """
        return AsyncJob(self._transport, await self._transport.run(self._again(idempotency_key)))

    async def delete(self) -> None:
        """Erases it and its result. Raises Refused (409) while it goes on."""
        await self._transport.run(self._erase())
