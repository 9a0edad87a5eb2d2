"""Bytes that no client library would send, on the real server: refused, recorded nowhere, and nobody else is hurt.

Where the server's own parser refuses (broken framing, oversized headers) there is a status and no document.
"""

import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from tests.support.gateway import Gateway

MEGABYTE = 1024 * 1024
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def recorded(gateway: Gateway) -> int:
    """How many jobs there are."""
    with closing(sqlite3.connect(gateway.data / "tidegate.db")) as connection:
        count: int = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        return count


@pytest.fixture(autouse=True)
def goes_on(gateway: Gateway) -> Iterator[None]:
    """After each test the same web process answers."""
    before = gateway.pid("web")
    yield
    assert gateway.client.get("/health/live").status_code == 200
    assert gateway.pid("web") == before


def post(operation: str, headers: bytes = JSON) -> bytes:
    """The head of a submit up to its last header but those that frame the body."""
    start = f"POST /v1/operations/{operation}/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return start.encode() + headers


def exchange(gateway: Gateway, *parts: bytes | Iterable[bytes], hang_up: bool = False) -> tuple[int, str]:
    """Sends bytes as they are and returns status and the rest of the answer; 0 when the server just closed."""
    host, port = gateway.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            for part in parts:
                for piece in [part] if isinstance(part, bytes) else part:
                    connection.sendall(piece)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough; the answer is there all the same
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(status[1]) if status else 0, answer.decode("utf-8", "replace")


def chunks(size: int) -> Iterator[bytes]:
    """A chunked body of so many megabytes, and its end."""
    for _ in range(size):
        yield b"100000\r\n" + b"[" * MEGABYTE + b"\r\n"
    yield b"0\r\n\r\n"


def test_a_chunked_body_without_a_length_is_a_411(gateway: Gateway) -> None:
    before = recorded(gateway)
    answer = gateway.client.post(
        "/v1/operations/echo/jobs",
        content=iter([b'{"a"', b": [1, ", b"2]}"]),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.headers["Content-Type"]) == (411, "application/problem+json")
    assert answer.json()["type"] == "urn:tidegate:problem:length-required"
    assert recorded(gateway) == before


@pytest.mark.parametrize(("operation", "megabytes"), [("echo", 2), ("echo", 40), ("raw_echo", 21)])
def test_a_chunked_body_of_any_size_is_no_job(gateway: Gateway, operation: str, megabytes: int) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post(operation), CHUNKED, chunks(megabytes))
    assert status in (411, 0), answer
    assert recorded(gateway) == before


def test_a_declared_length_over_the_limit_is_a_413_before_the_body_is_sent(gateway: Gateway) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post("raw_echo"), b"Content-Length: 99999999999\r\n\r\n")
    assert status == 413
    assert "application/problem+json" in answer
    assert recorded(gateway) == before


def test_a_body_that_breaks_off_before_its_length_is_no_job(gateway: Gateway) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post("raw_echo"), b"Content-Length: 100\r\n\r\n[1]", hang_up=True)
    assert status == 400, answer
    assert recorded(gateway) == before


@pytest.mark.parametrize("rest", [b"", b"ffff\r\n[2", b"no length\r\n", b"3\r\n[2]", b"-1\r\n", b"0\r\n", b"0\r\nX: y"])
def test_a_chunked_body_that_breaks_off_is_no_job(gateway: Gateway, rest: bytes) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post("raw_echo"), CHUNKED, b"3\r\n[1]\r\n" + rest, hang_up=True)
    assert status == 411, answer
    assert "urn:tidegate:problem:length-required" in answer
    assert recorded(gateway) == before


def test_a_length_that_is_too_short_is_not_json(gateway: Gateway) -> None:
    status, answer = exchange(gateway, post("echo"), b"Content-Length: 2\r\n\r\n[1]")
    assert (status, "malformed-body" in answer) == (400, True)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: -1\r\n\r\n[1]",
        b"Content-Length: x\r\n\r\n[1]",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n[1]",
        b"Job-Timeout: 5\0\r\nContent-Length: 3\r\n\r\n[1]",
        b"Job-Timeout: 5\r\n 6\r\nContent-Length: 3\r\n\r\n[1]",
        b"Job Timeout: 5\r\nContent-Length: 3\r\n\r\n[1]",
        b"no colon\r\nContent-Length: 3\r\n\r\n[1]",
    ],
)
def test_broken_framing_is_a_400(gateway: Gateway, framing: bytes) -> None:
    before = recorded(gateway)
    assert exchange(gateway, post("echo"), framing)[0] == 400
    assert recorded(gateway) == before


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /v1/jobs/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /v1/jobs/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /v1/operations HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 6 * MEGABYTE + b"\r\n\r\n", 431),
        (b"GET /v1/operations HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 2000 + b"\r\n", 431),
    ],
    ids=["TLS", "a path that is not ASCII", "a long path", "a long header", "many headers"],
)
def test_what_the_server_can_not_read_has_its_status(gateway: Gateway, request_head: bytes, status: int) -> None:
    assert exchange(gateway, request_head)[0] == status


@pytest.mark.parametrize(
    "fields", [b"X: " + b"a" * 36_000 + b"\r\n", b"".join(b"X-%d: %b\r\n" % (n, b"a" * 500) for n in range(70))]
)
def test_more_than_32_kb_of_fields_are_a_431_whether_server_or_application_sees_it(
    gateway: Gateway, fields: bytes
) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post("echo", JSON + fields), b"Content-Length: 3\r\n\r\n[1]")
    assert status == 431, answer
    # The server's own has no body: which of the two sees it first depends on how the bytes arrive.
    assert "urn:tidegate:problem:fields-too-large" in answer or answer.endswith("\r\n\r\n")
    assert recorded(gateway) == before


def test_less_than_32_kb_of_fields_are_taken(gateway: Gateway) -> None:
    status, answer = exchange(
        gateway, post("echo", JSON + b"X: " + b"a" * 32_000 + b"\r\n"), b"Content-Length: 3\r\n\r\n[1]"
    )
    assert status == 202, answer


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"", 400),
        (b"Host:\r\n", 400),
        (b"Host: a b\r\n", 421),
        (b"Host: evil.example/x\r\n", 421),
        (b"Host: a\r\nHost: b\r\n", 421),
    ],
)
def test_without_one_host_that_is_ours_there_is_no_job(gateway: Gateway, host: bytes, expected: int) -> None:
    before = recorded(gateway)
    start = b"POST /v1/operations/echo/jobs HTTP/1.1\r\nConnection: close\r\n"
    status, answer = exchange(gateway, start, host, JSON, b"Content-Length: 3\r\n\r\n[1]")
    assert status == expected
    assert "Location" not in answer
    assert recorded(gateway) == before


def test_a_probe_without_a_host_is_answered(gateway: Gateway) -> None:
    assert exchange(gateway, b"GET /health/live HTTP/1.0\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (JSON + b"Job-Timeout: 5\r\nJob-Timeout: 6\r\n", "invalid-header"),
        (JSON + b"Job-Timeout: \xb2\r\n", "invalid-header"),
        (b"Content-Type: application/json\xa0\r\n", "unsupported-media-type"),
        (b"Content-Type: text/plain\r\n" + JSON, "unsupported-media-type"),
        (JSON + b"Content-Encoding: gzip\r\n", "unsupported-media-type"),
        (JSON[:-2] + b"; x=" + b"y" * 30_000 + b"\r\n", "unsupported-media-type"),
        (b"", "unsupported-media-type"),
    ],
)
def test_odd_headers_are_refused_and_told(gateway: Gateway, headers: bytes, name: str) -> None:
    before = recorded(gateway)
    status, answer = exchange(gateway, post("echo", headers), b"Content-Length: 3\r\n\r\n[1]")
    assert status in (400, 415)
    assert f"urn:tidegate:problem:{name}" in answer
    assert recorded(gateway) == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 450_000 + b"]" * 450_000, 400),
        (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, 400),
        (b"[" * 10_000_000, 413),
        (b'"\\ud800"', 400),
        (b'"\xff"', 400),
        (b"\0", 400),
        (b"9" * 1_000_000, 400),
        (b"", 400),
    ],
    ids=["nested lists", "nested objects", "10 MB", "a lone surrogate", "not UTF-8", "NUL", "a long number", "nothing"],
)
def test_bad_json_is_refused_at_once(gateway: Gateway, content: bytes, status: int) -> None:
    before = recorded(gateway)
    answer = gateway.submit("echo", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.elapsed.total_seconds() < 2
    assert recorded(gateway) == before


def test_bytes_of_every_kind_go_through_whole(gateway: Gateway) -> None:
    content = bytes(range(256)) * 4096
    answer = gateway.submit("raw_echo", content=content, headers={"Content-Type": "application/x-odd; q=1"})
    assert answer.status_code == 202
    document = gateway.wait_final(answer.headers["Location"]).json()
    raw = gateway.client.get(document["links"]["result"])
    assert (raw.content == content, raw.headers["Content-Type"]) == (True, "application/x-odd; q=1")


def test_stalled_uploads_do_not_stop_the_others(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    stalled = []
    try:
        for _ in range(9):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(post("raw_echo") + b"Content-Length: 9\r\n\r\n[1]")
            stalled.append(connection)
        for _ in range(20):
            assert gateway.client.get("/health/live", timeout=1).status_code == 200
    finally:
        for connection in stalled:
            connection.close()
