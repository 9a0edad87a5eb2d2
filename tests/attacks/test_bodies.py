"""Bodies that do not end, or not as they began: submits of one client, and forms of a stranger."""

import socket
import time
from contextlib import suppress

import pytest

from tests.support.attack import Target, connections, under_attack

_JSON = "Content-Type: application/json"
_FORM = "Content-Type: application/x-www-form-urlencoded"
# Each 64 KB of a body have ten seconds.
_TOO_SLOW_SECONDS = 10


def answer_on(connection: socket.socket, seconds: float) -> bytes:
    """All that the server says until it closes; raises TimeoutError when it does not."""
    connection.settimeout(seconds)
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:
        pass
    return said


def stalled_submit(target: Target, length: int, sent: bytes = b"[") -> bytes:
    """A submit of the attacker that announces so much, and what it sends of it."""
    return target.head("POST", target.submit_path, _JSON, f"Content-Length: {length}") + sent


def test_stalled_submits_of_one_client_stop_nobody_else(target: Target) -> None:
    # Without keys the bystander is the same client, who may have 256 on their way.
    count = 600 * target.size if target.key else 200
    with under_attack(target) as bystander, connections(target, count, stalled_submit(target, 100)):
        bystander.watch(5)


def test_stalled_large_submits_of_one_client_stop_nobody_else(target: Target) -> None:
    submit = stalled_submit(target, 10_000_000, b"[" + b" " * 100_000)
    with under_attack(target) as bystander, connections(target, 50 * target.size, submit):
        bystander.watch(5)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/jobs/0199c5a0-0000-7000-8000-000000000000/cancel"])
def test_stalled_forms_of_a_stranger_stop_nobody(target: Target, path: str) -> None:
    form = target.head("POST", path, _FORM, "Content-Length: 100", "Sec-Fetch-Site: same-origin", key="") + b"k"
    with under_attack(target) as bystander, connections(target, 100 * target.size, form):
        bystander.watch(4)


def test_a_stranger_can_sign_in_beside_stalled_forms(target: Target) -> None:
    fields = (_FORM, "Sec-Fetch-Site: same-origin")
    stalled = target.head("POST", "/sign-in", *fields, "Content-Length: 100", key="") + b"k"
    form = target.head("POST", "/sign-in", *fields, "Content-Length: 7", "Connection: close", key="") + b"key=abc"
    with under_attack(target) as bystander, connections(target, 200 * target.size, stalled):
        bystander.watch(2)
        for _ in range(5):
            with target.connect() as connection:
                connection.sendall(form)
                # 403: no such key; 303 where keys are off.
                assert answer_on(connection, 10).split(b" ", 2)[1] in {b"403", b"303"}


def test_bodies_without_a_key_are_refused_before_they_are_read(target: Target) -> None:
    if not target.key:
        pytest.skip("keys are off")
    for path in (target.submit_path, "/v1/jobs/cancel", target.submit_path + "/bulk", "/v1/webhook-secrets"):
        head = target.head("POST", path, _JSON, "Content-Length: 10000", key="")
        with target.connect() as connection:
            connection.sendall(head + b"[")
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 "), path


@pytest.mark.parametrize(("length", "sent"), [(100, 1), (100, 99), (1_000_000, 70_000)])
def test_a_body_that_stops_coming_is_told_so_and_closed(target: Target, length: int, sent: int) -> None:
    with under_attack(target), target.connect() as connection:
        began = time.monotonic()
        connection.sendall(stalled_submit(target, length, b" " * sent))
        said = answer_on(connection, _TOO_SLOW_SECONDS + 10)
        assert time.monotonic() - began > _TOO_SLOW_SECONDS - 1
    assert said.startswith(b"HTTP/1.1 408 "), said
    assert b"urn:tidegate:problem:body-too-slow" in said


def test_a_body_that_drips_is_cut_off_too(target: Target) -> None:
    with under_attack(target), target.connect() as connection:
        connection.sendall(stalled_submit(target, 1000))
        began = time.monotonic()
        with suppress(OSError):  # reset or broken, as it happens to be noticed
            while time.monotonic() < began + _TOO_SLOW_SECONDS + 10:
                connection.sendall(b" ")
                time.sleep(0.2)
        assert _TOO_SLOW_SECONDS - 1 < time.monotonic() - began < _TOO_SLOW_SECONDS + 9


def test_a_slow_body_that_comes_in_time_is_a_job(target: Target) -> None:
    with target.connect() as connection:
        connection.sendall(stalled_submit(target, 4, b""))
        for byte in b"{ } ":
            time.sleep(1)
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("rest", [b"", b"5\r\n[1]", b"zz\r\n", b"ffffffffffffffffff\r\n", b"3\r\n[1]\r\n0\r\n\r\n"])
def test_chunks_whole_or_broken_are_refused(target: Target, rest: bytes) -> None:
    head = target.head("POST", target.submit_path, _JSON, "Transfer-Encoding: chunked")
    with under_attack(target), connections(target, 20 * target.size, head + rest) as opened:
        for connection in opened:
            with suppress(OSError):  # it was refused and closed before its end came
                connection.shutdown(socket.SHUT_WR)
            said = answer_on(connection, 10)
            assert not said or said.startswith((b"HTTP/1.1 411 ", b"HTTP/1.1 400 ")), said
