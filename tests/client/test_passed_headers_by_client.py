"""Headers that an operation passes on, by the Python client and by the command line, at a real web server."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import clients, sqlite
from tests.support.processes import REPOSITORY
from tests.support.web_server import WebServer
from tidegate_client import Client, Refused

OPERATIONS = """
[operations.orders]
url = "http://127.0.0.1:1/orders"
pass_headers = ["X-Customer"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "operations.toml").write_text(OPERATIONS)
    file = str(folder / "operations.toml")
    running = WebServer(folder, sqlite.fresh_database(folder), OPERATIONS_FILE=file)
    running.start()
    yield running
    running.close()


@pytest.fixture(params=clients.KINDS)
def client(server: WebServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.opened(request.param, server.url) as opened:
        yield opened


def test_the_client_sends_headers_that_are_passed_on(client: Client) -> None:
    """What is passed on is part of what a key stands for, which tells whether it has come."""
    first = client.submit("orders", {}, headers={"X-Customer": "a"})
    key = first.id
    job = client.submit("orders", {}, headers={"X-Customer": "a"}, idempotency_key=key)
    assert client.submit("orders", {}, headers={"x-customer": "a"}, idempotency_key=key).id == job.id
    for other in ({"X-Customer": "b"}, None):
        with pytest.raises(Refused) as refused:
            client.submit("orders", {}, headers=other, idempotency_key=key)
        assert refused.value.status == 422


@pytest.mark.parametrize("name", ["Idempotency-Key", "authorization", "Content-Type", "JOB-TIMEOUT", "Webhook-Url"])
def test_what_the_client_writes_itself_is_none_of_them(client: Client, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is no header to be passed on"):
        client.submit("orders", {}, headers={name: "x"})


def submit(server: WebServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `tidegate submit orders` with an input."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "client"), "TIDEGATE_URL": server.url}
    command = [sys.executable, "-m", "tidegate_client", "submit", "orders", "-d", "{}", *arguments]
    return subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_line_sends_them_too(server: WebServer) -> None:
    key = ("--idempotency-key", "order-1")
    job_id = submit(server, *key, "-H", "X-Customer: a:b").stdout
    assert submit(server, *key, "--header", "x-customer:a:b").stdout == job_id
    assert submit(server, *key, "-H", "X-Customer: b").returncode == 5
    for wrong in ("X-Customer", ": a", "Authorization: x"):
        done = submit(server, "-H", wrong)
        assert (done.returncode, "header" in done.stderr) == (2, True)
