"""Answers plain polls by itself, past Flask: they are most of what a gateway is asked, and Flask most of their cost.

Everything that is more than a plain poll, or does not end in an answer about a job, is Flask's: held requests, events,
refusals, errors. The two say the same, which a test holds them to, for they share all that says something.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.datastructures import Authorization
from werkzeug.http import parse_etags
from werkzeug.wrappers import Request

from tidegate.job import Job
from tidegate.job_document import Links
from tidegate.keys import Caller
from tidegate.log_context import about
from webapp import SECURITY_HEADERS, Gateway
from webapp.auth import caller_with
from webapp.job_answers import HTTP_STATUS, JobAnswer, answer_about, entity_tag
from webapp.limits import COUNTED, fields

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = re.compile(r"/v1/jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_MORE = ("HTTP_PREFER", "HTTP_ORIGIN", "QUERY_STRING")  # what may ask for more than the document as it is now
_STATUS_LINES = {
    status: f"{status} {HTTPStatus(status).phrase.upper()}"
    for status in {*HTTP_STATUS.values(), HTTPStatus.NOT_MODIFIED}
}


class Polls:
    """WSGI middleware around the application of this gateway."""

    def __init__(self, app: "WSGIApplication", gateway: Gateway) -> None:
        self._app = app
        self._own = gateway
        vary = "Accept, Origin" if gateway.settings.cors_origins else "Accept"
        self._always = [*SECURITY_HEADERS.items(), ("Vary", vary)]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """The answer to a plain poll; whatever else it is, the application's."""
        job_id = _polled(environ)
        answer = self._answer(environ, job_id) if job_id else None
        if answer is None:
            return self._app(environ, start_response)
        headers = [*answer.headers.items(), *self._always]
        if answer.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(_STATUS_LINES[answer.status], headers)
        return [answer.body]

    def _answer(self, environ: "WSGIEnvironment", job_id: str) -> JobAnswer | None:
        base = self._own.settings.public_url or _base(
            environ["wsgi.url_scheme"], environ.get("HTTP_HOST", ""), environ.get("SCRIPT_NAME", "")
        )
        if not base:
            return None
        try:
            with about(job_id=job_id):
                return self._answer_under(base, environ, job_id)
        except Exception:  # noqa: BLE001 - the application meets it again, and says what there is to say
            return None

    def _answer_under(self, base: str, environ: "WSGIEnvironment", job_id: str) -> JobAnswer | None:
        own = self._own
        caller = caller_with(Authorization.from_header(environ.get("HTTP_AUTHORIZATION")), own.doorkeeper)
        links = Links(base=base, signer=caller.signer)
        known_tags = environ.get("HTTP_IF_NONE_MATCH")
        if known_tags is None:
            job, result = own.jobs.get_with_result(job_id, client_id=caller.scope)
            answer = answer_about(job, result, own.jobs, links)
        else:
            job = own.jobs.get(job_id, client_id=caller.scope)
            answer = (
                answer_about(job, None, own.jobs, links, status=HTTPStatus.NOT_MODIFIED)
                if _is_known(job, known_tags)
                else answer_about(job, own.jobs.result(job), own.jobs, links)
            )
        return answer if job.state.is_final else self._counted(answer, caller, environ)

    def _counted(self, answer: JobAnswer, caller: Caller, environ: "WSGIEnvironment") -> JobAnswer | None:
        """The answer, with what is left of the client's limit; None, and that it was counted, when nothing is."""
        if self._own.poll_limit is None:
            return answer
        verdict = self._own.poll_limit.ask(caller.client_id)
        if not verdict.allowed:
            environ[COUNTED] = verdict
            return None
        answer.headers.update(fields("reads", verdict))
        return answer


def _polled(environ: "WSGIEnvironment") -> str | None:
    """The job that a plain poll is about; None for any other request."""
    if environ["REQUEST_METHOD"] != "GET" or any(environ.get(name) for name in _MORE):
        return None
    if "text/" in environ.get("HTTP_ACCEPT", ""):  # events, maybe
        return None
    path = _PATH.fullmatch(environ["PATH_INFO"])
    return path[1] if path else None


def _is_known(job: Job, tags: str) -> bool:
    return HTTP_STATUS[job.state] < 400 and parse_etags(tags).contains_weak(entity_tag(job))


@lru_cache(1024)
def _base(scheme: str, host: str, root: str) -> str | None:
    """The base URL of links under this host, as Flask tells it; None for a host that is none."""
    request = Request({"wsgi.url_scheme": scheme, "HTTP_HOST": host, "SCRIPT_NAME": root, "REQUEST_METHOD": "GET"})
    return request.root_url.rstrip("/") if host and request.host else None
