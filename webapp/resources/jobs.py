"""The routes of jobs: submit, read, list, the raw result, cancel, retry, delete."""

from collections.abc import Callable
from uuid import UUID

from flask import Blueprint, Response, request

from tidegate.errors import (
    InvalidQuery,
    JobAlreadyFinal,
    JobNotFinal,
    NoRoom,
    TooSlow,
    UnknownJob,
    UnknownOperation,
)
from tidegate.jobs.job import Job
from tidegate.states import State
from webapp.context import Context, context
from webapp.http import job_handlers, shapes
from webapp.http.answers import HTTP_STATUS, Answer
from webapp.http.auth import caller
from webapp.http.documents import absolute, base_here, job_answer, job_document, json_answer, response_of
from webapp.http.job_handlers import JobRequest
from webapp.http.queries import listing_filter, next_page
from webapp.http.rate_limits import count
from webapp.openapi import answers
from webapp.openapi.answers import Document, NoContent, job_links
from webapp.openapi.route import BAD_JSON, SUBMIT_REFUSALS, described
from webapp.resources import events

routes = Blueprint("jobs", __name__, url_prefix="/v1")


@routes.post("/operations/<operation>/jobs")
@described(
    id="submit",
    tag="Operations",
    answers=answers.submitted,
    parameters=(
        *("Idempotency-Key", "Job-Not-Before", "Job-Partition", "Job-Priority"),
        *("Prefer", "Webhook-Url", "traceparent"),
    ),
    refusals=SUBMIT_REFUSALS,
    counted="submits",
    writes=True,
    of_each_operation=True,
)
def submit(operation: str) -> Response:
    """Records a job: 202 with its URL, which tells everything about it."""
    return _handled(job_handlers.submit, operation)


@routes.get("/jobs")
@described(
    id="listJobs",
    tag="Jobs",
    answers=Document(
        "A page of jobs.",
        shapes.JobList,
        headers=("Cache-Control",),
        links=job_links("$response.body#/jobs/0/id"),
    ),
    parameters=(
        *("state", "operation", "downstream_filter", "partition_filter", "error_code"),
        *("created_after", "created_before", "client", "limit", "cursor"),
    ),
    refusals=(InvalidQuery, TooSlow),
    counted="reads",
)
def listing() -> Response:
    """Lists the caller's jobs without results, newest first, a page at a time; all filters that are given hold."""
    count(context().poll_limit, "reads")
    wanted = listing_filter(caller())
    page = context().jobs.list(wanted)
    document: shapes.JobList = {
        "jobs": [job_document(job, waiting=context().jobs.waiting(job)) for job in page.jobs],
        "next": absolute(next_page(page.before_id)) if page.before_id else None,
    }
    response = json_answer(document)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@routes.get("/jobs/<uuid:job_id>")
@described(
    id="readJob",
    tag="Jobs",
    answers=answers.read,
    parameters=("job_id", "If-None-Match", "Prefer"),
    refusals=(UnknownJob, NoRoom),
    counted="reads",
)
def read(job_id: UUID) -> Response:
    """Reads a job: how far it is; when it is final, how it ended. Events instead, by `Accept`."""
    if events.is_wanted():
        return events.stream(_job(job_id))
    return _handled(job_handlers.read, str(job_id))


@routes.get("/jobs/<uuid:job_id>/result")
@described(
    id="readResult",
    tag="Jobs",
    answers=answers.result,
    parameters=("job_id",),
    refusals=(UnknownJob,),
    counted="reads",
)
def result(job_id: UUID) -> Response:
    """Reads the raw result with its own content type; until there is one, and without one, the job itself."""
    job = _job(job_id)
    body = context().jobs.result(job)
    if body is None:
        return job_answer(job)
    response = Response(body.content, HTTP_STATUS[job.state], content_type=body.content_type)
    response.headers["Tidegate-Job-State"] = job.state
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@routes.post("/jobs/<uuid:job_id>/cancel")
@described(
    id="cancelJob",
    tag="Jobs",
    answers=answers.cancelled,
    parameters=("job_id",),
    refusals=(UnknownJob, JobAlreadyFinal),
    writes=True,
)
def cancel(job_id: UUID) -> Response:
    """Cancels a job. 200: now cancelled. 202: a running attempt was asked to stop. 409: already ended otherwise."""
    job = context().jobs.cancel(str(job_id), client_id=caller().scope)
    return job_answer(job, status=200 if job.state is State.CANCELLED else 202)


@routes.post("/jobs/<uuid:job_id>/retry")
@described(
    id="retryJob",
    tag="Jobs",
    answers=answers.submitted,
    parameters=("job_id", "Idempotency-Key", "Prefer"),
    refusals=(UnknownJob, JobNotFinal, JobAlreadyFinal, UnknownOperation, *SUBMIT_REFUSALS, *BAD_JSON),
    counted="submits",
    writes=True,
)
def retry(job_id: UUID) -> Response:
    """Retries a final job that did not succeed: submits it as a new job."""
    return _handled(job_handlers.retry, str(job_id))


@routes.delete("/jobs/<uuid:job_id>")
@described(
    id="deleteJob",
    tag="Jobs",
    answers=NoContent("The job and its result are gone."),
    parameters=("job_id",),
    refusals=(UnknownJob, JobNotFinal),
    writes=True,
)
def delete(job_id: UUID) -> Response:
    """Erases a final job and its result."""
    context().jobs.delete(str(job_id), client_id=caller().scope)
    return Response(status=204)


def _handled(handler: Callable[[Context, JobRequest, str], Answer], target: str) -> Response:
    """Has this request answered by its handler, which takes a turn where it needs one: the thread gives up its own."""
    own = context()
    asked = JobRequest(path=request.path, headers=request.headers, base_url=base_here(), environ=request.environ)
    with own.turns.given_up():
        return response_of(handler(own, asked, target))


def _job(job_id: UUID) -> Job:
    """The job of this request. Polls of final jobs are not counted: clients repeat a 502 or 504 by themselves."""
    job = context().jobs.get(str(job_id), client_id=caller().scope)
    if not job.state.is_final:
        count(context().poll_limit, "reads")
    return job
