"""What clients read, as Flask responses: jobs, and other JSON."""

from typing import Any

import orjson
from flask import Response, request

from tidegate.forecast import Waiting
from tidegate.job import Job, StoredBody
from tidegate.job_document import Links, document_of, job_path
from webapp import gateway, shapes
from webapp.auth import signer
from webapp.job_answers import answer_about


def links_here() -> Links:
    """For who makes this request: under the public base URL if one is set, else as the request came in."""
    return Links(base=gateway().settings.public_url or request.root_url.rstrip("/"), signer=signer())


def absolute(path: str) -> str:
    """The absolute URL of a path."""
    return links_here().base + path


def job_document(
    job: Job, result: StoredBody | None = None, waiting: Waiting | None = None, links: Links | None = None
) -> shapes.Job:
    """The job's document. `links`: outside of the request that they were made for."""
    return document_of(job, links or links_here(), result, waiting)


def job_answer(job: Job, result: StoredBody | None = None, *, status: int | None = None) -> Response:
    """The answer about a job, as a response."""
    answer = answer_about(job, result, gateway().jobs, links_here(), path=request.path, status=status)
    return Response(answer.body, answer.status, answer.headers)


def accepted(job: Job) -> Response:
    """The answer to a submit: 202 and where to look, whatever the job's state by now."""
    response = job_answer(job, status=202)
    response.headers["Location"] = absolute(job_path(job))
    response.headers.setdefault("Retry-After", "1")  # the end of a replayed job can be read at once
    del response.headers["ETag"]  # it names what GET shows
    return response


def json_answer(document: Any, status: int = 200, content_type: str = "application/json") -> Response:
    """A JSON response."""
    return Response(orjson.dumps(document), status, content_type=content_type)
