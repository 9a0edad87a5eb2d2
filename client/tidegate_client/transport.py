"""Does the steps of a conversation with the gateway: over blocking connections, or over asynchronous ones."""

import ssl
from typing import Any

import httpx2

from tidegate_client import clock
from tidegate_client.protocol import Brought, Gateway, Pause, Step, Steps

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

    def _do(self, step: Step) -> Any:
        match step:
            case Pause():
                return clock.sleep(step.seconds)
            case _:
                return self._http.request(
                    step.method,
                    step.url,
                    content=step.content,
                    headers=step.headers,
                    params=step.params,
                    timeout=step.timeout,
                )


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

    async def _do(self, step: Step) -> Any:
        match step:
            case Pause():
                return await clock.sleep_async(step.seconds)
            case _:
                return await self._http.request(
                    step.method,
                    step.url,
                    content=step.content,
                    headers=step.headers,
                    params=step.params,
                    timeout=step.timeout,
                )


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
