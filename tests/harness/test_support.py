"""What a test run started ends with it, however it ends; and every test has a database to itself."""

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from tests.support import guardian
from tests.support.attack import Target, under_attack
from tests.support.http_server import HttpServer
from tests.support.processes import ChildProcess
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import required


def test_the_guardian_ends_what_a_killed_run_left_behind(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "processes").mkdir(parents=True)
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up'); time.sleep(60)"
    with ChildProcess([sys.executable, "-c", stubborn], log=tmp_path / "log") as orphan:
        orphan.wait_for_log("up")
        (run / "processes" / str(orphan.pid)).write_text(str(psutil.Process(orphan.pid).create_time()))

        with subprocess.Popen([sys.executable, guardian.__file__, str(run)], stdin=subprocess.PIPE) as guard:
            guard.communicate(timeout=20)

        assert not orphan.is_running
    assert not run.exists()


def test_a_process_that_ended_early_is_reported_with_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such file'); raise SystemExit(3)"]
    with (
        ChildProcess(command, log=tmp_path / "log") as process,
        pytest.raises(AssertionError, match=r"(?s)ended with 3.*no such file"),
    ):
        process.wait_for_log("ready")


@pytest.mark.both_databases("each has a template of its own")
def test_a_fresh_database_is_migrated_and_empty(database: Database) -> None:
    assert required(database.fetch_one(select(func.count()).select_from(jobs)))[0] == 0


def test_a_bystander_notices_a_server_that_answers_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        pytest.raises(AssertionError, match=r"(?s)GET /health/live: .*failed"),
        under_attack(Target(url=f"http://127.0.0.1:{deaf.getsockname()[1]}", operation="echo")),
    ):
        pass


def test_a_bystander_notices_a_refused_submit(tmp_path: Path) -> None:
    server = HttpServer()
    try:
        with (
            pytest.raises(AssertionError, match=r"(?s)POST /v1/operations/echo/jobs: .*failed, first: 200"),
            under_attack(Target(url=server.url, operation="echo")) as bystander,
        ):
            bystander.watch(1)
    finally:
        server.close()
