"""HTTP answers (status, headers, body) as plain values without Flask, and how those about a job are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import orjson

from tidegate.gateway import Gateway
from tidegate.jobs.document import Links, document_of, error_of, job_path
from tidegate.jobs.job import Job, StoredBody
from tidegate.states import State
from webapp.http import shapes

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENT_STREAM = "text/event-stream"
PROBLEM_TYPE_PREFIX = "urn:tidegate:problem:"
# A result is somebody's bytes: a browser must neither guess its type nor run anything in it.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}

HTTP_STATUS = {
    State.QUEUED: 202,
    State.RUNNING: 202,
    State.SUCCEEDED: 200,
    State.EXPIRED: 504,
    State.FAILED: 502,
    State.CANCELLED: 410,
}
"""The HTTP status of a job in each state."""

TITLES = {
    State.EXPIRED: "The job did not finish in time",
    State.FAILED: "The job failed",
    State.CANCELLED: "The job was cancelled",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP answer. The body of a 304 is empty, and it has no content type."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_about(
    job: Job,
    result: StoredBody | None,
    jobs: Gateway,
    links: Links,
    *,
    path: str | None = None,
    status: int | None = None,
) -> Answer:
    """Makes the answer about a job: its document; for an end without a result, as a problem.

    `status`: in place of the state's own. `path`: the one that was asked for, if it is not the job's own.
    """
    status = status or HTTP_STATUS[job.state]
    waiting = jobs.waiting(job)
    headers = {"Tidegate-Job-State": job.state.value, "Cache-Control": "private, no-cache"}
    if status < 400:
        headers["ETag"] = f'W/"{entity_tag(job)}"'
    if not job.state.is_final:
        headers["Retry-After"] = str(jobs.retry_after_seconds(job, waiting))
    if status == 304:
        return Answer(status=status, headers=headers, body=b"")
    headers["Content-Type"] = JSON if status < 400 else PROBLEM
    document: Mapping[str, object] = document_of(job, links, result, waiting)
    if status >= 400:
        document = {**_problem(job, status, path or job_path(job)), **document}
    return Answer(status=status, headers=headers, body=orjson.dumps(document))


def accepted_answer(job: Job, jobs: Gateway, links: Links) -> Answer:
    """Makes the answer to a submit: 202 with Location, whatever the job's state by now."""
    answer = answer_about(job, None, jobs, links, status=202)
    answer.headers["Location"] = links.base + job_path(job)
    answer.headers.setdefault("Retry-After", "1")  # the end of a replayed job can be read at once
    del answer.headers["ETag"]  # it names what GET shows
    return answer


def entity_tag(job: Job) -> str:
    """The ETag of a job: version and state. It changes with every change that a caller can see.

    An expiry that no row says yet changes the state.
    """
    return f"{job.version}-{job.state}"


def problem_document(name: str, title: str, status: int, detail: str, path: str) -> shapes.Problem:
    """Makes a problem document (RFC 9457) about a request to this path."""
    return {
        "type": PROBLEM_TYPE_PREFIX + name,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(path, safe="/:@!$&'()*+,;=~"),
    }


def _problem(job: Job, status: int, path: str) -> shapes.Problem:
    error = error_of(job)
    message = error["message"] if error else ""
    return problem_document(f"job-{job.state}", TITLES[job.state], status, message, path)
