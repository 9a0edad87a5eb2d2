"""Writes an Answer as a WSGI response, for middleware in front of Flask."""

from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.http import HTTP_STATUS_CODES

from tidegate.errors import Refusal
from tidegate.metrics.counters import Counts
from tidegate.metrics.families import REFUSALS as REFUSALS_COUNTED
from webapp.http.answers import SECURITY_HEADERS, Answer
from webapp.http.refusals import REFUSALS, refusal_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_SECURITY = list(SECURITY_HEADERS.items())


def send(
    answer: Answer,
    environ: "WSGIEnvironment",
    start_response: "StartResponse",
    more: Sequence[tuple[str, str]] = (),
) -> list[bytes]:
    """Starts the response and returns its body; to HEAD there is none. `more`: further headers."""
    start_response(_status_line(answer.status), [*headers_of(answer), *more])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


def refuse(
    refusal: Refusal, environ: "WSGIEnvironment", start_response: "StartResponse", counts: Counts
) -> list[bytes]:
    """Refuses a request before any route is known; counts the refusal for the metrics."""
    counts.add(REFUSALS_COUNTED, "", REFUSALS[type(refusal)][1])
    return send(refusal_answer(refusal, environ.get("PATH_INFO") or "/"), environ, start_response)


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """All headers of the response: the answer's own, those for security, and the length of the body."""
    headers = [*answer.headers.items(), *_SECURITY]
    if answer.status != HTTPStatus.NOT_MODIFIED:
        headers.append(("Content-Length", str(len(answer.body))))
    return headers


@cache
def _status_line(status: int) -> str:
    """As Werkzeug writes it: `429 TOO MANY REQUESTS`."""
    return f"{status} {HTTP_STATUS_CODES[status].upper()}"
