"""The proxy of the compose stack holds back what would hold up a web server: a real nginx with its configuration."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from config.settings import Settings
from tests.support.http_server import HttpServer, respond, serving
from tests.support.nginx import STACK, StackProxy, why_not
from tests.support.waiting import wait_until
from webapp.openapi.problem_types import PROBLEM_TYPES

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

FASTER = 10
"""The proxy's patience, divided by this: its 10 s are a second here."""
SUBMIT = "POST /v1/operations/quote/jobs HTTP/1.1\r\nHost: here\r\n"
HEAD_LIMIT = 32 * 1024


@pytest.fixture
def web() -> Iterator[HttpServer]:
    """The web server behind it."""
    with serving() as server:
        server.answer = respond(202)
        yield server


@pytest.fixture
def proxy(tmp_path: Path, web: HttpServer) -> Iterator[StackProxy]:
    """The proxy."""
    own = StackProxy(tmp_path, int(web.url.rpartition(":")[2]), faster=FASTER)
    own.start()
    yield own
    own.stop()


def answered(connection: socket.socket) -> bytes:
    """What comes until the connection is closed; nothing when it was reset."""
    with suppress(ConnectionError), connection.makefile("rb") as stream:
        return stream.read()
    return b""


def status(answer: bytes) -> int:
    """Of an answer as it came over the wire; 0: there was none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def assert_is_problem(answer: bytes, expected: int) -> None:
    """A problem document of this status, the connection closed behind it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(head) == expected, answer[:300]
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == expected


def raw(proxy: StackProxy, content: str | bytes) -> bytes:
    """What is answered to these bytes."""
    with proxy.connect() as connection:
        connection.sendall(content.encode("latin-1") if isinstance(content, str) else content)
        return answered(connection)


def test_silent_connections_and_slow_heads_are_closed_and_hold_nobody_up(proxy: StackProxy, web: HttpServer) -> None:
    with ExitStack() as opened:
        silent = [opened.enter_context(proxy.connect()) for _ in range(100)]
        slow = [opened.enter_context(proxy.connect()) for _ in range(100)]
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            for connection in slow:
                with suppress(ConnectionError):
                    connection.sendall(b"G")
            time.sleep(0.1)
        assert {answered(connection) for connection in silent} == {b""}
        assert {status(answered(connection)) for connection in slow} <= {0, 400, 408}
    assert web.received == []
    assert httpx2.get(f"{proxy.url}/health/live", trust_env=False).status_code == 202


def test_slow_bodies_reach_no_web_server_and_end(proxy: StackProxy, web: HttpServer) -> None:
    with ExitStack() as opened:
        slow = [opened.enter_context(proxy.connect()) for _ in range(100)]
        for connection in slow:
            connection.sendall(f"{SUBMIT}Content-Length: 100\r\n\r\n{{".encode())
        began = time.monotonic()
        assert httpx2.post(f"{proxy.url}/v1/operations/quote/jobs", json={}, trust_env=False).status_code == 202
        assert {answered(connection) for connection in slow} == {b""}
        assert time.monotonic() - began < 5
    assert [request.body for request in web.received] == [b"{}"]


def test_a_connection_that_was_answered_and_is_idle_is_closed(proxy: StackProxy, web: HttpServer) -> None:
    with proxy.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert status(answered(connection)) == 202
        assert 0.9 < time.monotonic() - began < 5


def test_a_whole_body_in_pieces_arrives_with_its_length(proxy: StackProxy, web: HttpServer) -> None:
    with proxy.connect() as connection:
        connection.sendall(f"{SUBMIT}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,".encode())
        time.sleep(0.2)
        connection.sendall(b"\r\n2\r\n3]\r\n0\r\n\r\n")
        assert status(answered(connection)) == 202
    (request,) = web.received
    assert request.body == b"[1,2,3]"
    assert request.headers["content-length"] == "7"
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize(
    "chunks",
    ["5\r\n[1,2,", "5\r\n[1,2,\r\nzz\r\n3]\r\n0\r\n\r\n", "-5\r\n[1,2,\r\n0\r\n\r\n", "ffffffffffffffff1\r\n[1,2,"],
    ids=["broken off", "no number", "negative", "too large"],
)
def test_a_broken_chunk_reaches_no_web_server(proxy: StackProxy, web: HttpServer, chunks: str) -> None:
    with proxy.connect() as connection:
        connection.sendall(f"{SUBMIT}Transfer-Encoding: chunked\r\n\r\n{chunks}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert status(answered(connection)) in {0, 400, 413}
    assert web.received == []


def test_both_a_length_and_chunks_reach_no_web_server(proxy: StackProxy, web: HttpServer) -> None:
    both = f"{SUBMIT}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert_is_problem(raw(proxy, both), 400)
    assert web.received == []


def test_http_2_in_clear_text_reaches_no_web_server(proxy: StackProxy, web: HttpServer) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    assert status(raw(proxy, preface)) in {0, 400, 405, 505}
    assert web.received == []
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with proxy.connect() as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: here\r\n{upgrade}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 202 ")
    assert {"upgrade", "http2-settings"} & web.received[0].headers.keys() <= {"http2-settings"}


@pytest.mark.parametrize(
    "field",
    ["Accept: {}", "Authorization: Bearer {}", "Cookie: {}"],
)
def test_a_head_of_31_kilobytes_arrives_and_one_of_33_is_refused(
    proxy: StackProxy, web: HttpServer, field: str
) -> None:
    def ask(size: int) -> bytes:
        return raw(proxy, f"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{field.format('x' * size)}\r\n\r\n")

    assert status(ask(HEAD_LIMIT - 1024)) == 202
    assert_is_problem(ask(HEAD_LIMIT + 1024), 431)
    assert_is_problem(ask(10 * HEAD_LIMIT), 431)
    assert len(web.received) == 1


def test_many_fields_of_33_kilobytes_and_a_long_address_are_refused(proxy: StackProxy, web: HttpServer) -> None:
    fields = "".join(f"X-{number}: {'x' * 100}\r\n" for number in range(HEAD_LIMIT // 100))
    assert_is_problem(raw(proxy, f"GET / HTTP/1.1\r\nHost: here\r\n{fields}\r\n"), 431)
    assert_is_problem(raw(proxy, f"GET /{'x' * (HEAD_LIMIT + 1024)} HTTP/1.1\r\nHost: here\r\n\r\n"), 414)
    assert web.received == []


def test_a_body_over_the_proxys_limit_is_refused_with_a_problem(proxy: StackProxy, web: HttpServer) -> None:
    assert_is_problem(raw(proxy, f"{SUBMIT}Content-Length: 200000000\r\n\r\n"), 413)
    assert web.received == []


@pytest.mark.parametrize("line", ["POST /v1/jobs/cancel", "PATCH /v1/downstreams/quote", "POST /v1/webhook-secrets"])
def test_a_large_body_that_is_no_jobs_input_is_refused_before_a_web_server_could_hang_up(
    proxy: StackProxy, web: HttpServer, line: str
) -> None:
    """It answers without having read it all; nginx, which is still writing, would tell its client a 503."""

    def ask(line: str, size: int) -> bytes:
        close = "Connection: close\r\n"
        return raw(proxy, f"{line} HTTP/1.1\r\nHost: here\r\n{close}Content-Length: {size}\r\n\r\n" + "1" * size)

    assert_is_problem(ask(line, 16_385), 413)
    assert web.received == []
    assert status(ask(line, 16_384)) == 202
    for path in ("/v1/operations/quote/jobs", "/v1/operations/quote/jobs/bulk", "/v1/operations/quote/jobs/batch"):
        assert status(ask(f"POST {path}", 1_000_000)) == 202, "a job's input may be larger"


def test_nonsense_is_refused_with_a_problem(proxy: StackProxy, web: HttpServer) -> None:
    assert_is_problem(raw(proxy, "nonsense\r\n\r\n"), 400)
    assert_is_problem(raw(proxy, "GET / HTTP/1.1\r\n\r\n"), 400)  # no Host
    assert web.received == []


def assert_is_lost(answer: httpx2.Response, name: str, *words: str) -> None:
    """As Tidegate says it of a database that went away."""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    (known,) = [each for each in PROBLEM_TYPES if each.name == name]
    document = answer.json()
    assert (document["type"], document["title"]) == (known.uri, known.title)
    assert all(word in document["detail"] for word in words), document


SUBMIT_PATH = "/v1/operations/quote/jobs"


def test_a_submit_that_was_sent_and_not_answered_is_told_from_one_that_never_left(
    proxy: StackProxy, web: HttpServer
) -> None:
    with httpx2.Client(base_url=proxy.url, trust_env=False) as client:
        web.answer = lambda connection: connection.shutdown(socket.SHUT_RDWR)
        keyed = client.post(SUBMIT_PATH, json={}, headers={"Idempotency-Key": "k1"})
        assert_is_lost(keyed, "outcome-unknown", "may have been recorded", "repeat it under the same Idempotency-Key")
        for path in (SUBMIT_PATH, f"{SUBMIT_PATH}/bulk", f"{SUBMIT_PATH}/batch", "/v1/jobs/retry?x=/cancel"):
            bare = client.post(path, json={})
            assert_is_lost(bare, "outcome-unknown", "may have been recorded", "look before", "Idempotency-Key")
        assert len(web.received) == 5, "a POST that was sent is never sent again"
        harmless = [client.post("/v1/jobs/cancel", json={}), client.patch("/v1/downstreams/x", json={})]
        for answer in (*harmless, client.delete("/v1/jobs/x")):
            assert_is_lost(answer, "outcome-unknown", "may have been recorded", "does no harm")
        assert_is_lost(client.get("/v1/jobs"), "unavailable", "no web server answered; try again")
        web.close()
        for answer in (client.post(SUBMIT_PATH, json={}), client.delete("/v1/jobs/x")):
            assert_is_lost(answer, "unavailable", "no web server was reached, and nothing was recorded; try again")


def test_an_answer_that_breaks_off_in_its_head_is_none(proxy: StackProxy, web: HttpServer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Acce")
        connection.shutdown(socket.SHUT_RDWR)

    web.answer = answer
    lost = httpx2.post(f"{proxy.url}{SUBMIT_PATH}", json={}, headers={"Idempotency-Key": "k"}, trust_env=False)
    assert_is_lost(lost, "outcome-unknown", "repeat it under the same Idempotency-Key")
    assert len(web.received) == 1


def test_of_two_web_servers_the_one_that_took_the_request_is_what_counts(tmp_path: Path, web: HttpServer) -> None:
    """The first can't be reached; the second has it and says nothing."""
    proxy = StackProxy(tmp_path, int(web.url.rpartition(":")[2]), dead_before=True)
    proxy.start()
    try:
        web.answer = lambda connection: connection.shutdown(socket.SHUT_RDWR)
        for number in range(1, 5):  # whichever comes first
            lost = httpx2.post(f"{proxy.url}{SUBMIT_PATH}", json={}, trust_env=False)
            assert_is_lost(lost, "outcome-unknown", "may have been recorded")
            assert len(web.received) == number
    finally:
        proxy.stop()


def test_a_refusal_of_the_web_server_passes_as_it_is(proxy: StackProxy, web: HttpServer) -> None:
    for code in (400, 408, 411, 413, 414, 429, 431, 502, 503, 504):
        web.answer = respond(code, b"own", tidegate_job_state="failed")
        answer = httpx2.post(f"{proxy.url}/", json={}, trust_env=False)
        assert (answer.status_code, answer.content) == (code, b"own")


def test_one_address_can_not_take_every_connection(tmp_path: Path, web: HttpServer) -> None:
    proxy = StackProxy(tmp_path, int(web.url.rpartition(":")[2]), by_address=5)
    proxy.start()
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        over.wait(10)
        respond(202)(connection)

    web.answer = answer
    try:
        with ExitStack() as opened:
            held = [opened.enter_context(proxy.connect()) for _ in range(5)]
            for connection in held:
                connection.sendall(f"{SUBMIT}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
            wait_until(lambda: len(web.received) == 5, description="five are held")
            refused = httpx2.get(f"{proxy.url}/", trust_env=False)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert refused.json()["status"] == 429
            over.set()
            assert {status(answered(connection)) for connection in held} == {202}
        assert httpx2.get(f"{proxy.url}/", trust_env=False).status_code == 202
    finally:
        over.set()
        proxy.stop()


def test_an_address_has_more_than_a_web_container_holds_and_less_than_the_proxy() -> None:
    limit, workers, connections = (
        int(re.findall(rf"{name} (\d+);", STACK.read_text())[0])
        for name in ("limit_conn by_address", "worker_processes", "worker_connections")
    )
    held = Settings.model_fields["held_requests"].default
    # Each request has two: the client's and the web server's.
    assert 2 * held <= limit <= workers * connections // 2 // 2
