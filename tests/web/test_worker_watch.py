"""A worker of the web server that stands still is replaced; one that only works is not."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tests.support.web_server import WebServer

pytestmark = pytest.mark.long  # workers of the web server stand still until they are replaced

# In twelve rounds; the shortest that a machine which stands still for a moment itself does not reach.
SECONDS = 6


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str, request: pytest.FixtureRequest) -> Iterator[WebServer]:
    """With as many workers as the test names, and little patience."""
    server = WebServer(tmp_path, sqlite_url, WEB_WORKERS=str(request.param))
    server.process.command = [sys.executable, "-m", "webapp", "--replace-silent-after", str(SECONDS)]
    server.start()
    yield server
    server.close()


def workers(server: WebServer) -> list[psutil.Process]:
    """Those that live."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


@pytest.mark.parametrize("server", [1, 2], indirect=True)
def test_a_worker_that_stands_still_is_replaced_and_the_others_are_not(server: WebServer) -> None:
    before = workers(server)
    time.sleep(SECONDS)  # each has answered once
    frozen, others = before[0], {worker.pid for worker in before[1:]}
    frozen.send_signal(signal.SIGSTOP)
    server.process.wait_for_log(f"worker {frozen.pid} has answered nothing", timeout_seconds=60)
    wait_until(
        lambda: len(workers(server)) == len(before) and frozen.pid not in {worker.pid for worker in workers(server)},
        description="there are as many workers as before",
        timeout_seconds=60,
    )
    assert others <= {worker.pid for worker in workers(server)}
    wait_until(server._answers, description="it answers", timeout_seconds=60)


@pytest.mark.parametrize("server", [2], indirect=True)
def test_workers_that_answer_stay(server: WebServer) -> None:
    before = {worker.pid for worker in workers(server)}
    time.sleep(3 * SECONDS)
    assert {worker.pid for worker in workers(server)} == before
    assert server.client.get("/health/live").headers.get("Tidegate-Probe") is None, "nobody else is told which"
