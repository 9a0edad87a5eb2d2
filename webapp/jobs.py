"""Jobs over HTTP: submit, read, the raw result, cancel."""

import re
from datetime import timedelta
from uuid import UUID

from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected

from tidegate.errors import BodyTooLarge, InvalidHeader, UnsupportedBody
from tidegate.operations import Body
from tidegate.states import State
from webapp import gateway
from webapp.auth import client_id
from webapp.documents import HTTP_STATUS, absolute, job_answer, job_path

routes = Blueprint("jobs", __name__, url_prefix="/v1")

LONGEST_CONTENT_TYPE = 200  # what its column holds


@routes.post("/operations/<operation>/jobs")
def submit(operation: str) -> Response:
    """Records a job: 202 and the one URL that tells everything about it."""
    job = gateway().jobs.submit(operation, _body(), client_id=client_id(), timeout=_job_timeout())
    response = job_answer(job, status=202)
    response.headers["Location"] = absolute(job_path(job))
    return response


@routes.get("/jobs/<uuid:job_id>")
def read(job_id: UUID) -> Response:
    """How far the job is; when it is final, how it ended."""
    jobs = gateway().jobs
    job = jobs.get(str(job_id), client_id=client_id())
    return job_answer(job, jobs.result(job))


@routes.get("/jobs/<uuid:job_id>/result")
def result(job_id: UUID) -> Response:
    """The raw result with its own content type; until then, and without one, as the job itself."""
    jobs = gateway().jobs
    job = jobs.get(str(job_id), client_id=client_id())
    body = jobs.result(job)
    if body is None:
        return job_answer(job)
    response = Response(body.content, HTTP_STATUS[job.state], content_type=body.content_type)
    response.headers["Tidegate-Job-State"] = job.state
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@routes.post("/jobs/<uuid:job_id>/cancel")
def cancel(job_id: UUID) -> Response:
    """200: now cancelled. 202: a running attempt was asked to stop. 409: already ended otherwise."""
    job = gateway().jobs.cancel(str(job_id), client_id=client_id())
    return job_answer(job, status=200 if job.state is State.CANCELLED else 202)


def _body() -> Body:
    """The request's body, whole: what was cut off on its way must not become a job."""
    content = request.get_data(cache=False)
    most = gateway().settings.max_body
    if len(content) > most:
        raise BodyTooLarge(f"at most {most} bytes are taken")
    if request.content_length is not None and len(content) < request.content_length:
        raise ClientDisconnected("the body ended before its Content-Length")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedBody("send the body without Content-Encoding: it is passed on as it is")
    content_type = request.headers.get("Content-Type", "")
    if len(content_type) > LONGEST_CONTENT_TYPE:
        raise InvalidHeader(f"Content-Type: at most {LONGEST_CONTENT_TYPE} characters are taken")
    return Body(content=content, content_type=content_type)


def _job_timeout() -> timedelta | None:
    value = request.headers.get("Job-Timeout")
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", value.strip(), re.ASCII):
        raise InvalidHeader(f"Job-Timeout: {value[:40]!r} is not a whole number of seconds, at least 1")
    return timedelta(seconds=int(value))
