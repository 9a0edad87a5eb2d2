"""What clients read: a job as a document, under its HTTP status."""

from typing import Any

import orjson
from flask import Response, request

from tidegate.forecast import Waiting
from tidegate.job import Job, StoredBody
from tidegate.job_document import Links, document_of, job_path
from tidegate.states import State
from webapp import gateway, shapes
from webapp.auth import signer
from webapp.errors import problem

HTTP_STATUS = {
    State.QUEUED: 202,
    State.RUNNING: 202,
    State.SUCCEEDED: 200,
    State.EXPIRED: 504,
    State.FAILED: 502,
    State.CANCELLED: 410,
}
"""The one place that says how a state is told over HTTP."""

TITLES = {
    State.EXPIRED: "The job did not finish in time",
    State.FAILED: "The job failed",
    State.CANCELLED: "The job was cancelled",
}


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
    """The answer about a job: its document under its status; for an end without result as a problem."""
    status = status or HTTP_STATUS[job.state]
    jobs = gateway().jobs
    waiting = jobs.waiting(job)
    if status == 304:
        response = Response(status=304)
    elif status >= 400:
        response = _job_problem(job, job_document(job, result, waiting), status)
    else:
        response = json_answer(job_document(job, result, waiting), status)
    response.headers["Tidegate-Job-State"] = job.state
    response.headers["Cache-Control"] = "private, no-cache"
    if status < 400:
        response.headers["ETag"] = f'W/"{entity_tag(job)}"'
    if not job.state.is_final:
        response.headers["Retry-After"] = str(jobs.retry_after_seconds(job, waiting))
    return response


def accepted(job: Job) -> Response:
    """The answer to a submit: 202 and where to look, whatever the job's state by now."""
    response = job_answer(job, status=202)
    response.headers["Location"] = absolute(job_path(job))
    response.headers.setdefault("Retry-After", "1")  # the end of a replayed job can be read at once
    del response.headers["ETag"]  # it names what GET shows
    return response


def entity_tag(job: Job) -> str:
    """Changes with every change that a caller can see; an expiry changes the state, whoever notices it first."""
    return f"{job.version}-{job.state}"


def json_answer(document: Any, status: int = 200, content_type: str = "application/json") -> Response:
    """A JSON response."""
    return Response(orjson.dumps(document), status, content_type=content_type)


def _job_problem(job: Job, document: shapes.Job, status: int) -> Response:
    error = document["error"]
    return problem(f"job-{job.state}", TITLES[job.state], status, error["message"] if error else "", document)
