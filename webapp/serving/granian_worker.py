"""Reaches into granian's WSGI worker for what it does not pass on: a request's protocol object and head size.

With the protocol object another thread can answer a request.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from granian.server import mp

from tidegate import clock

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEAD_BYTES = "tidegate.head_bytes"
"""Key in the WSGI environment: bytes of the request's line and header fields."""
_PROTOCOL = "tidegate.protocol"
_INPUT = "wsgi.input"


def tell_more() -> None:
    """Patches granian's worker so that each request's WSGI environment has them."""
    # granian has no public way to the protocol object.
    mp._wsgi_call_wrap = _telling(mp._wsgi_call_wrap)  # type: ignore[attr-defined]  # noqa: SLF001


def answer_and_close(
    environ: "WSGIEnvironment", status: int, headers: Sequence[tuple[str, str]], body: bytes, *, linger_seconds: float
) -> None:
    """Answers a request for its thread, which waits for the body, and closes the connection after so many seconds.

    What is not sent by then is lost.
    The answer stays one byte short of what it announces: it can't be finished, so the server closes, and with that the
    wait for the body ends. After a whole answer it would go on for as long as the client likes. What the thread then
    answers is passed over; so is this if the thread was first, or the server is another.
    """
    protocol = environ.get(_PROTOCOL)
    if protocol is not None:
        announced = [(name, value) for name, value in headers if name != "Content-Length"]
        announced += [("Content-Length", str(len(body) + 1)), ("Connection", "close")]
        protocol.response_iter(status, announced, _sent(body, linger_seconds))


def _sent(body: bytes, linger_seconds: float) -> Iterator[bytes]:
    yield body
    clock.sleep(linger_seconds)


def _telling(wrap: Callable[..., Callable[[Any, dict[str, Any]], Any]]) -> Callable[..., Any]:
    def wrapped(*arguments: Any) -> Callable[[Any, dict[str, Any]], Any]:
        run = wrap(*arguments)

        def run_telling(protocol: Any, scope: dict[str, Any]) -> Any:
            # All other keys and values are strings of the request's head, as it came.
            body = scope.pop(_INPUT)
            size = sum(map(len, scope)) + sum(map(len, scope.values()))
            scope[_INPUT], scope[_PROTOCOL], scope[HEAD_BYTES] = body, protocol, size
            return run(protocol, scope)

        return run_telling

    return wrapped
