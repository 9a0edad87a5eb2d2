"""Limits how many requests are worked on at once; those that only wait (long polls) don't count."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ConcurrencyLimit:
    """WSGI middleware with a semaphore: only so many threads use the database at once.

    The server has a thread for each held request too: without a limit a burst could set all of those on the database at
    once, whose connections are few.
    """

    def __init__(self, app: "WSGIApplication", most: int) -> None:
        self._app = app
        self._free = threading.Semaphore(most)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Runs the application within the semaphore; streaming the answer afterwards does not count."""
        with self._free:
            return self._app(environ, start_response)

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Releases the semaphore while a request only waits, so that another is worked on."""
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Acquires the semaphore for work that is done outside the application's call: in middleware or a stream."""
        with self._free:
            yield
