"""What `make run` writes, read as a stranger reads it: one format, nothing alarming, a first request, a last line."""

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import OPERATIONS, Gateway
from tests.support.processes import REPOSITORY
from tests.support.waiting import wait_until

OWN_OPERATION = """\
[operations.lookup]
url = "http://127.0.0.1:9/lookup"
"""


def line_after(text: str, words: str) -> str:
    """The command below these words of the banner."""
    found = re.search(rf"\| {words}\n\S+ +\| +(.+)\n", text)
    assert found, text
    return found[1]


def run(command: str, **environment: str) -> str:
    """What a shell in the repository makes of it."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NO_PROXY": "*", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def submitted_for_later(gateway: Gateway, number: int) -> None:
    """Records jobs that are still there at the end: their downstream is paused."""
    assert gateway.client.patch("/v1/downstreams/sample", json={"paused": True}).status_code == 200
    for _ in range(number):
        assert gateway.submit("quote", json={"sku": "A", "quantity": 1}).status_code == 202


@pytest.mark.parametrize(
    ("jobs", "last"),
    [
        (0, "stopped; no job waits"),
        (1, "stopped; 1 job waits, the next start goes on"),
        (3, "stopped; 3 jobs wait, the next start goes on"),
    ],
)
def test_from_its_start_to_its_last_line_all_is_calm_and_in_one_format(tmp_path: Path, jobs: int, last: str) -> None:
    gateway = Gateway(tmp_path, operations=OPERATIONS + OWN_OPERATION if jobs else OWN_OPERATION + OPERATIONS)
    gateway.start()
    curl = line_after(gateway.logs(), "Try it:")
    if jobs:
        submitted_for_later(gateway, jobs)
        assert "/v1/operations/quote/jobs" in curl
    else:
        assert "/v1/operations/lookup/jobs" in curl, "the first that is declared"
    gateway.stop()
    text = gateway.logs()
    lines = text.splitlines()
    assert [line for line in lines if not re.match(r"[\w-]+ +\|($| )", line)] == [], "each behind its process's name"
    of_processes = [line for line in lines if not line.startswith("tidegate ")]
    stamped = re.compile(r"\S+ +\| \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) +")
    assert [line for line in of_processes if not stamped.match(line)] == []
    assert [line for line in of_processes if (found := stamped.match(line)) and found[1] != "INFO"] == []
    assert f"page {gateway.url}/\n" in text
    assert f"docs {gateway.url}/docs\n" in text
    assert lines[-1].partition("| ")[2] == last


def test_the_first_request_of_the_banner_is_taken(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, operations=OWN_OPERATION)
    gateway.start()
    try:
        assert run(line_after(gateway.logs(), "Try it:")).startswith("HTTP/1.1 202 ")
    finally:
        gateway.stop()


def test_with_keys_the_banner_makes_one_and_its_request_is_taken(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, settings={"AUTH": "keys"})
    gateway.start()
    try:
        text = gateway.logs()
        make, curl = line_after(text, r"Keys are on\. If you have none, make one:"), line_after(text, "Try it:")
        assert "$TIDEGATE_KEY" in curl
        assert run(f"{make}; {curl}").startswith("HTTP/1.1 202 ")
    finally:
        gateway.stop()


def test_with_json_logs_every_line_is_a_json_object_and_none_has_a_prefix(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, settings={"LOG_FORMAT": "json"})
    gateway.start()
    gateway.stop()
    lines = [json.loads(line) for line in gateway.logs().splitlines()]
    assert all({"time", "level", "process", "message"} <= line.keys() for line in lines)
    assert {line["process"] for line in lines} >= {"tidegate", "web", "scheduler", "io-1", "cpu-1", "sample"}
    assert lines[-1]["message"] == "stopped; no job waits"


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    with socket.create_server(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as taken:
        gateway.process.start()
        wait_until(lambda: not gateway.process.is_running, description="it ends", timeout_seconds=60)
        port = taken.getsockname()[1]
    gateway.client.close()
    assert gateway.process.exit_code == 1
    (line,) = gateway.logs().splitlines()
    assert line == f"port {port} of 127.0.0.1 can't be used (Address already in use); set TIDEGATE_PORT to another one"
