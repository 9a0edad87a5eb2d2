"""The HTTP operation: calls a downstream over HTTP, one request for each attempt, bytes in and bytes out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import httpcore2

from tidegate import clock, tracing
from tidegate.errors import Refusal
from tidegate.operations.batch import Batch
from tidegate.operations.connections import Way, connections_by, has_open
from tidegate.operations.content_coding import UnreadableAnswerError, unpack
from tidegate.operations.deadline_network import ends_at
from tidegate.operations.http_answer import Headers, detail_of
from tidegate.operations.http_url import HttpUrl, parse_url
from tidegate.operations.json_pointer import pointer_of
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.json_text import has_something_at
from tidegate.operations.oauth import OAuth
from tidegate.operations.operation import JSON, MEGABYTE, Attempt, Body, Member, check_content_type
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Polls,
    Refused,
    Succeeded,
    TryAgain,
)
from tidegate.operations.own_shortage import ShortageBackoff, own_shortage
from tidegate.operations.polling import ACCEPTED, is_same_origin, next_poll
from tidegate.operations.python_operation import succeeded
from tidegate.operations.queues import Queue
from tidegate.operations.quota_fields import QuotaFields, read_quota_fields
from tidegate.operations.request_parts import WHOLE, RequestParts, in_words, parts_of
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.token_request import call_with_token
from tidegate.operations.unanswered import ERROR_MESSAGE_LENGTH, FAILURES, unanswered
from tidegate.tracing import Span

log = logging.getLogger(__name__)

CAPACITY_STATUSES = frozenset({429, 503})
BODILESS = frozenset({"GET", "HEAD", "DELETE"})
"""Methods whose requests have no body: what one would mean is not defined (RFC 9110, 9.3)."""
Observe: TypeAlias = Callable[[str, dict[str, Any]], None]
_Answer: TypeAlias = Succeeded | Failed | TryAgain | Refused | Polls
_read_url = lru_cache(maxsize=256)(parse_url)


@dataclass(frozen=True, kw_only=True)
class HttpOperation:
    """An operation declared in the operations file. `url` and `headers` are templates: workers `expand` them.

    `body`: whether the input is sent, or the names of a JSON pointer to what is sent of it; None: as its method is
    used. `pass_headers`: those of the submit that go along. `schema`: what the input has to be. `fail_when`: the names
    of a JSON pointer; an answer that has something there is a failure. `poll`: a 202 means that the downstream works on
    it, and tells at its `Location` how far it is. `full_on`: statuses by which the downstream says
    that it is full, if the answer says for how long. `ca_files`: certificates of authorities that are trusted beside
    the system's. `client_certificate`, `client_key`: files by which the call says who makes it. `proxy`: a template of
    the URL of the proxy through which it goes. `oauth`: credentials of the tokens that it carries. `observe`: is told
    each step of the call, by httpcore's `trace`.
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
    batch: Batch | None = None
    expand: Callable[[str], str] = str
    observe: Observe | None = None

    @property
    def paced_by_calls(self) -> bool:
        """Always False: an attempt is one request."""
        return False

    @property
    def content_types(self) -> tuple[str, ...]:
        """JSON where something of the input is read here; else any: the downstream decides."""
        return (JSON,) if self.schema or self.parts.reads_json else ()

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
        return self.schema.document if self.schema else self.parts.schema()

    def check(self, body: Body) -> None:
        """Raises UnsupportedBody, MalformedBody or InvalidInput for what no request can be made of."""
        check_content_type(self, body)
        if self.schema:
            self.schema.check(body.content)
        self.parts.check(body)

    def run(self, body: Body, attempt: Attempt) -> Outcome:
        """Calls the downstream once, or polls it; the answer must be complete within the attempt's time."""
        trace = attempt.headers.get("traceparent")
        with tracing.span("downstream call", parent=trace, kind="client", downstream=self.downstream) as span:
            outcome = self._call(body, attempt, span)
            if not isinstance(outcome, Succeeded | Polls):
                span.fail(type(outcome).__name__)
        return outcome

    def run_batch(self, members: Callable[[], Sequence[Member]], attempt: Attempt) -> BatchOutcome | Failed:
        raise NotImplementedError

    def _call(self, body: Body, attempt: Attempt, span: Span) -> Outcome:
        span.note("http.request.method", "GET" if attempt.poll_url else self.method)
        try:
            call = partial(self._answered, body, attempt, span)
            oauth = self.oauth and self.oauth.expanded(self.expand)
            outcome = call_with_token(oauth, attempt, lambda: connections_by(self._way), call)
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
            outcome = unanswered(error)
        else:
            _own_shortages.end(self.downstream)
        return outcome

    def _answered(self, body: Body, attempt: Attempt, span: Span, more: Mapping[str, str]) -> Outcome:
        """Makes the request and judges its answer; raises one of FAILURES when there is none."""
        headers = {**attempt.headers, **({"traceparent": span.traceparent} if span.traceparent else {}), **more}
        made = self._request_of(body, attempt)
        if isinstance(made, Failed):
            return made
        method, parsed, sent = made
        is_poll = attempt.poll_url is not None
        # In parts, as it was checked: httpcore's own parser, given the text, would drop some.
        url = httpcore2.URL(scheme=parsed.scheme, host=parsed.host, port=parsed.port, target=parsed.target)
        connections = connections_by(self._way)
        if has_open(connections, url):
            attempt.begin()  # while it waits in the pool, it is seen when the downstream closes it
        with (
            ends_at(clock.monotonic() + attempt.time_left.total_seconds(), call=attempt),
            connections.stream(
                method,
                url,
                headers=[
                    (b"host", parsed.host_field.encode()),
                    *self._headers_of(sent, "" if is_poll else attempt.job_id, {**body.headers, **headers}),
                ],
                content=None if sent is None else sent.content,
                extensions={"trace": self.observe} if self.observe else None,
            ) as response,
        ):
            span.note("http.response.status_code", response.status)
            content = bytearray()
            for chunk in response.iter_stream():
                content += chunk
                if len(content) > self.max_result:
                    return Failed(
                        code=ErrorCode.DOWNSTREAM_ERROR,
                        message=f"the downstream's answer is larger than {self.max_result} bytes",
                        detail={"downstream_status": response.status},
                    )
        told = read_quota_fields(response.headers, clock.now())
        fields = Headers(response.headers)
        outcome = self._read(response.status, fields, bytes(content), told, method)
        means_no = self.fail_when is not None and response.status == ACCEPTED and isinstance(outcome, Failed)
        if (self.poll or is_poll) and not means_no:
            location, after = fields.get("location"), told.retry_after
            outcome = next_poll(response.status, location, parsed, is_poll=is_poll, retry_after=after) or outcome
        return replace(outcome, quotas=told.quotas)

    def _request_of(self, body: Body, attempt: Attempt) -> tuple[str, HttpUrl, Body | None] | Failed:
        """Method, URL and body of the call, or of a poll; Failed: there can be none."""
        try:
            text, sent = self.parts.made_of(body, self.expand)
            url = _read_url(text)
        except Refusal as refusal:  # the file was changed since the submit
            message = f"no request can be made of this input: {in_words(refusal)}"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=message[:ERROR_MESSAGE_LENGTH])
        if attempt.poll_url is None:
            return self.method, url, sent
        poll = parse_url(attempt.poll_url)
        if not is_same_origin(poll, url):
            message = "the work was accepted at another scheme, host or port than the operation's url has now"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=message)
        return "GET", poll, None

    @property
    def _way(self) -> Way:
        return Way(
            ca_files=self.ca_files,
            certificate=self.client_certificate,
            key=self.client_key,
            proxy=self.expand(self.proxy) if self.proxy else None,
        )

    def _headers_of(self, sent: Body | None, job_id: str, given: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """The request's headers: the file's override our defaults; the job's id and trace override the file's.

        Without a `job_id` there is no key: a poll changes nothing.
        """
        headers = {
            "content-type": "" if sent is None else sent.content_type,
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": "tidegate",
            **{name.lower(): self.expand(value) for name, value in self.headers.items()},
            **{name.lower(): value for name, value in given.items()},
            "idempotency-key": job_id,
        }
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items() if value]

    def _read(self, status: int, headers: Headers, content: bytes, told: QuotaFields, method: str) -> _Answer:
        is_good = 200 <= status < 300
        try:
            content = unpack(content, headers.get("content-encoding") or "", largest=self.max_result)
        except UnreadableAnswerError as error:
            if is_good:
                kind = TryAgain if error.another_may_do else Failed
                detail = {"downstream_status": status}
                message = f"the downstream's answer {error}"
                return kind(code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail)
        # An answer that never has a body has no type of one either, whatever it says.
        has_none = not content and (method == "HEAD" or status in {204, 205})
        content_type = (not has_none and headers.get("content-type")) or "application/octet-stream"
        if not is_good:
            return self._judge(status, headers, content, told)
        result = succeeded(content, content_type[:200])
        if self.fail_when is not None and result.is_json and has_something_at(self.fail_when, content):
            return Failed(
                code=ErrorCode.DOWNSTREAM_ERROR,
                message=f"the downstream answered {status} with something at {pointer_of(self.fail_when)}",
                detail=detail_of(status, content_type, content),
            )
        return result

    def _judge(self, status: int, headers: Headers, content: bytes, told: QuotaFields) -> _Answer:
        content_type = headers.get("content-type") or "application/octet-stream"
        message = f"the downstream answered {status}"
        if status in CAPACITY_STATUSES or (status in self.full_on and told.rest is not None):
            return Refused(message=message, retry_after=told.rest)
        detail = detail_of(status, content_type, content)
        if status in self.retry.on:
            return TryAgain(
                code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail, retry_after=told.retry_after
            )
        return Failed(code=ErrorCode.DOWNSTREAM_ERROR, message=message, detail=detail)


_own_shortages = ShortageBackoff()
