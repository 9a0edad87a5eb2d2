"""Both clients for one test: `Client`, and `AsyncClient` called from a thread as if it were one."""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tidegate_client import AsyncClient, AsyncJob, Client, SomeRefused

KINDS = ("Client", "AsyncClient")


@contextmanager
def opened(kind: str, url: str, key: str | None = None, **options: Any) -> Iterator[Client]:
    """A client of this kind; one that is asynchronous has an event loop in a thread of its own."""
    if kind == "Client":
        with Client(url, key, **options) as client:
            yield client
    else:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(AsyncClient(url, key, **options)) as inner,
        ):
            yield cast("Client", _Blocking(inner, portal))


class _Blocking:
    """An AsyncClient or AsyncJob: what it gives to be awaited is waited for."""

    def __init__(self, inner: AsyncClient | AsyncJob, portal: BlockingPortal) -> None:
        self.__dict__.update(_inner=inner, _portal=portal)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.ismethod(found):
            return self._plain(found)

        async def called(*arguments: Any, **named: Any) -> Any:
            come = found(*(each._inner if isinstance(each, _Blocking) else each for each in arguments), **named)
            return await come if inspect.isawaitable(come) else come

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return self._plain(self._portal.call(lambda: called(*arguments, **named)))
            except SomeRefused as some:
                jobs = {index: self._plain(job) for index, job in some.jobs.items()}
                raise SomeRefused(jobs, some.refusals) from some

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def _plain(self, come: Any) -> Any:
        if come is self._inner:
            return self
        if isinstance(come, AsyncJob):
            return _Blocking(come, self._portal)
        if isinstance(come, list):
            return [self._plain(each) for each in come]
        if isinstance(come, AsyncIterator):
            return self._each(come)
        return come

    def _each(self, come: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self._plain(self._portal.call(come.__anext__))
        except StopAsyncIteration:
            return
        finally:
            self._portal.call(cast("Any", come).aclose)
