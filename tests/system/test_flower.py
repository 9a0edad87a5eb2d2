"""`make flower`: Flower against the gateway that runs, whatever port its broker has got."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from config.settings import Settings
from embedded.flower import broker_of, environment_of
from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY, ChildProcess, free_port
from tests.support.waiting import wait_until
from tidegate import clock
from tidegate.errors import ConfigurationError


def surroundings(**settings: str) -> dict[str, str]:
    """The environment of another terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return kept | {f"TIDEGATE_{name}": value for name, value in settings.items()}


def run(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_where_no_gateway_runs_it_says_what_to_do(tmp_path: Path) -> None:
    done = run("embedded.flower", environment=surroundings(DATA=str(tmp_path)))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no gateway runs on {tmp_path}: start it with `make run` first" in done.stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "broker.url").write_text("redis://127.0.0.1:1/0\n")
    (tmp_path / "run" / "supervisor.pid").write_text("999999999\n")
    assert run("embedded.flower", environment=surroundings(DATA=str(tmp_path))).returncode == 1, (
        "of one that was killed"
    )
    over_sqs = run("embedded.flower", environment=surroundings(BROKER_URL="sqs://", DATA=str(tmp_path)))
    assert over_sqs.returncode == 1
    assert "nothing over SQS" in over_sqs.stderr


def test_it_gets_the_broker_of_the_gateway_that_runs(gateway: Gateway) -> None:
    own = environment_of(surroundings(DATA=str(gateway.data)), broker_of(Settings(data=gateway.data)))
    asked = run("celery", "--quiet", "-A", "tasks.app", "inspect", "ping", "--json", environment=own)
    assert asked.returncode == 0, asked.stderr
    assert {"io-1@tidegate", "cpu-1@tidegate", "webhooks-1@tidegate"} <= json.loads(asked.stdout).keys()
    name, _, password = own["FLOWER_BASIC_AUTH"].partition(":")
    assert (name, len(password)) == ("flower", 16)
    assert environment_of({"FLOWER_BASIC_AUTH": "me:mine"}, "redis://x/0")["FLOWER_BASIC_AUTH"] == "me:mine"


def test_flower_knows_the_workers_and_a_job_under_its_id(gateway: Gateway, tmp_path: Path) -> None:
    pytest.importorskip("flower", reason="only where requirements-stack.txt is installed, too")
    port = free_port()
    flower = ChildProcess(
        [sys.executable, "-m", "embedded.flower", f"--port={port}"],
        log=tmp_path / "flower.log",
        environment={"TIDEGATE_DATA": str(gateway.data)},
    )
    with flower, httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        flower.wait_for_log("name and password: ")
        words = flower.logs().partition("name and password: ")[2].split()[0]

        def workers() -> list[str]:
            try:
                answer = client.get("/api/workers?refresh=1", auth=tuple(words.split(":", 1)))  # type: ignore[arg-type]
            except httpx2.TransportError:
                return []
            return [*answer.json()] if answer.status_code == 200 else []

        wait_until(lambda: "io-1@tidegate" in workers(), description="Flower sees the workers", timeout_seconds=60)

        def knows_a_job() -> bool:
            """Workers tell their events from when Flower has asked for them."""
            job_id = gateway.submit("echo", json=1).json()["id"]
            gateway.wait_final(f"/v1/jobs/{job_id}")
            clock.sleep(0.3)
            answer = client.get(f"/api/task/info/{job_id}", auth=tuple(words.split(":", 1)))  # type: ignore[arg-type]
            return answer.status_code == 200

        wait_until(knows_a_job, description="Flower knows the job", timeout_seconds=60)
        assert client.get("/").status_code == 401


def test_without_the_run_folder_the_settings_decide(tmp_path: Path) -> None:
    assert broker_of(Settings(data=tmp_path, broker_url="redis://127.0.0.1:1/0")) == "redis://127.0.0.1:1/0"
    with pytest.raises(ConfigurationError, match="make run"):
        broker_of(Settings(data=tmp_path))
