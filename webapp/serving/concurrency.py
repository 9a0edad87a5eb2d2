"""So many requests are worked on side by side; those that are only held let others have their turn."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Turns:
    """WSGI middleware. The server has a thread for each request that is held, too: without it a burst could set all of
    those on the database at once, whose connections are few.
    """

    def __init__(self, app: "WSGIApplication", most: int) -> None:
        self._app = app
        self._free = threading.Semaphore(most)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Works on a request when it is its turn; sending what the answer yields is none."""
        with self._free:
            return self._app(environ, start_response)

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Within it the request only waits, and another has its turn."""
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For an answer that is still being made while it is sent."""
        with self._free:
            yield
