"""What strangers may send to the published port without a key, and that nobody else notices it."""

import re
from contextlib import ExitStack, suppress
from socket import SHUT_WR, create_connection, socket
from urllib.parse import urlsplit

import httpx2

from tests.stack.jobs import accepted, final
from tests.support.compose import Compose
from tests.support.processes import REPOSITORY

STRANGERS = 600
# Each is closed long before: a test that waits for one that stays would hang here.
STAYS_SECONDS = 120


def connect(stack: Compose) -> socket:
    """A connection to the published port."""
    parts = urlsplit(stack.url)
    return create_connection((parts.hostname, parts.port), timeout=STAYS_SECONDS)


def answered(connection: socket) -> bytes:
    """What comes until the connection is closed."""
    with suppress(ConnectionError), connection.makefile("rb") as stream:
        return stream.read()
    return b""


def raw(stack: Compose, content: str) -> bytes:
    """What is answered to these bytes, behind which nothing comes."""
    with connect(stack) as connection:
        connection.sendall(content.encode("latin-1"))
        connection.shutdown(SHUT_WR)
        return answered(connection)


def jobs_in(stack: Compose) -> int:
    """How many jobs there are."""
    return int(stack.sql("SELECT count(*) FROM jobs;")[0])


def head(method: str, path: str, *fields: str) -> str:
    """A request's head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: stack", *fields, "", ""])


def test_silent_and_slow_strangers_are_sent_away_and_nobody_else_notices(
    running: Compose, operator: httpx2.Client
) -> None:
    slow = head("POST", "/sign-in", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 1000") + "k"
    with ExitStack() as opened:
        strangers = [opened.enter_context(connect(running)) for _ in range(STRANGERS)]
        for number, stranger in enumerate(strangers):
            stranger.sendall(("", "GET / HT", slow)[number % 3].encode())
        assert operator.get("/health/live").status_code == 200
        assert final(operator, accepted(operator)).status_code == 200
        for stranger in strangers:
            answer = answered(stranger)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))


def test_what_is_no_whole_request_makes_no_job(running: Compose, operator: httpx2.Client) -> None:
    accepted(operator)
    before = jobs_in(running)
    chunked = (
        "Transfer-Encoding: chunked",
        "Content-Type: application/json",
        f"Authorization: {operator.headers['Authorization']}",
    )
    submit = head("POST", "/v1/operations/quote/jobs", *chunked)
    for broken in ('9\r\n{"sku": 1', '9\r\n{"sku": 1\r\nzz\r\n}\r\n0\r\n\r\n', '9\r\n{"sku": 1\r\n0\r\n'):
        assert not raw(running, submit + broken).startswith(b"HTTP/1.1 2")
    assert not raw(running, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 2")
    large = raw(running, head("GET", "/health/live", f"Accept: {'a/b,' * 90_000}"))
    assert large.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in large
    assert jobs_in(running) == before
    assert operator.get("/health/live").status_code == 200


def test_a_submit_in_pieces_is_whole_behind_the_proxy(running: Compose, operator: httpx2.Client) -> None:
    def rows() -> list[bytes]:
        return [b"a,b\n", *(b"1,x\n" for _ in range(1000))]

    answer = operator.post(
        "/v1/operations/csv_profile/jobs", content=iter(rows()), headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 202, answer.text
    assert final(operator, answer.headers["Location"]).json()["result"]["rows"] == 1000


def test_the_published_ports_are_on_loopback(running: Compose) -> None:
    published = [port for service in running.config()["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    text = (REPOSITORY / "docker-compose.yml").read_text()
    assert len(re.findall(r"_HOST:-127\.0\.0\.1\}", text)) == len(re.findall(r"^ +ports:", text, re.MULTILINE))
