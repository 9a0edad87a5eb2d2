"""The outermost WSGI middleware: answers liveness probes, and refuses overload, oversized heads and chunked bodies."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import orjson

from config.web_server import LARGEST_HEAD
from tidegate.errors import FieldsTooLarge, LengthRequired, Overloaded
from tidegate.metrics.counters import Counts
from webapp.http import shapes
from webapp.http.answers import JSON, SECURITY_HEADERS
from webapp.serving.granian_worker import HEAD_BYTES
from webapp.serving.worker_watch import PROBE
from webapp.serving.wsgi_answers import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Longer than any program's Accept; parsing one of 32 KB takes a tenth of a second.
_LONGEST_ACCEPT = 1024
_PROBE_IN_ENVIRON = "HTTP_" + PROBE.upper().replace("-", "_")
_LIVE_PATH = "/health/live"
_LIVE: shapes.Health = {"status": "live"}
LIVE = orjson.dumps(_LIVE)


class RequestGuard:
    """WSGI middleware. `most`: requests at once; the server has more threads, to refuse the excess at once."""

    def __init__(self, app: "WSGIApplication", most: int, counts: Counts) -> None:
        self._app = app
        self._most = most
        self._counts = counts
        self._inside = 0
        self._pid = str(os.getpid())
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Passes the request to the application, or answers or refuses it itself."""
        if environ["PATH_INFO"] == _LIVE_PATH and _is_probe(environ):
            # Only the main process asks which of its workers answers.
            which = [(PROBE, self._pid)] if _PROBE_IN_ENVIRON in environ else []
            start_response("200 OK", _LIVE_HEADERS + which)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [LIVE]
        if environ.get("HTTP_TRANSFER_ENCODING"):
            # granian passes on a chunked body that broke off as if it were complete.
            return refuse(LengthRequired(_NO_LENGTH), environ, start_response, self._counts)
        size = environ.get(HEAD_BYTES, 0)
        if size > _LONGEST_ACCEPT:
            if size > LARGEST_HEAD:
                return refuse(FieldsTooLarge(_TOO_LARGE), environ, start_response, self._counts)
            if len(environ.get("HTTP_ACCEPT", "")) > _LONGEST_ACCEPT:
                environ["HTTP_ACCEPT"] = ""  # treated as none: the client gets the default
        with self._lock:
            has_room = self._inside < self._most
            self._inside += has_room
        if not has_room:
            return refuse(Overloaded(_FULL), environ, start_response, self._counts)
        is_list = True
        try:
            answer = self._app(environ, start_response)
            is_list = type(answer) is list
        finally:
            if is_list:
                self._leave()
        return answer if is_list else _Sent(answer, self._leave)

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1


class _Sent:
    """A streamed answer: its request counts until the stream ends or is closed."""

    def __init__(self, answer: Iterable[bytes], leave: Callable[[], None]) -> None:
        self._answer = answer
        self._parts = iter(answer)
        self._leave: Callable[[], None] | None = leave

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Closes the stream, as WSGI asks."""
        try:
            close = getattr(self._answer, "close", None)
            if close:
                close()
        finally:
            self._end()

    def _end(self) -> None:
        leave, self._leave = self._leave, None
        if leave:
            leave()


_LIVE_HEADERS = [*SECURITY_HEADERS.items(), ("Content-Type", JSON), ("Content-Length", str(len(LIVE)))]
_NO_LENGTH = "send a Content-Length; a proxy that buffers uploads does so for clients that can't"
_TOO_LARGE = f"at most {LARGEST_HEAD // 1024} KB of request line and header fields are taken"
_FULL = "as many requests are under way here as may be"


def _is_probe(environ: "WSGIEnvironment") -> bool:
    """Whether it is a GET or HEAD by no other site's page: what such a page may read is decided in Flask (CORS)."""
    return environ["REQUEST_METHOD"] in {"GET", "HEAD"} and "HTTP_ORIGIN" not in environ
