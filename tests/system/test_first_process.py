"""A process that is the first of its container, with no init before it: it ends when it is asked to.

Signals that the first process has no handler for do nothing, and its own SIGKILL spares it.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.nodes import SCHEDULER_COMMAND, worker_command
from tests.support.processes import ChildProcess
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tests.support.web_server import WebServer

ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "setsid"]


def why_not() -> str | None:
    """Why no process can be the first here; None: one can."""
    try:
        tried = subprocess.run([*ALONE, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return f"only root may make a namespace: {tried.stderr.strip()}" if tried.returncode else None


if reason := why_not():
    pytest.skip(reason, allow_module_level=True)


class First(ChildProcess):
    """A command that is process 1 of a namespace of its own, and leads its group, as in a container."""

    def terminate(self) -> None:
        """SIGTERM, as `docker stop` sends it."""
        (first,) = psutil.Process(self.pid).children()
        first.send_signal(signal.SIGTERM)

    def await_end(self) -> None:
        """Waits for its end; the test's own limit is for one that never ends."""
        wait_until(lambda: not self.is_running, description=f"{self.command} has ended", timeout_seconds=30)


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """A grace that a test can wait for."""
    return {**default_worker_env, "TIDEGATE_GRACE_SECONDS": "1"}


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


@pytest.mark.parametrize("operation", ["ignores_stop_io", "sleepy_cpu"])
def test_a_worker_ends_after_its_grace_and_what_it_ran_is_handed_back(
    tmp_path: Path, face: Web, default_worker_env: dict[str, str], operation: str
) -> None:
    queue = operation.rpartition("_")[2]
    command = [*ALONE, sys.executable, *worker_command(queue, name=queue, concurrency=2)]
    scheduler = [sys.executable, *SCHEDULER_COMMAND]
    with (
        ChildProcess(scheduler, log=tmp_path / "scheduler.log", environment=default_worker_env),
        First(command, log=tmp_path / "worker.log", environment=default_worker_env) as worker,
    ):
        worker.wait_for_log("ready.")
        job_id = face.accepted(operation, b'{"seconds": 60}')
        wait_until(lambda: face.row(job_id).state == "running", description="it runs")

        worker.terminate()
        worker.await_end()

        row = face.row(job_id)
        assert (row.state, row.lease_until, row.losses) == ("queued", None, 0)
        assert "handed back to run elsewhere" in worker.logs()


@pytest.mark.parametrize("queue", ["io", "cpu", "webhooks"])
def test_an_idle_worker_ends(tmp_path: Path, face: Web, default_worker_env: dict[str, str], queue: str) -> None:
    command = [*ALONE, sys.executable, *worker_command(queue, name=queue, concurrency=2)]
    with First(command, log=tmp_path / "worker.log", environment=default_worker_env) as worker:
        worker.wait_for_log("ready.")
        worker.terminate()
        worker.await_end()
        assert worker.exit_code == 0


def test_the_scheduler_ends(tmp_path: Path, face: Web, default_worker_env: dict[str, str]) -> None:
    command = [*ALONE, sys.executable, *SCHEDULER_COMMAND]
    with First(command, log=tmp_path / "scheduler.log", environment=default_worker_env) as scheduler:
        scheduler.wait_for_log("scheduler of ")
        scheduler.terminate()
        scheduler.await_end()
        assert scheduler.exit_code == 0


def test_the_web_server_ends(tmp_path: Path, database_url: str) -> None:
    server = WebServer(tmp_path, database_url, GRACE_SECONDS="1")
    alone = First([*ALONE, *server.process.command], log=server.process.log, environment=server.process.environment)
    server.process = alone
    server.start()
    try:
        with server.events(server.submit()) as held:
            next(held.iter_sse())
            alone.terminate()
            alone.await_end()
        assert alone.exit_code == 0
    finally:
        server.close()
