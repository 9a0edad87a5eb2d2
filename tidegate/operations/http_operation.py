"""The HTTP operation: calls a downstream over HTTP, one request for each attempt, bytes in and bytes out."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tidegate import clock, tracing
from tidegate.errors import Refusal
from tidegate.operations.batch_formats import HttpBatch, with_quotas
from tidegate.operations.connections import Way, connections_by
from tidegate.operations.http_answer import AnswerRules
from tidegate.operations.http_call import Observe, Request, send
from tidegate.operations.http_url import HttpUrl, parse_url
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.oauth import OAuth
from tidegate.operations.operation import JSON, MEGABYTE, Attempt, Body, Member, check_content_type
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Polls,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.own_shortage import ShortageBackoff, own_shortage
from tidegate.operations.polling import ACCEPTED, is_same_origin, next_poll
from tidegate.operations.queues import Queue
from tidegate.operations.request_parts import WHOLE, RequestParts, in_words, parts_of
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.token_request import call_with_token
from tidegate.operations.unanswered import ERROR_MESSAGE_LENGTH, FAILURES, unanswered
from tidegate.tracing import Span

log = logging.getLogger(__name__)

BODILESS = frozenset({"GET", "HEAD", "DELETE"})
"""Methods whose requests have no body: what one would mean is not defined (RFC 9110, 9.3)."""
Expand: TypeAlias = Callable[[str], str]
_Made = TypeVar("_Made")
_read_url = lru_cache(maxsize=256)(parse_url)


@dataclass(frozen=True, kw_only=True)
class HttpOperation:
    """An operation declared in the operations file. `url` and `headers` are templates: workers `expand` them.

    `body`: whether the input is sent, or the names of a JSON pointer to what is sent of it; None: as its method is
    used. `pass_headers`: those of the submit that go along. `schema`: what the input has to be. `fail_when`: the names
    of a JSON pointer; an answer that has something there is a failure. `poll`: a 202 means that the downstream works on
    it, and tells at its `Location` how far it is. `batch`: one call is for several jobs. `full_on`: statuses by which
    the downstream says that it is full, if the answer says for how long. `ca_files`: certificates of authorities that
    are trusted beside the system's. `client_certificate`, `client_key`: files by which the call says who makes it.
    `proxy`: a template of the URL of the proxy through which it goes. `oauth`: credentials of the tokens that it
    carries. `observe`: is told each step of the call, by httpcore's `trace`.
    """

    name: str
    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bool | tuple[str, ...] | None = None
    pass_headers: tuple[str, ...] = ()
    schema: JsonSchema | None = None
    fail_when: tuple[str, ...] | None = None
    poll: bool = False
    description: str = ""
    downstream: str
    queue: str = Queue.IO
    timeout: timedelta
    attempt_timeout: timedelta
    retry: RetryPolicy
    full_on: frozenset[int] = frozenset()
    max_body: int = 20 * MEGABYTE
    max_result: int = 5 * MEGABYTE
    ca_files: tuple[Path, ...] = ()
    client_certificate: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    oauth: OAuth | None = None
    admission: bool = True
    batch: HttpBatch | None = None
    expand: Expand = str
    observe: Observe | None = None

    @property
    def paced_by_calls(self) -> bool:
        """Always False: an attempt is one request."""
        return False

    @property
    def content_types(self) -> tuple[str, ...]:
        """JSON where something of the input is read here, or is made part of JSON; else any: the downstream decides."""
        reads_json = self.schema or self.parts.reads_json or (self.batch and self.batch.takes_json)
        return (JSON,) if reads_json else ()

    @property
    def parts(self) -> RequestParts:
        """What of the input goes where in the request."""
        match self.body:
            case tuple() as names:
                return parts_of(self.url, names)
            case None:
                return parts_of(self.url, None if self.method in BODILESS else WHOLE)
        return parts_of(self.url, WHOLE if self.body else None)

    def input_schema(self) -> Mapping[str, Any] | None:
        """The declared JSON Schema, else that of what is taken out of the input; None: the downstream decides."""
        if self.schema:
            return self.schema.document
        return {} if self.batch and self.batch.takes_json else self.parts.schema()

    def check(self, body: Body) -> None:
        """Raises UnsupportedBody, MalformedBody or InvalidInput for what no request can be made of."""
        check_content_type(self, body)
        if self.schema:
            self.schema.check(body.content)
        if self.batch:
            self.batch.check(body)
        self.parts.check(body)

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Calls the downstream once, or polls it; the answer must be complete within the attempt's time."""
        with self._traced(attempt, "GET" if attempt.poll_url else self.method) as span:
            outcome = self._call(attempt, partial(self._answered, body, attempt, span))
            if not isinstance(outcome, Succeeded | Polls):
                span.fail(type(outcome).__name__)
        return outcome

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome:
        """Calls the downstream once, for several jobs."""
        called: list[Member] = []
        with self._traced(attempt, self.method) as span:
            outcome = self._call(attempt, partial(self._answered_batch, members, called, attempt, span))
            if not isinstance(outcome, Sequence):
                span.fail(type(outcome).__name__)
        if isinstance(outcome, Failed):
            # Credentials that are refused, a header that can't be sent: no half of the inputs would do better.
            return tuple(outcome for _ in called or members())
        return outcome

    @contextmanager
    def _traced(self, attempt: Attempt, method: str) -> Iterator[Span]:
        trace = attempt.headers.get("traceparent")
        with tracing.span("downstream call", parent=trace, kind="client", downstream=self.downstream) as span:
            span.note("http.request.method", method)
            yield span

    def _call(
        self, attempt: Attempt, answered: Callable[[Mapping[str, str]], _Made]
    ) -> _Made | Failed | TryAgain | HandedBack:
        try:
            oauth = self.oauth and self.oauth.expanded(self.expand)
            outcome = call_with_token(oauth, attempt, lambda: connections_by(self._way), answered)
        except (*FAILURES, MemoryError, RuntimeError) as error:
            if what := own_shortage(error):
                # Nobody else's fault: it costs the job no attempt and the downstream no failure.
                pause = _own_shortages.pause(self.downstream)
                log.warning(
                    "job %s: this process is short of %s; handed back for %.1f s",
                    attempt.job_id,
                    what,
                    pause.total_seconds(),
                )
                return HandedBack(reason="own shortage", after=pause)
            if not isinstance(error, FAILURES):
                raise
            return unanswered(error)
        _own_shortages.end(self.downstream)
        return outcome

    def _answered(self, body: Body, attempt: Attempt, span: Span, more: Mapping[str, str]) -> Outcome:
        """Makes the request and judges its answer; raises one of FAILURES when there is none."""
        made = self._request_of(body, attempt)
        if isinstance(made, Failed):
            return made
        method, url, sent = made
        is_poll = attempt.poll_url is not None
        headers = {**body.headers, **attempt.headers, **more}
        request = self._request(method, url, headers, key=lambda: "" if is_poll else attempt.job_id)
        answer = send(request, lambda: (sent, self.max_result), attempt, span)
        if isinstance(answer, Failed):
            return answer
        outcome: Outcome = self.rules.read(answer, method, largest=self.max_result)
        means_no = self.fail_when is not None and answer.status == ACCEPTED and isinstance(outcome, Failed)
        if (self.poll or is_poll) and not means_no:
            location, after = answer.headers.get("location"), answer.told.retry_after
            outcome = next_poll(answer.status, location, url, is_poll=is_poll, retry_after=after) or outcome
        return outcome if isinstance(outcome, HandedBack) else replace(outcome, quotas=answer.told.quotas)

    def _answered_batch(
        self,
        members: Callable[[], Sequence[Member]],
        called: list[Member],
        attempt: Attempt,
        span: Span,
        more: Mapping[str, str],
    ) -> BatchOutcome:
        """As `_answered`, for several jobs: who they are is asked right before the request is made, and noted."""
        batch = self.batch
        assert batch is not None  # noqa: S101 - none other is called so

        def sent() -> tuple[Body, int]:
            called.extend(members())
            return batch.request(called, self.name, clock.now()), batch.largest_answer(len(called), self.max_result)

        url = _read_url(self.parts.url.fill({}, self.expand))
        request = self._request(self.method, url, {**attempt.headers, **more}, key=lambda: attempt.job_id)
        try:
            answer = send(request, sent, attempt, span)
        except Refusal as refusal:
            return Split(alone=_not_made(refusal))
        if isinstance(answer, Failed):
            return Split(alone=answer)
        outcome = batch.outcomes(answer, called, self.rules, max_result=self.max_result)
        return with_quotas(Split(alone=outcome) if isinstance(outcome, Failed) else outcome, answer.told.quotas)

    def _request_of(self, body: Body, attempt: Attempt) -> tuple[str, HttpUrl, Body | None] | Failed:
        """Method, URL and body of the call, or of a poll; Failed: there can be none."""
        try:
            text, sent = self.parts.made_of(body, self.expand)
            url = _read_url(text)
        except Refusal as refusal:  # the file was changed since the submit
            return _not_made(refusal)
        if attempt.poll_url is None:
            return self.method, url, sent
        poll = parse_url(attempt.poll_url)
        if not is_same_origin(poll, url):
            message = "the work was accepted at another scheme, host or port than the operation's url has now"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=message)
        return "GET", poll, None

    def _request(self, method: str, url: HttpUrl, given: Mapping[str, str], *, key: Callable[[], str]) -> Request:
        own = {name: self.expand(value) for name, value in self.headers.items()}
        return Request(method=method, url=url, own=own, given=given, key=key, way=self._way, observe=self.observe)

    @property
    def rules(self) -> AnswerRules:
        """What its declaration makes of an answer."""
        return AnswerRules(retried=self.retry.on, full_on=self.full_on, fail_when=self.fail_when)

    @property
    def _way(self) -> Way:
        return Way(
            ca_files=self.ca_files,
            certificate=self.client_certificate,
            key=self.client_key,
            proxy=self.expand(self.proxy) if self.proxy else None,
        )


def _not_made(refusal: Refusal) -> Failed:
    message = f"no request can be made of this input: {in_words(refusal)}"
    return Failed(code=ErrorCode.OPERATION_ERROR, message=message[:ERROR_MESSAGE_LENGTH])


_own_shortages = ShortageBackoff()
