"""Server-sent events of a job: its state and its progress, until it is final."""

import random
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

import orjson
from flask import Blueprint, Response, request

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import NoRoom, UnknownJob
from tidegate.jobs.job import Job
from tidegate.notify.subscription import Subscription
from webapp.context import context
from webapp.http.answers import EVENT_STREAM
from webapp.http.auth import caller, caller_with_ticket
from webapp.http.documents import job_document, links_here
from webapp.http.rate_limits import count
from webapp.openapi import answers
from webapp.openapi.route import described

routes = Blueprint("events", __name__, url_prefix="/v1")

# A comment line without an empty line behind it: some clients take a block without data for an event.
HEARTBEAT = b": still here\n"
# A browser's delay before it connects again, in milliseconds: random, so that those that lost one process together do
# not come at once.
_RETRY = (500, 2500)
_AFTER_FAILURE_SECONDS = 1.0


@routes.get("/jobs/<uuid:job_id>/events")
@described(
    id="readEvents",
    tag="Jobs",
    answers=answers.events,
    parameters=("job_id", "Last-Event-ID", "ticket"),
    refusals=(UnknownJob, NoRoom),
    counted="reads",
)
def read(job_id: UUID) -> Response:
    """Streams the job's changes as server-sent events."""
    caller_with_ticket(str(job_id))
    job = context().jobs.get(str(job_id), client_id=caller().scope)
    if not job.state.is_final:
        count(context().poll_limit, "reads")
    return stream(job)


def is_wanted() -> bool:
    """Whether the Accept header prefers events to a document."""
    return request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM


def stream(job: Job) -> Response:
    """Makes the event stream of the job from now on. 204 for a client that has had the last event; raises NoRoom."""
    if job.state.is_final and request.headers.get("Last-Event-ID") == str(job.version):
        response = Response(status=204)
        del response.headers["Content-Type"]
        return _about(job, response)
    if request.method == "HEAD":
        return _about(job, Response(content_type=EVENT_STREAM))
    watch = None
    if not job.state.is_final:
        watch = context().watcher.watch(job, caller().client_id)
        if watch is None:
            raise NoRoom("as many requests are held open as may be; poll, or try again later")
    response = Response(_Events(job, watch), content_type=EVENT_STREAM)
    if watch:
        response.call_on_close(watch.close)
    response.headers["X-Accel-Buffering"] = "no"  # else nginx buffers the stream
    return _about(job, response)


def _about(job: Job, response: Response) -> Response:
    response.headers["Tidegate-Job-State"] = job.state
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.add("Accept")
    return response


class _Events:
    """The iterator of a job's events. It outlives its request, so it keeps what it needs of it."""

    def __init__(self, job: Job, watch: Subscription | None) -> None:
        self._job = job
        self._watch = watch
        self._gateway = context()
        self._links = links_here()
        self._caller = caller()
        self._is_refused = False

    def __iter__(self) -> Iterator[bytes]:
        first = b"retry: %d\n" % random.randint(*_RETRY)  # noqa: S311 - to spread them, not to hide anything
        yield from self._told("state", self._job, first)
        watch, job = self._watch, self._job
        while watch and not (job.state.is_final or watch.is_over):
            try:
                news = watch.next(self._gateway.settings.hold_seconds)
            except UnknownJob:
                return
            if news:
                now, _ = news
                yield from self._told("state" if _stage(now) != _stage(job) else "progress", now)
                job = now
            elif not watch.is_over and self._is_welcome():
                yield HEARTBEAT
            if self._is_refused:
                return

    def _told(self, name: Literal["state", "progress"], job: Job, more: bytes = b"") -> Iterator[bytes]:
        """Yields one event; while the database can't be asked for the result or the key, heartbeats before it."""
        while True:
            try:
                if not self._may_be_told():
                    return
                data = self._document(job)
            except UNREACHABLE:
                yield HEARTBEAT
                clock.sleep(_AFTER_FAILURE_SECONDS)
            else:
                break
        # A JSON result is embedded as it came, and may have line ends between its members.
        lines = b"".join(b"data: %s\n" % line for line in data.splitlines())
        yield b"%sevent: %s\nid: %d\n%s\n" % (more, name.encode(), job.version, lines)

    def _may_be_told(self) -> bool:
        """Whether the key that opened the stream is still good. Raises one of UNREACHABLE."""
        authenticator = self._gateway.authenticator
        self._is_refused = authenticator is not None and not authenticator.still_knows(self._caller)
        return not self._is_refused

    def _is_welcome(self) -> bool:
        """As `_may_be_told`; True while the database can't be asked."""
        try:
            return self._may_be_told()
        except UNREACHABLE:
            return True

    def _document(self, job: Job) -> bytes:
        jobs = self._gateway.jobs
        with self._gateway.turns.taken():
            return orjson.dumps(job_document(job, jobs.result(job), jobs.waiting(job), self._links))


def _stage(job: Job) -> tuple[str, int]:
    return job.state, job.attempt
