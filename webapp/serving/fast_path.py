"""The fast path: WSGI middleware that answers plain submits and polls without Flask, which is most of their cost.

Nearly all requests to a gateway are such. Everything else goes to Flask: held reads, events, browsers of other sites,
large inputs. An exception here is raised again in Flask, which answers it. Both ways use the same functions, and a test
holds them to the same answers.
"""

import re
from collections.abc import Iterable
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.datastructures import Authorization, EnvironHeaders
from werkzeug.http import parse_etags

from tidegate.access.keys import Caller
from tidegate.jobs.document import Links
from tidegate.log_context import about, trace_id
from webapp.context import FAILED, Context
from webapp.http.answers import HTTP_STATUS, SECURITY_HEADERS, JobAnswer, answer_about, entity_tag
from webapp.http.auth import caller_with
from webapp.http.base_url import base_url
from webapp.http.long_poll import answer_to_submit
from webapp.http.preferences import preferences_in
from webapp.http.rate_limits import COUNTED, Counted
from webapp.http.submit_headers import check_not_encoded, submission_of, traceparent_in

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_JOB = re.compile(r"/v1/jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_JOBS = re.compile(r"/v1/operations/([\w.-]+)/jobs", re.ASCII)
# A request with one of these is not plain.
_MORE = ("HTTP_ORIGIN", "QUERY_STRING")
_SMALL = 65_536  # a longer body may be long on its way
_STATUS_LINES = {
    status: f"{status} {HTTPStatus(status).phrase.upper()}"
    for status in {*HTTP_STATUS.values(), HTTPStatus.NOT_MODIFIED}
}


class FastPath:
    """WSGI middleware in front of the Flask application: the fast path."""

    def __init__(self, app: "WSGIApplication", context: Context) -> None:
        self._app = app
        self._own = context
        self._most = min(_SMALL, context.settings.max_body)
        self._always = [*SECURITY_HEADERS.items(), *([("Vary", "Origin")] if context.settings.cors_origins else [])]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answers a plain submit or poll; passes any other request, and one that fails, to Flask."""
        answer = self._answer(environ)
        if answer is None:
            return self._app(environ, start_response)
        headers = [*answer.headers.items(), *self._always]
        if answer.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(_STATUS_LINES[answer.status], headers)
        return [answer.body]

    def _answer(self, environ: "WSGIEnvironment") -> JobAnswer | None:
        if any(environ.get(name) for name in _MORE):
            return None
        polled, submitted = _polled(environ), _submitted(environ, self._most)
        base = base_url(environ, self._own.settings.public_url) if polled or submitted else None
        if not base:
            return None
        headers = EnvironHeaders(environ)
        trace = traceparent_in(headers)
        try:
            with about(job_id=polled, trace_id=trace_id(trace)) if polled or trace else nullcontext():
                caller = caller_with(Authorization.from_header(headers.get("Authorization")), self._own.authenticator)
                links = Links(base=base, signer=caller.signer)
                if polled:
                    return self._poll(environ, polled, caller, links)
                return self._submit(environ, submitted or "", caller, links)
        except Exception as error:  # noqa: BLE001 - Flask raises it again, and has an answer to each
            environ[FAILED] = error
            return None

    def _poll(self, environ: "WSGIEnvironment", job_id: str, caller: Caller, links: Links) -> JobAnswer:
        jobs = self._own.jobs
        known_tags = environ.get("HTTP_IF_NONE_MATCH")
        if known_tags is None:
            job, result = jobs.get_with_result(job_id, client_id=caller.scope)
            answer = answer_about(job, result, jobs, links)
        else:
            job = jobs.get(job_id, client_id=caller.scope)
            is_known = HTTP_STATUS[job.state] < 400 and parse_etags(known_tags).contains_weak(entity_tag(job))
            result = None if is_known else jobs.result(job)
            answer = answer_about(job, result, jobs, links, status=HTTPStatus.NOT_MODIFIED if is_known else None)
        answer.headers["Vary"] = "Accept"
        if not job.state.is_final and self._own.poll_limit:
            answer.headers.update(_count(environ, Counted("reads", self._own.poll_limit.ask(caller.client_id))))
        return answer

    def _submit(self, environ: "WSGIEnvironment", operation: str, caller: Caller, links: Links) -> JobAnswer:
        own = self._own
        limit = own.submit_limit
        limits = _count(environ, Counted("submits", limit.ask(caller.client_id))) if limit else {}
        headers = EnvironHeaders(environ)
        check_not_encoded(headers)
        content = own.bodies.read(environ, caller.client_id, int(environ["CONTENT_LENGTH"]))
        submission = submission_of(headers, content, operation, caller.client_id, links.base)
        with own.turns.taken():
            job = own.jobs.submit(submission)
        wishes = preferences_in(environ.get("HTTP_PREFER", ""), own.settings.hold_seconds)
        answer = answer_to_submit(own, caller, job, wishes, links, path=environ["PATH_INFO"])
        answer.headers.update(limits)
        return answer


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


def _count(environ: "WSGIEnvironment", counted: Counted) -> dict[str, str]:
    """The RateLimit fields of the answer; raises TooFast, and then Flask's answer has them."""
    environ[COUNTED] = counted
    counted.check()
    return counted.fields()
