"""The operation that calls an HTTP downstream, against real sockets: what goes out, and what each answer means."""

import gzip
import logging
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.support.http_server import HttpServer, drip, respond, serving
from tests.support.processes import free_port
from tidegate import clock
from tidegate.operations.http_answer import ERROR_BODY_BYTES
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.outcome import ErrorCode, Failed, Outcome, Refused, Succeeded, TryAgain
from tidegate.operations.retry import RetryPolicy

JOB_ID = "01890000-0000-7000-8000-000000000001"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        yield running


def make_operation(url: str, **values: Any) -> HttpOperation:
    minute = timedelta(minutes=1)
    defaults = {"name": "call", "downstream": "d", "timeout": minute, "attempt_timeout": minute, "retry": RetryPolicy()}
    return HttpOperation(url=url, **{**defaults, **values})


def call(
    made: HttpOperation,
    body: Body | None = None,
    *,
    seconds: float = 10,
    headers: dict[str, str] | None = None,
    poll_url: str | None = None,
) -> Outcome:
    ends = time.monotonic() + seconds
    attempt = Attempt(
        job_id=JOB_ID,
        number=1,
        report=lambda _: None,
        seconds_left=lambda: ends - time.monotonic(),
        take_slot=lambda: None,
        headers=headers,
        poll_url=poll_url,
    )
    return made.run(body or Body(content=b"{}"), attempt)


def test_bytes_go_through_both_ways_as_they_are(server: HttpServer) -> None:
    sent, answered = bytes(range(256)) * 4, b"\x00\xff\r\n\r\n" * 3
    server.answer = respond(200, answered, content_type="image/png")

    outcome = call(make_operation(server.url), Body(content=sent, content_type="application/x-thing; v=1"))

    assert outcome == Succeeded(content=answered, content_type="image/png", is_json=False)
    (request,) = server.received
    assert request.body == sent
    assert request.headers["content-type"] == "application/x-thing; v=1"


def test_the_call_begins_once_its_connection_is_open_and_has_the_time_that_is_left_then(server: HttpServer) -> None:
    """Whatever was waited for there, nothing is sent before."""
    sent_before: list[int] = []

    def begin() -> float:
        time.sleep(0.3)
        sent_before.append(len(server.received))
        return 10.0

    made = make_operation(server.url)
    attempt = Attempt(
        job_id=JOB_ID,
        number=1,
        report=lambda _: None,
        seconds_left=lambda: 0.2,
        take_slot=lambda: None,
        begin=begin,
    )
    for _ in range(2):
        assert isinstance(made.run(Body(content=b"{}" * 100_000), attempt), Succeeded)
    assert sent_before == [0, 1, 1], "once more before it goes out on a connection that was open"


def test_a_request_carries_the_jobs_id_as_its_idempotency_key(server: HttpServer) -> None:
    call(
        make_operation(f"{server.url}/a/b?c=d&e=%20", method="PUT", headers={"X-A": "1"}), headers={"traceparent": "00"}
    )

    (request,) = server.received
    assert request.line == "PUT /a/b?c=d&e=%20 HTTP/1.1"
    assert request.headers["idempotency-key"] == JOB_ID
    assert (request.headers["x-a"], request.headers["traceparent"]) == ("1", "00")
    assert (request.headers["accept"], request.headers["user-agent"]) == ("*/*", "tidegate")


@pytest.mark.parametrize("target", ["/a;v=1/b;w", "/?", "//a/../b", "/stra%C3%9Fe?q=a@b"])
def test_a_url_goes_out_as_it_stands_in_the_file(server: HttpServer, target: str) -> None:
    call(make_operation(server.url + target))

    assert server.received[0].line == f"POST {target} HTTP/1.1"
    assert server.received[0].headers["host"] == server.url.removeprefix("http://")


def test_the_host_of_an_ipv6_address_stands_in_brackets() -> None:
    with closing(HttpServer("::1")) as server:
        url = server.url
        assert isinstance(call(make_operation(url)), Succeeded)

    assert url.startswith("http://[::1]:")
    assert server.received[0].headers["host"] == url.removeprefix("http://")


@pytest.mark.parametrize("url", ["http://user:pw@127.0.0.1:{port}/", "http://127.0.0.1:{port}/#part"])
def test_what_would_be_left_out_of_a_url_is_a_final_failure_and_not_sent(server: HttpServer, url: str) -> None:
    outcome = call(make_operation(url.format(port=server.url.rpartition(":")[2])))

    assert isinstance(outcome, Failed)
    assert server.received == []


def test_a_header_of_the_file_takes_the_place_of_ours_whatever_its_case(server: HttpServer) -> None:
    call(make_operation(server.url, headers={"ACCEPT": "text/csv", "user-agent": "us"}))

    assert server.received[0].headers["accept"] == "text/csv"
    assert server.received[0].headers["user-agent"] == "us"


def test_a_body_without_a_type_is_sent_without_one(server: HttpServer) -> None:
    call(make_operation(server.url), Body(content=b"x", content_type=""))

    assert "content-type" not in server.received[0].headers


@pytest.mark.parametrize(
    ("content_type", "content", "is_json"),
    [
        ("application/json", b'{"a": 1}', True),
        ("application/vnd.x+json; charset=utf-8", b"[]", True),
        ("application/json", b"{", False),
        ("text/plain", b"1", False),
    ],
)
def test_an_answer_is_json_when_it_says_so_and_is(
    server: HttpServer, content_type: str, content: bytes, is_json: bool
) -> None:
    server.answer = respond(201, content, content_type=content_type)

    assert call(make_operation(server.url)) == Succeeded(content=content, content_type=content_type, is_json=is_json)


@pytest.mark.parametrize("content", [b"", b'{"a": NaN}', b'\xef\xbb\xbf{"a": 1}', b'"\xff"', b'{"a": 1} {}', b"\r\n"])
def test_what_is_typed_json_and_is_none_is_passed_on_as_it_came_and_not_as_json(
    server: HttpServer, content: bytes
) -> None:
    server.answer = respond(200, content, content_type="application/json")

    assert call(make_operation(server.url)) == Succeeded(
        content=content, content_type="application/json", is_json=False
    )


def test_no_coding_is_asked_for_unless_the_file_does(server: HttpServer) -> None:
    call(make_operation(server.url))
    call(make_operation(server.url, headers={"Accept-Encoding": "gzip"}))

    assert [request.headers["accept-encoding"] for request in server.received] == ["identity", "gzip"]


ANSWER = b'{"a": 1}' * 1000
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(ANSWER)),
        ("X-GZip", gzip.compress(ANSWER)),
        ("gzip", gzip.compress(ANSWER[:100]) + gzip.compress(ANSWER[100:]) + bytes(8)),
        ("deflate", zlib.compress(ANSWER)),
        ("deflate", RAW_DEFLATE.compress(ANSWER) + RAW_DEFLATE.flush()),
        ("deflate, gzip", gzip.compress(zlib.compress(ANSWER))),
        ("identity", ANSWER),
        ("", ANSWER),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip writes the time into what it packs
)
def test_an_answer_that_is_compressed_unasked_is_unpacked(server: HttpServer, coding: str, packed: bytes) -> None:
    server.answer = respond(200, packed, content_type="text/x", content_encoding=coding)

    assert call(make_operation(server.url)) == Succeeded(content=ANSWER, content_type="text/x", is_json=False)


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br"])
def test_a_coding_that_can_not_be_read_is_a_final_failure_that_names_it(server: HttpServer, coding: str) -> None:
    server.answer = respond(200, b"xyz", content_type="application/json", content_encoding=coding)

    outcome = call(make_operation(server.url))

    assert isinstance(outcome, Failed)
    assert f"is compressed as {coding.rpartition(' ')[2]!r}" in outcome.message
    assert outcome.detail == {"downstream_status": 200}


@pytest.mark.parametrize("layers", [1, 2])
def test_an_answer_that_unpacks_to_more_than_the_limit_fails_and_takes_no_more_memory(
    server: HttpServer, layers: int
) -> None:
    bomb = bytes(200_000_000)
    for _ in range(layers):
        bomb = gzip.compress(bomb)
    server.answer = respond(200, bomb, content_encoding=", ".join(["gzip"] * layers))
    tracemalloc.start()

    outcome = call(make_operation(server.url, max_result=1_000_000))

    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, Failed)
    assert outcome.message == "the downstream's answer is too large once it is unpacked"
    assert highest < 5_000_000


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(ANSWER)[:-9], b"not gzip", gzip.compress(ANSWER) + b"more"],
    ids=["cut off", "not packed", "more behind it"],
)
def test_an_answer_that_can_not_be_unpacked_is_tried_again(server: HttpServer, packed: bytes) -> None:
    server.answer = respond(200, packed, content_encoding="gzip")

    outcome = call(make_operation(server.url))

    assert isinstance(outcome, TryAgain)
    assert outcome.message.startswith("the downstream's answer can't be unpacked")


def test_a_failure_that_is_compressed_is_told_unpacked_if_it_can_be(server: HttpServer) -> None:
    server.answer = respond(404, gzip.compress(b"no such sku"), content_encoding="gzip")
    outcome = call(make_operation(server.url))
    assert isinstance(outcome, Failed)
    assert outcome.detail["downstream_body"] == "no such sku"

    server.answer = respond(503, b"xyz", content_encoding="br", retry_after="3")
    assert isinstance(call(make_operation(server.url)), Refused)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_methods_without_a_body_send_neither_body_nor_length_nor_type(server: HttpServer, method: str) -> None:
    server.answer = lambda connection: connection.sendall(b"HTTP/1.1 204 Whatever\r\n\r\n")

    outcome = call(make_operation(server.url, method=method), Body(content=b'{"a": 1}'))

    assert isinstance(outcome, Succeeded)
    (request,) = server.received
    assert request.line == f"{method} / HTTP/1.1"
    assert not {"content-length", "transfer-encoding", "content-type"} & request.headers.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_other_methods_send_the_length_of_an_empty_body_too(server: HttpServer, method: str) -> None:
    call(make_operation(server.url, method=method), Body(content=b"", content_type=""))

    assert server.received[0].headers["content-length"] == "0"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204), ("POST", 205)])
def test_an_answer_that_never_has_a_body_has_no_type_of_one(server: HttpServer, method: str, status: int) -> None:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Encoding: br\r\n"
    head += "Content-Length: 2\r\n\r\n" if method == "HEAD" else "Content-Length: 0\r\n\r\n"
    server.answer = lambda connection: connection.sendall(head.encode())

    assert call(make_operation(server.url, method=method)) == Succeeded(
        content=b"", content_type="application/octet-stream", is_json=False
    )


def test_an_answer_without_type_or_body_is_a_result_too(server: HttpServer) -> None:
    server.answer = respond(204)

    assert call(make_operation(server.url)) == Succeeded(
        content=b"", content_type="application/octet-stream", is_json=False
    )


@pytest.mark.parametrize("status", [400, 404, 418, 422, 501, 301, 302, 307, 304])
def test_a_final_refusal_is_told_with_the_beginning_of_its_body(server: HttpServer, status: int) -> None:
    body = b"" if status == 304 else b"\xff" + b"x" * 10_000
    server.answer = respond(status, body, content_type="text/plain", location=f"{server.url}/elsewhere")

    outcome = call(make_operation(server.url))

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.detail["downstream_status"]) == (ErrorCode.DOWNSTREAM_ERROR, status)
    assert outcome.detail["downstream_content_type"] == "text/plain"
    assert outcome.detail["downstream_body"] == body[:ERROR_BODY_BYTES].decode("utf-8", "replace")
    assert len(server.received) == 1, "no redirect is followed"


@pytest.mark.parametrize("status", [408, 425, 500, 502, 504])
def test_a_passing_failure_is_tried_again(server: HttpServer, status: int) -> None:
    server.answer = respond(status, b"oops", retry_after="7")

    outcome = call(make_operation(server.url))

    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == timedelta(seconds=7)
    assert outcome.detail["downstream_body"] == "oops"
    assert len(server.received) == 1, "one slot is one request"


def test_the_file_says_which_statuses_are_tried_again(server: HttpServer) -> None:
    retry = RetryPolicy(on=frozenset({404}))
    server.answer = respond(404)
    assert isinstance(call(make_operation(server.url, retry=retry)), TryAgain)

    server.answer = respond(500)
    assert isinstance(call(make_operation(server.url, retry=retry)), Failed)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "seconds"), [("3", 3), ("0", 0), (None, None), ("soon", None)])
def test_a_downstream_without_capacity_refuses(
    server: HttpServer, status: int, value: str | None, seconds: int | None
) -> None:
    server.answer = respond(status, retry_after=value) if value else respond(status)

    outcome = call(make_operation(server.url, retry=RetryPolicy(on=frozenset())))

    expected = None if seconds is None else timedelta(seconds=seconds)
    assert outcome == Refused(message=f"the downstream answered {status}", retry_after=expected)


def test_a_retry_after_may_be_a_date_of_a_clock_that_is_an_hour_ahead(server: HttpServer) -> None:
    theirs = clock.now() + timedelta(hours=1)
    until = format_datetime(theirs + timedelta(seconds=30), usegmt=True)
    server.answer = respond(429, date=format_datetime(theirs, usegmt=True), retry_after=until)

    outcome = call(make_operation(server.url))

    assert outcome == Refused(message="the downstream answered 429", retry_after=timedelta(seconds=30))


@pytest.mark.parametrize(
    "told",
    [
        {"Retry_After": "20"},
        {"Retry_After": "19.5"},
        {"RateLimit": '"default";r=0;t=20', "RateLimit_Policy": '"default";q=100;w=60'},
        {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "20"},
    ],
)
def test_a_status_of_full_on_is_a_refusal_where_the_answer_says_how_long(
    server: HttpServer, told: dict[str, str]
) -> None:
    full = make_operation(server.url, full_on=frozenset({403}), retry=RetryPolicy(on=frozenset({403})))
    server.answer = respond(403, b"", **told)

    outcome = call(full)
    assert isinstance(outcome, Refused)
    assert (outcome.message, outcome.retry_after) == ("the downstream answered 403", timedelta(seconds=20))
    assert isinstance(call(make_operation(server.url)), Failed), "only where it is declared"


@pytest.mark.parametrize("told", [{}, {"Retry_After": "soon"}, {"RateLimit": '"default";r=3;t=20'}])
def test_a_status_of_full_on_keeps_its_meaning_where_the_answer_does_not(
    server: HttpServer, told: dict[str, str]
) -> None:
    server.answer = respond(403, b"", **told)

    assert isinstance(call(make_operation(server.url, full_on=frozenset({403}))), Failed)
    retried = RetryPolicy(on=frozenset({403}))
    assert isinstance(call(make_operation(server.url, full_on=frozenset({403}), retry=retried)), TryAgain)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", id="chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="headers"),
        pytest.param(b"", id="status line"),
    ],
)
def test_an_answer_that_drips_is_ended_at_the_total_time(server: HttpServer, head: bytes) -> None:
    stopped = threading.Event()
    server.answer = drip(head, stopped)
    started = time.monotonic()

    outcome = call(make_operation(server.url), seconds=0.4)

    stopped.set()
    assert outcome == TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="the downstream did not answer in time")
    assert 0.4 <= time.monotonic() - started < 2


def test_a_downstream_that_reads_nothing_is_ended_at_the_total_time() -> None:
    import socket  # noqa: PLC0415 - only here is the server less than HTTP

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        started = time.monotonic()

        outcome = call(make_operation(url), Body(content=b"x" * 50_000_000), seconds=0.4)

    assert isinstance(outcome, TryAgain)
    assert time.monotonic() - started < 3


def test_a_call_without_any_time_is_not_made(server: HttpServer) -> None:
    assert isinstance(call(make_operation(server.url), seconds=-1), TryAgain)
    assert server.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_downstream_that_is_not_there_is_tried_again(host: str) -> None:
    outcome = call(make_operation(f"http://{host}:{free_port()}/"))

    assert isinstance(outcome, TryAgain)
    assert outcome.message.startswith("the downstream can't be reached: Connect")


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_a_broken_answer_is_tried_again(server: HttpServer, answer: bytes) -> None:
    def cut(connection: Any) -> None:
        connection.sendall(answer)
        connection.shutdown(2)

    server.answer = cut

    outcome = call(make_operation(server.url))

    assert isinstance(outcome, TryAgain)
    assert len(outcome.message) <= 500


def test_an_answer_that_is_too_large_fails_before_it_is_read_whole(server: HttpServer) -> None:
    stopped = threading.Event()
    server.answer = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", stopped, drop=b"x" * 1000)

    outcome = call(make_operation(server.url, max_result=5000), seconds=10)

    stopped.set()
    assert isinstance(outcome, Failed)
    assert outcome.message == "the downstream's answer is larger than 5000 bytes"


def test_an_answer_as_large_as_allowed_is_a_result(server: HttpServer) -> None:
    server.answer = respond(200, b"x" * 5000)

    assert isinstance(call(make_operation(server.url, max_result=5000)), Succeeded)


def test_after_a_failure_the_next_call_gets_a_connection_that_works(server: HttpServer) -> None:
    stopped = threading.Event()
    for broken in (drip(b"HTTP/1.1 200 OK\r\n", stopped), respond(500)):
        server.answer = broken
        call(make_operation(server.url), seconds=0.2)
        server.answer = respond(200, b"fine")
        assert isinstance(call(make_operation(server.url)), Succeeded)
    stopped.set()


def test_secrets_are_sent_and_never_told(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    expand = lambda template: template.replace("${KEY}", "hidden")  # noqa: E731 - shorter than a function
    secret = {"headers": {"Authorization": "Bearer ${KEY}"}, "expand": expand}

    call(make_operation(f"{server.url}/?key=${{KEY}}", **secret))
    assert server.received[0].headers["authorization"] == "Bearer hidden"
    assert server.received[0].line == "POST /?key=hidden HTTP/1.1"

    told = [
        call(make_operation(f"http://127.0.0.1:{free_port()}/${{KEY}}", **secret)),
        call(make_operation("http://127.0.0.1:${KEY}/", **secret)),
        call(make_operation("ftp://${KEY}/", **secret)),
        call(make_operation(f"{server.url}/${{KEY}} \x01", **secret)),
        call(make_operation(server.url, headers={"X-A": "${KEY}\r\nX-B: 1"}, expand=expand)),
        call(make_operation(server.url, headers={"X-A": "${KEY}\u20ac"}, expand=expand)),
    ]
    server.answer = respond(404, b"no")
    told.append(call(make_operation(server.url, **secret)))
    assert "hidden" not in repr(told)
    assert "hidden" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("tidegate")
    )
    assert len(server.received) == 2, "what can't be sent is not sent"


@pytest.mark.parametrize("value", ["a\r\nX-B: 1", "a\x00", "\u20ac"])
def test_what_cannot_be_sent_is_a_final_failure(server: HttpServer, value: str) -> None:
    outcome = call(make_operation(server.url), Body(content=b"x", content_type=value))

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.OPERATION_ERROR
    assert server.received == []
