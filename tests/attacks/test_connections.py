"""Connections that ask nothing, half a question, or in another language."""

import socket
import struct
import time
from contextlib import suppress

import pytest

from tests.support.attack import Target, connections, under_attack

# Of a running gateway with its default; the one of these tests is quicker.
_IDLE_SECONDS = 10
_LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _DATA, _SETTINGS, _END_HEADERS = 1, 0, 4, 4


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the server closes it, whatever it says before."""
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    "first_bytes",
    [b"", b"P", b"GET /v1/jo", _LIVE[:-2] + b"X: ", b"\r\n", _LIVE],
    ids=["silent", "one byte", "half a line", "half a head", "an empty line", "silent after an answer"],
)
def test_idle_connections_go_by_themselves_and_stop_nobody(target: Target, first_bytes: bytes) -> None:
    count = (1600 if not first_bytes else 200) * target.size
    with under_attack(target) as bystander, connections(target, count, first_bytes) as opened:
        bystander.watch(2)
        assert all(closes_within(connection, _IDLE_SECONDS + 10) for connection in opened)


def test_a_head_that_drips_is_cut_off(target: Target) -> None:
    head = target.head("GET", "/v1/jobs", "X: " + "a" * 10_000)
    with under_attack(target), connections(target, 50 * target.size) as opened:
        began, sent = time.monotonic(), 0
        while opened and sent < len(head) and time.monotonic() < began + _IDLE_SECONDS + 10:
            for connection in list(opened):
                try:
                    connection.sendall(head[sent : sent + 1])
                except OSError:
                    opened.remove(connection)
            sent += 1
            time.sleep(0.2)
    assert not opened, f"{len(opened)} were still open"


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def form_of_one_byte(stream: int) -> bytes:
    """POST /sign-in with the first byte of a body that does not end."""
    path, host = b"/sign-in", b"localhost"
    fields = b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(host)]) + host
    return frame(_HEADERS, _END_HEADERS, stream, fields) + frame(_DATA, 0, stream, b"k")


@pytest.mark.parametrize(("connections_", "streams"), [(1, 70), (4, 20)])
def test_http_2_without_tls_is_not_spoken(target: Target, connections_: int, streams: int) -> None:
    """This many forms once stopped the web process for good, and nobody had asked for HTTP/2."""
    asked = _PREFACE + frame(_SETTINGS, 0, 0, b"") + b"".join(form_of_one_byte(2 * n + 1) for n in range(streams))
    for _ in range(5 * target.size):
        with under_attack(target) as bystander, connections(target, connections_, asked) as opened:
            for connection in opened:
                said = b""
                with suppress(OSError):
                    while piece := connection.recv(65536):
                        said += piece
                assert not said or said.startswith(b"HTTP/1.1 4"), said
            bystander.watch(0.5)


def test_an_upgrade_to_http_2_is_passed_over(target: Target) -> None:
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with target.connect() as connection:
        connection.sendall(target.head("GET", "/health/live", *fields))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(target.head("GET", "/health/live"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 "), "and it goes on as it was"
