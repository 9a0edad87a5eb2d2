"""Flask responses with a job's document, or other JSON."""

from typing import Any

import orjson
from flask import Response, request

from tidegate.jobs.document import Links, document_of
from tidegate.jobs.job import Job, StoredBody, Waiting
from webapp.context import context
from webapp.http import shapes
from webapp.http.answers import Answer, answer_about
from webapp.http.auth import signer
from webapp.http.base_url import base_url


def links_here() -> Links:
    """The Links for the caller of this request: under the public URL if one is set, else as the request came in."""
    return Links(base=base_here(), signer=signer())


def base_here() -> str:
    """The base URL of links in the answer to this request, without a slash at its end."""
    return base_url(request.environ, context().settings.public_url) or request.root_url.rstrip("/")


def absolute(path: str) -> str:
    """Makes the absolute URL of a path."""
    return base_here() + path


def job_document(
    job: Job, result: StoredBody | None = None, waiting: Waiting | None = None, links: Links | None = None
) -> shapes.Job:
    """The job's document. `links`: for use outside of the request that they were made for."""
    return document_of(job, links or links_here(), result, waiting)


def job_answer(job: Job, result: StoredBody | None = None, *, status: int | None = None) -> Response:
    """The answer about a job, as a Flask response."""
    return response_of(answer_about(job, result, context().jobs, links_here(), path=request.path, status=status))


def json_answer(document: Any, status: int = 200, content_type: str = "application/json") -> Response:
    """A JSON response."""
    return Response(orjson.dumps(document), status, content_type=content_type)


def response_of(answer: Answer) -> Response:
    """Makes a Flask response of an Answer."""
    return Response(answer.body, answer.status, answer.headers)
