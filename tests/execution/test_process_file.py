"""The file that says of a process that it lives, which is less than that it does its work."""

import sys
from pathlib import Path

import pytest

from tests.support.nodes import SCHEDULER_COMMAND, worker_command
from tests.support.processes import ChildProcess, free_port
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until


@pytest.mark.parametrize("name", ["io", "cpu", "webhooks", "scheduler"])
def test_without_a_database_a_process_lives_and_does_no_work(
    tmp_path: Path, broker: Valkey, default_worker_env: dict[str, str], name: str
) -> None:
    """A liveness probe that read the other file would start every worker anew."""
    nowhere = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    command = SCHEDULER_COMMAND if name == "scheduler" else worker_command(name, name=name, concurrency=1)
    environment = {**default_worker_env, "TIDEGATE_DATABASE_URL": nowhere}
    folder = Path(environment["TIDEGATE_DATA"]) / "run"
    with ChildProcess([sys.executable, *command], log=tmp_path / "process.log", environment=environment) as process:
        process.wait_for_log("scheduler" if name == "scheduler" else "ready.")
        lives = folder / f"{name}.process"
        wait_until(lives.exists, description="it lives")
        seen = {lives.stat().st_mtime_ns}
        wait_until(lambda: len(seen | {lives.stat().st_mtime_ns}) > 1, description="it goes on living")

        assert process.is_running
        assert not (folder / f"{name}.alive").exists()


@pytest.mark.parametrize("operations_toml", ['[operations.call]\nurl = "http://127.0.0.1/${ONLY_WORKERS_HAVE_IT}"\n'])
def test_a_sender_of_webhooks_does_its_work_without_the_secrets_of_operations(
    tmp_path: Path, broker: Valkey, default_worker_env: dict[str, str]
) -> None:
    folder = Path(default_worker_env["TIDEGATE_DATA"]) / "run"
    command = [sys.executable, *worker_command("webhooks", name="webhooks", concurrency=1)]
    with ChildProcess(command, log=tmp_path / "process.log", environment=default_worker_env) as process:
        wait_until((folder / "webhooks.alive").exists, description="it does its work", timeout_seconds=10)
        assert "ERROR" not in process.logs()
