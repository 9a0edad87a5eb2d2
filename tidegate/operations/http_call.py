"""Makes one request of a downstream, paced and within its attempt's time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpcore2

from tidegate import clock
from tidegate.operations.connections import Way, connections_by, has_open
from tidegate.operations.deadline_network import ends_at
from tidegate.operations.http_answer import Answer, Headers
from tidegate.operations.http_url import HttpUrl
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.outcome import ErrorCode, Failed
from tidegate.operations.quota_fields import read_quota_fields
from tidegate.tracing import Span

Observe: TypeAlias = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request but for its body. `own`: the headers of the operations file; they override our defaults.

    `given`: those of the job, which override these. `key`: its Idempotency-Key, asked for when the body is known;
    empty: a poll has none, for it changes nothing. `observe`: is told each step of the call, by httpcore's `trace`.
    """

    method: str
    url: HttpUrl
    own: Mapping[str, str]
    given: Mapping[str, str]
    key: Callable[[], str]
    way: Way
    observe: Observe | None = None

    def headers(self, body: Body | None, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """All of its headers."""
        headers = {
            "content-type": "" if body is None else body.content_type,
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": "tidegate",
            **{name.lower(): value for fields in (self.own, self.given, more) for name, value in fields.items()},
            "idempotency-key": self.key(),
        }
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items() if value]
        return [(b"host", self.url.host_field.encode()), *fields]


def send(
    request: Request, sent: Callable[[], tuple[Body | None, int]], attempt: Attempt, span: Span
) -> Answer | Failed:
    """Makes the request; raises one of `unanswered.FAILURES` when there is no answer.

    `sent`: its body, which is asked for as late as can be, and how many bytes the answer may have.
    """
    # In parts, as it was checked: httpcore's own parser, given the text, would drop some.
    at = request.url
    url = httpcore2.URL(scheme=at.scheme, host=at.host, port=at.port, target=at.target)
    connections = connections_by(request.way)
    if has_open(connections, url):
        attempt.begin()  # while it waits in the pool, it is seen when the downstream closes it
    body, largest = sent()
    trace = {"traceparent": span.traceparent} if span.traceparent else {}
    with (
        ends_at(clock.monotonic() + attempt.time_left.total_seconds(), call=attempt),
        connections.stream(
            request.method,
            url,
            headers=request.headers(body, trace),
            content=None if body is None else body.content,
            extensions={"trace": request.observe} if request.observe else None,
        ) as response,
    ):
        span.note("http.response.status_code", response.status)
        content = bytearray()
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > largest:
                return Failed(
                    code=ErrorCode.DOWNSTREAM_ERROR,
                    message=f"the downstream's answer is larger than {largest} bytes",
                    detail={"downstream_status": response.status},
                )
    told = read_quota_fields(response.headers, clock.now())
    return Answer(status=response.status, headers=Headers(response.headers), content=bytes(content), told=told)
