"""Heads that are large, and header fields that take long to take apart."""

import time
from contextlib import suppress

import pytest

from tests.support.attack import Target, connections, under_attack

KILOBYTE = 1024


def status_of(target: Target, head: bytes) -> int:
    """Of the answer to this request."""
    with target.connect(timeout=20) as connection:
        with suppress(OSError):  # it has heard enough
            connection.sendall(head)
        answer = connection.recv(65536)
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize("size", [40 * KILOBYTE, 60 * KILOBYTE, 360 * KILOBYTE])
@pytest.mark.parametrize("field", ["Accept: {}", "Cookie: {}", "If-None-Match: {}", "Authorization: Digest {}"])
def test_a_large_head_is_refused_before_anybody_takes_it_apart(target: Target, field: str, size: int) -> None:
    line = field.format("a/b," * (size // 4))
    assert status_of(target, target.head("GET", "/", line, "Connection: close", key="")) in {431, 0}


def test_large_heads_stop_nobody(target: Target) -> None:
    with under_attack(target) as bystander:
        head = target.head("GET", "/", "Accept: " + "a/b," * 90 * KILOBYTE, key="")
        for _ in range(5 * target.size):
            with connections(target, 10, head):
                bystander.watch(0.2)


@pytest.mark.parametrize(
    "field",
    [
        "Accept: " + "a/b;q=0.5," * 3000,
        "Cookie: " + "a=b;" * 7500,
        "If-None-Match: " + '"a",' * 7500,
        "Prefer: " + "a," * 15_000,
    ],
    ids=["Accept", "Cookie", "If-None-Match", "Prefer"],
)
def test_what_is_let_in_is_taken_apart_quickly(target: Target, field: str) -> None:
    """30 KB each. An Accept of 360 KB took 3.3 s of processor time, of 30 KB still a tenth of that."""
    with under_attack(target):
        for path in ("/", "/v1/jobs", "/v1/jobs/0199c5a0-0000-7000-8000-000000000000"):
            head = target.head("GET", path, field, "Connection: close")
            seconds = []
            for _ in range(5):
                began = time.monotonic()
                assert status_of(target, head) in {200, 303, 401, 404}
                seconds.append(time.monotonic() - began)
            assert min(seconds) < 0.5, f"{path}: {seconds}"
