"""Handlers of the requests about one job: submit, read, retry. They know nothing of Flask, and answer errors too.

Two doors call them: Flask's views (`webapp/resources/jobs.py`) and the fast path, WSGI middleware in front of Flask
(`webapp/serving/fast_path.py`). A door makes the JobRequest and writes the Answer. The thread has no turn of the
ConcurrencyLimit when it comes here. A write takes one. A read takes none, for reads that meet share a statement.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.datastructures import Authorization, ETags, Headers
from werkzeug.http import parse_etags
from werkzeug.wsgi import get_content_length

from tidegate.access.client_limits import ClientLimit
from tidegate.access.keys import Caller
from tidegate.errors import BodyTooLarge, Unauthorized
from tidegate.jobs.document import Links, job_path
from tidegate.jobs.job import Job, JobWithResult
from webapp.context import Context
from webapp.http.answers import HTTP_STATUS, Answer, accepted_answer, answer_about, entity_tag
from webapp.http.auth import caller_with
from webapp.http.long_poll import held
from webapp.http.preferences import Preferences, preferences_in
from webapp.http.problems import answer_to_error
from webapp.http.rate_limits import Counted
from webapp.http.submit_headers import check_not_encoded, idempotency_key, submission_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_NO_WISHES = Preferences()


class JobRequest(NamedTuple):
    """An HTTP request about one job. `base_url`: of links, without a slash at its end. `environ`: has the body."""

    path: str
    headers: Headers
    base_url: str
    environ: "WSGIEnvironment"


def submit(own: Context, request: JobRequest, operation: str) -> Answer:
    """Records a job of this operation: 202. Or the job's end, if the client waits for that and it comes in time."""
    answering = _Answering(own, request)
    return answering.answer(answering.submit, operation, operation=operation)


def read(own: Context, request: JobRequest, job_id: str) -> Answer:
    """Reads a job, after its next change if the client waits for that. 304 if the client has it as it is."""
    answering = _Answering(own, request)
    return answering.answer(answering.read, job_id)


def retry(own: Context, request: JobRequest, job_id: str) -> Answer:
    """Submits a final job that did not succeed as a new job, and answers as `submit` does."""
    answering = _Answering(own, request)
    return answering.answer(answering.retry, job_id)


class _Answering:
    """One request while it is answered."""

    __slots__ = ("_headers", "_limits", "_own", "_request")

    def __init__(self, own: Context, request: JobRequest) -> None:
        self._own = own
        self._request = request
        self._headers = request.headers
        self._limits: dict[str, str] = {}

    def answer(self, act: Callable[[Caller, str], Answer], target: str, *, operation: str = "") -> Answer:
        """Authenticates the caller and acts; answers whatever is raised. A counted request has the RateLimit fields."""
        try:
            caller = caller_with(Authorization.from_header(self._headers.get("Authorization")), self._own.authenticator)
            answer = act(caller, target)
        except Exception as error:  # noqa: BLE001 - each has its answer, and the unexpected ones are logged there
            answer = answer_to_error(
                error,
                self._own,
                method=self._request.environ["REQUEST_METHOD"],
                path=self._request.path,
                operation=operation,
                has_key="Idempotency-Key" in self._headers,
            )
        answer.headers.update(self._limits)
        return answer

    def submit(self, caller: Caller, operation: str) -> Answer:
        self._count(self._own.submit_limit, "submits", caller)
        content = self._body(caller)
        passed = self._own.registry.passed_headers(operation)
        submission = submission_of(self._headers, content, operation, caller, self._request.base_url, passed=passed)
        with self._own.turns.taken():
            job = self._own.jobs.submit(submission)
        return self._submitted(caller, job)

    def retry(self, caller: Caller, job_id: str) -> Answer:
        self._count(self._own.submit_limit, "submits", caller)
        key = idempotency_key(self._headers.get("Idempotency-Key"))
        with self._own.turns.taken():
            job = self._own.jobs.retry(job_id, client_id=caller.scope, **asdict(key))
        return self._submitted(caller, job)

    def read(self, caller: Caller, job_id: str) -> Answer:
        """Polls of final jobs are not counted: clients repeat a 502 or 504 by themselves."""
        jobs, known, wait = self._own.jobs, self._request.environ.get("HTTP_IF_NONE_MATCH"), self._wishes().wait
        tags = parse_etags(known) if known else None
        if tags:
            job, result = jobs.get(job_id, client_id=caller.scope), None
        else:
            job, result = jobs.get_with_result(job_id, client_id=caller.scope)
        if not job.state.is_final:
            self._count(self._own.poll_limit, "reads", caller)
        later, applied = self._when_changed(caller, job, tags, wait) if wait else (None, _NO_WISHES)
        job, result = later or (job, result)
        is_known = bool(tags and HTTP_STATUS[job.state] < 400 and tags.contains_weak(entity_tag(job)))
        if tags and not later and not is_known:
            result = jobs.result(job)
        answer = answer_about(
            job, result, jobs, self._links(caller), path=self._request.path, status=304 if is_known else None
        )
        answer.headers["Vary"] = "Accept"
        answer.headers.update(applied.fields())
        return answer

    def _count(self, limit: ClientLimit | None, name: str, caller: Caller) -> None:
        """Counts the request against its client's limit; raises TooFast beyond it."""
        if limit:
            counted = Counted(name, limit.ask(caller.client_id))
            self._limits = counted.fields()
            counted.check()

    def _body(self, caller: Caller) -> bytes:
        """Reads the body in full. Raises as `BodyReader.read`, and BodyTooLarge and UnsupportedBody before that."""
        check_not_encoded(self._headers)
        length, most = get_content_length(self._request.environ) or 0, self._own.settings.max_body
        if length > most:
            raise BodyTooLarge(f"at most {most} bytes are taken here")
        return self._own.bodies.read(self._request.environ, caller.client_id, length)

    def _submitted(self, caller: Caller, job: Job) -> Answer:
        """The answer to a submit: 202, or that of a read if the client waits for the job's end and it comes."""
        own, links, wishes = self._own, self._links(caller), self._wishes()
        found = None
        if wishes.wait:
            with suppress(Unauthorized):  # the job is recorded all the same: 202 without what became of it since
                found = held(own, caller, job, wishes.wait, lambda job: job.state.is_final, only_end=True)
        now, result = found or (job, None)
        if found and now.state.is_final:
            answer = answer_about(now, result, own.jobs, links, path=self._request.path)
            answer.headers["Location"] = links.base + job_path(now)
            applied = Preferences(wait=wishes.wait)
        else:
            answer = accepted_answer(now, own.jobs, links)
            applied = wishes if found else Preferences(respond_async=wishes.respond_async)
        answer.headers.update(applied.fields())
        return answer

    def _when_changed(
        self, caller: Caller, job: Job, tags: ETags | None, wait: int
    ) -> tuple[JobWithResult | None, Preferences]:
        """Waits for a change of the job; returns the job if it waited, and the preferences applied.

        None: nobody waited, and the job is the same. There is nothing to wait for if the client has another state of it
        (`tags`), or it is final.
        """
        tag = entity_tag(job)
        is_news = tags and not tags.contains_weak(tag)
        if not (is_news or job.state.is_final):
            later = held(self._own, caller, job, wait, lambda job: entity_tag(job) != tag)
            return later, Preferences(wait=wait) if later else _NO_WISHES
        return None, Preferences(wait=wait)

    def _wishes(self) -> Preferences:
        header = self._request.environ.get("HTTP_PREFER")
        return preferences_in(header, self._own.settings.hold_seconds) if header else _NO_WISHES

    def _links(self, caller: Caller) -> Links:
        return Links(base=self._request.base_url, signer=caller.signer)
