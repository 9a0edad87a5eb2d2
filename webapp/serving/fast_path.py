"""The fast path: WSGI middleware that answers plain submits and polls without Flask, which is most of their cost.

Nearly all requests to a gateway are such. Everything else goes to Flask: held reads, events, browsers of other sites,
large inputs. The answers are made by the same handlers, and a test holds both doors to the same answers.
"""

import re
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from werkzeug.datastructures import EnvironHeaders

from tidegate.log_context import about, trace_id
from webapp.context import Context
from webapp.http import job_handlers
from webapp.http.answers import Answer
from webapp.http.base_url import base_url
from webapp.http.job_handlers import JobRequest
from webapp.http.submit_headers import traceparent_in
from webapp.serving.wsgi_answers import send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_JOB = re.compile(r"/v1/jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_JOBS = re.compile(r"/v1/operations/([\w.-]+)/jobs", re.ASCII)
# A request with one of these is not plain.
_MORE = ("HTTP_ORIGIN", "QUERY_STRING")
_SMALL = 65_536  # a longer body may be long on its way


class FastPath:
    """WSGI middleware in front of the Flask application: the fast path."""

    def __init__(self, app: "WSGIApplication", context: Context) -> None:
        self._app = app
        self._own = context
        self._most = min(_SMALL, context.settings.max_body)
        self._vary = [("Vary", "Origin")] if context.settings.cors_origins else []

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answers a plain submit or poll; passes any other request to Flask."""
        answer = self._answer(environ)
        if answer is None:
            return self._app(environ, start_response)
        return send(answer, environ, start_response, self._vary)

    def _answer(self, environ: "WSGIEnvironment") -> Answer | None:
        if any(environ.get(name) for name in _MORE):
            return None
        polled, submitted = _polled(environ), _submitted(environ, self._most)
        base = base_url(environ, self._own.settings.public_url) if polled or submitted else None
        if not base:
            return None
        headers = EnvironHeaders(environ)
        request = JobRequest(path=environ["PATH_INFO"], headers=headers, base_url=base, environ=environ)
        trace = traceparent_in(headers)
        with about(job_id=polled, trace_id=trace_id(trace)) if polled or trace else nullcontext():
            if polled:
                return job_handlers.read(self._own, request, polled)
            return job_handlers.submit(self._own, request, submitted or "")


def _polled(environ: "WSGIEnvironment") -> str | None:
    """The id of the job that a plain poll asks for; None: it is no plain poll."""
    is_held = environ.get("HTTP_PREFER")
    if environ["REQUEST_METHOD"] != "GET" or is_held or "text/" in environ.get("HTTP_ACCEPT", ""):  # events, maybe
        return None
    path = _JOB.fullmatch(environ["PATH_INFO"])
    return path[1] if path else None


def _submitted(environ: "WSGIEnvironment", most: int) -> str | None:
    """The name of the operation that a plain submit is for, of so many bytes at most; None: it is none."""
    if environ["REQUEST_METHOD"] != "POST":
        return None
    length = environ.get("CONTENT_LENGTH", "")
    if not (length.isascii() and length.isdigit() and int(length) <= most):
        return None
    path = _JOBS.fullmatch(environ["PATH_INFO"])
    return path[1] if path else None
