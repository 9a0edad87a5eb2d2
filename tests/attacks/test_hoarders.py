"""Attacks by one client that takes what there is of held requests, of room for inputs, and of turns."""

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.support.attack import Target, connections, under_attack


def status_of(connection: socket.socket) -> str:
    """The status that it was answered with; empty when it was cut off or not answered."""
    with suppress(OSError):
        return connection.recv(64).partition(b" ")[2][:3].decode()
    return ""


def waiting_job(client: httpx2.Client, target: Target) -> str:
    """A job of this client that does not begin while the test lasts."""
    later = datetime.now(UTC) + timedelta(seconds=40)
    answer = client.post(target.submit_path, json={}, headers={"Job-Not-Before": later.isoformat()})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_one_client_opens_streams_without_end(target: Target) -> None:
    """It took all held places of everybody."""
    if not target.key or target.key == target.attacker_key:
        pytest.skip("it takes keys of two clients")
    with target.client() as attacker, target.client(key=target.key, timeout=30) as other:
        head = target.head("GET", f"/v1/jobs/{waiting_job(attacker, target)}/events")
        own = waiting_job(other, target)
        with under_attack(target) as bystander, connections(target, 600 * target.size, head) as streams:
            bystander.watch(3)
            statuses = Counter(status_of(stream) for stream in streams)
            assert statuses["200"] > 100, "they are held, so that there is something to take away"
            assert statuses["429"] > 100, "beyond its share it is refused"
            with other.stream("GET", f"/v1/jobs/{own}/events") as events:
                assert events.status_code == 200
            waited = other.get(f"/v1/jobs/{own}", headers={"Prefer": "wait=1"})
            assert waited.headers["Preference-Applied"] == "wait=1", "it is held, too"


def test_one_client_sends_large_inputs_without_end(target: Target) -> None:
    """Each is large; the bytes of one client that wait are bounded, and others go on."""
    content = b'"' + b"x" * 900_000 + b'"'
    headers = {"Content-Type": "application/json"}

    def send(_: int) -> int:
        with target.client(timeout=60) as client:
            return int(client.post(target.submit_path, content=content, headers=headers).status_code)

    with under_attack(target), ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(send, range(60 * target.size)))
    assert statuses <= {202, 429, 503, 413}
