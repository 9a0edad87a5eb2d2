"""What clients read: a job as a document, under its HTTP status."""

from typing import Any, cast

import orjson
from flask import Response, request

from tidegate.forecast import Waiting
from tidegate.job import Job, StoredBody
from tidegate.outcomes import ErrorCode
from tidegate.states import State
from webapp import gateway, shapes
from webapp.errors import problem
from webapp.instants import instant

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
_ERRORS: dict[State, shapes.JobError] = {
    State.EXPIRED: {"code": ErrorCode.DEADLINE_EXCEEDED, "message": "there was no result before the deadline"},
    State.CANCELLED: {"code": ErrorCode.CANCELLED, "message": "the job was called off before it had a result"},
}


def absolute(path: str) -> str:
    """The absolute URL of a path: under the public base URL if one is set, else as the request came in."""
    return (gateway().settings.public_url or request.root_url.rstrip("/")) + path


def job_path(job: Job) -> str:
    """The one URL that tells everything about a job."""
    return f"/v1/jobs/{job.id}"


def job_document(job: Job, result: StoredBody | None = None, waiting: Waiting | None = None) -> shapes.Job:
    """The document of contract and README. A result that is JSON stands in it as it is."""
    url = absolute(job_path(job))
    return {
        "id": job.id,
        "operation": job.operation,
        "state": job.state,
        "progress": {"percent": job.percent, "done": job.done, "total": job.total, "note": job.note},
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": instant(job.created_at),
        "started_at": instant(job.started_at),
        "finished_at": instant(job.finished_at),
        "deadline": instant(job.deadline),
        "retry_of": job.retry_of,
        "waiting": _waiting_document(waiting),
        "result": orjson.Fragment(result.content) if result and result.is_json else None,
        "result_content_type": result.content_type if result else None,
        "error": _error_document(job),
        "links": {"self": url, "result": f"{url}/result", "cancel": f"{url}/cancel", "retry": f"{url}/retry"},
    }


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


def _error_document(job: Job) -> shapes.JobError | None:
    if job.state is State.FAILED:
        return cast("shapes.JobError", job.error)
    return _ERRORS.get(job.state)


def _waiting_document(waiting: Waiting | None) -> shapes.Waiting | None:
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "position": waiting.position,
        "estimated_start": instant(waiting.estimated_start),
        "estimated_finish": instant(waiting.estimated_finish),
    }
