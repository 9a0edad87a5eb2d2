"""Does the steps of a conversation with the gateway: over blocking connections, or over asynchronous ones."""

import ssl
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx2

from tidegate_client import clock
from tidegate_client.events import EventFeed, JobEvent
from tidegate_client.protocol import (
    EVENT_STREAM,
    Brought,
    Close,
    Gateway,
    Listen,
    Next,
    Pause,
    Request,
    Step,
    Steps,
)

VERSION = "0.1.0"


class Transport:
    """Blocking connections to one gateway; safe to use from many threads."""

    def __init__(self, gateway: Gateway, key: str | None, verify: ssl.SSLContext | bool) -> None:
        self.gateway = gateway
        self._http = httpx2.Client(**_options(gateway, key, verify))

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def run(self, steps: Steps[Brought]) -> Brought:
        """Does the steps and returns what they bring."""
        come: Any = None
        failed: httpx2.RequestError | None = None
        while True:
            try:
                step = steps.throw(failed) if failed else steps.send(come)
            except StopIteration as end:
                brought: Brought = end.value
                return brought
            come = failed = None
            try:
                come = self._do(step)
            except httpx2.RequestError as error:
                failed = error

    def each(self, feed: EventFeed) -> Generator[JobEvent]:
        """Yields the events of a feed, and lets go of its connection in the end."""
        try:
            while event := self.run(feed.next()):
                yield event
        finally:
            self.run(feed.close())

    def _do(self, step: Step) -> Any:
        match step:
            case Pause():
                return clock.sleep(step.seconds)
            case Request():
                return self._sent(step)
            case Listen():
                return step.response, iter(httpx2.EventSource(step.response, max_event_size=None))
            case Next():
                return next(step.stream[1], None)
            case Close():
                return step.stream[0].close()

    def _sent(self, request: Request) -> httpx2.Response:
        response = self._http.send(self._http.build_request(**_parts(request)), stream=request.is_stream)
        if request.is_stream and not _is_event_stream(response):
            try:
                response.read()
            finally:
                response.close()
        return response


class AsyncTransport:
    """Asynchronous connections to one gateway, for one event loop and as many tasks as there are."""

    def __init__(self, gateway: Gateway, key: str | None, verify: ssl.SSLContext | bool) -> None:
        self.gateway = gateway
        self._http = httpx2.AsyncClient(**_options(gateway, key, verify))

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def run(self, steps: Steps[Brought]) -> Brought:
        """Does the steps and returns what they bring."""
        come: Any = None
        failed: httpx2.RequestError | None = None
        while True:
            try:
                step = steps.throw(failed) if failed else steps.send(come)
            except StopIteration as end:
                brought: Brought = end.value
                return brought
            come = failed = None
            try:
                come = await self._do(step)
            except httpx2.RequestError as error:
                failed = error

    async def each(self, feed: EventFeed) -> AsyncGenerator[JobEvent]:
        """Yields the events of a feed, and lets go of its connection in the end."""
        try:
            while event := await self.run(feed.next()):
                yield event
        finally:
            await self.run(feed.close())

    async def _do(self, step: Step) -> Any:
        match step:
            case Pause():
                return await clock.sleep_async(step.seconds)
            case Request():
                return await self._sent(step)
            case Listen():
                return step.response, aiter(httpx2.EventSource(step.response, max_event_size=None))
            case Next():
                return await anext(step.stream[1], None)
            case Close():
                return await step.stream[0].aclose()

    async def _sent(self, request: Request) -> httpx2.Response:
        response = await self._http.send(self._http.build_request(**_parts(request)), stream=request.is_stream)
        if request.is_stream and not _is_event_stream(response):
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


def _parts(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "content": request.content,
        "headers": request.headers,
        "params": request.params,
        "timeout": request.timeout,
    }


def _is_event_stream(response: httpx2.Response) -> bool:
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return response.status_code == 200 and content_type == EVENT_STREAM


def _options(gateway: Gateway, key: str | None, verify: ssl.SSLContext | bool) -> dict[str, Any]:
    """What both kinds of connection are opened with."""
    if key and httpx2.URL(gateway.url).userinfo:
        raise ValueError(
            "a user and password in the gateway's address would be sent in place of the key; leave one out"
        )
    headers = {"User-Agent": f"tidegate-client/{VERSION}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    # A redirect is not followed: the key goes to the address that it was given for, and nowhere else.
    return {
        "headers": headers,
        "verify": verify,
        "follow_redirects": False,
        "limits": httpx2.Limits(max_connections=None),
    }
