"""The sample downstream as a process: its answers, its log, its end."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.processes import ChildProcess
from tests.support.waiting import wait_until

ORDER = {"sku": "A-100", "quantity": 3}


@contextmanager
def downstream(folder: Path, **options: float) -> Iterator[tuple[httpx2.Client, ChildProcess]]:
    """A running one on a free port, and a client of it."""
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "demo.downstream", "--port=0", f"--log={folder / 'calls.jsonl'}", *given]
    with ChildProcess(command, log=folder / "output") as process:
        process.wait_for_log("listening on ")
        url = process.logs().partition("listening on ")[2].strip()
        with httpx2.Client(base_url=url, trust_env=False) as client:
            yield client, process


def logged(folder: Path) -> list[dict[str, object]]:
    """What its log has of every call."""
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_a_quote_is_answered_after_the_delay_and_logged_with_its_job(tmp_path: Path) -> None:
    with downstream(tmp_path, delay=0.1) as (client, _):
        began_at, began = time.time(), time.monotonic()
        answer = client.post("/quote", json=ORDER, headers={"Idempotency-Key": "job-1"})
        took = time.monotonic() - began
        assert (answer.status_code, answer.json()["sku"], answer.json()["quantity"]) == (200, "A-100", 3)
        assert 0.1 <= took < 1.0
        (call,) = logged(tmp_path)
        assert call == {"at": pytest.approx(began_at, abs=0.5), "status": 200, "job": "job-1", "open": 1}


def test_a_malformed_body_is_a_422_on_a_connection_that_stays_open(tmp_path: Path) -> None:
    with downstream(tmp_path, delay=0) as (client, _):
        answer = client.post("/quote", content=b"{")
        assert (answer.status_code, answer.json()) == (422, {"error": "the body is not JSON"})
        assert "connection" not in answer.headers
        assert client.post("/quote", json=ORDER).status_code == 200
        assert [call["status"] for call in logged(tmp_path)] == [422, 200]


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel tells when something came in")
def test_a_call_counts_from_when_it_came_in_and_not_from_when_it_was_read(tmp_path: Path) -> None:
    """On a busy machine the process may stand still meanwhile, and read several calls at once."""
    with (
        downstream(tmp_path, delay=0, rate=1) as (client, process),
        ThreadPoolExecutor(2) as callers,
        httpx2.Client(base_url=client.base_url, trust_env=False) as another,
    ):
        for each in (client, another):
            assert each.get("/health").status_code == 200  # both have a connection that is open
        process.freeze()
        first = callers.submit(client.post, "/quote", json=ORDER)
        time.sleep(1.2)
        second = callers.submit(another.post, "/quote", json=ORDER)
        time.sleep(0.2)
        process.thaw()
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_calls_beyond_the_rate_are_a_429_with_whole_seconds_to_wait(tmp_path: Path) -> None:
    with downstream(tmp_path, delay=0, rate=3) as (client, _):
        answers = [client.post("/quote", json=ORDER) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].headers["Retry-After"] == "1"
        assert [call["status"] for call in logged(tmp_path)] == [200, 200, 200, 429, 429]
        assert client.get("/stats").json() == {
            "accepted": 3,
            "refused_rate": 2,
            "refused_concurrency": 0,
            "open": 0,
            "max_open": 1,
        }


def test_calls_beyond_the_concurrency_are_a_503_with_whole_seconds_to_wait(tmp_path: Path) -> None:
    with downstream(tmp_path, delay=1, rate=100, concurrency=2) as (client, _), ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: client.post("/quote", json=ORDER), range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
        assert {answer.headers.get("Retry-After") for answer in answers} == {None, "1"}
        stats = client.get("/stats").json()
        assert (stats["accepted"], stats["refused_concurrency"], stats["max_open"]) == (2, 3, 2)


def test_health_and_unknown_paths_are_answered(tmp_path: Path) -> None:
    with downstream(tmp_path) as (client, _):
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/nowhere").status_code == 404
        assert client.post("/nowhere", json=ORDER).status_code == 404
        assert logged(tmp_path) == []


def test_answers_are_not_held_back_on_a_kept_connection(tmp_path: Path) -> None:
    with downstream(tmp_path, delay=0, rate=1000) as (client, _):
        client.post("/quote", json=ORDER)
        began = time.monotonic()
        for _ in range(50):
            client.post("/quote", json=ORDER)
        # Nagle's algorithm against delayed acknowledgements would cost 40 ms each: 2 s.
        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second_and_without_a_word(tmp_path: Path, signal_number: signal.Signals) -> None:
    with downstream(tmp_path, delay=30) as (client, process), ThreadPoolExecutor(1) as threads:
        assert client.get("/health").status_code == 200  # an idle kept connection
        held = threads.submit(client.post, "/quote", json=ORDER, timeout=30)  # and a call in the middle
        with httpx2.Client(base_url=client.base_url, trust_env=False) as other:
            wait_until(lambda: other.get("/stats").json()["open"], description="the call is open")
        assert process.stop(timeout_seconds=1, signal_number=signal_number) == 0
        assert process.logs().count("\n") == 1
        assert isinstance(held.exception(), httpx2.TransportError)
