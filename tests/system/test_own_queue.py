"""A queue of one's own in the embedded default: its workers are processes of their own, and everybody knows them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.support.gateway import OPERATIONS, Gateway
from tests.support.processes import ChildProcess
from tests.support.waiting import wait_until

QUEUES = """
[queues.gpu]
pool = "processes"
concurrency = 1
workers = 2

[queues.elsewhere]
pool = "threads"
workers = 0

[queues.slow]
pool = "threads"
concurrency = 3

[operations.elsewhere_quote]
downstream = "sample"
queue = "elsewhere"
url = "http://127.0.0.1:${TIDEGATE_SAMPLE_PORT:-8001}/quote"

[operations.slow_quote]
downstream = "sample"
queue = "slow"
url = "http://127.0.0.1:${TIDEGATE_SAMPLE_PORT:-8001}/quote"
"""
ORDER = {"sku": "A-100", "quantity": 3}
MODULES = "tests.support.operations,tests.support.own_queue_operations"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One stack for this module."""
    stack = Gateway(
        tmp_path_factory.mktemp("gateway"), operations=OPERATIONS + QUEUES, settings={"OPERATIONS": MODULES}
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def result_of(gateway: Gateway, operation: str, params: object = 1) -> httpx2.Response:
    answer = gateway.submit(operation, json=params)
    assert answer.status_code == 202, answer.text
    return gateway.wait_final(answer.headers["Location"])


def test_an_operation_runs_in_a_worker_of_its_queue(gateway: Gateway) -> None:
    answer = result_of(gateway, "own_place")

    assert answer.status_code == 200
    assert answer.json()["result"][1] in {gateway.pid("gpu-1"), gateway.pid("gpu-2")}


def test_its_processes_have_hard_time_limits(gateway: Gateway) -> None:
    answer = result_of(gateway, "own_endless")

    assert answer.status_code == 502
    assert "hard time limit" in answer.json()["error"]["message"]


def test_an_http_operation_has_threads_of_its_own(gateway: Gateway) -> None:
    assert result_of(gateway, "slow_quote", ORDER).status_code == 200
    assert "slow-1" in gateway.logs()


def test_its_workers_are_known_without_a_change_of_code(gateway: Gateway) -> None:
    workers = gateway.client.get("/health/ready").json()["workers"]
    assert (workers["gpu"], workers["slow"]) == (2, 3)
    metrics = gateway.client.get("/metrics").text
    assert 'tidegate_worker_slots{queue="gpu"} 2.0' in metrics
    assert 'tidegate_operations{queue="slow"} 1.0' in metrics
    assert "<b>gpu</b>" in gateway.client.get("/").text


def test_a_worker_that_somebody_else_starts_serves_it_as_declared(gateway: Gateway, tmp_path: Path) -> None:
    answer = gateway.submit("elsewhere_quote", json=ORDER)
    assert answer.json()["waiting"]["reason"] in {"dispatch", "no_worker"}
    environment = {
        "TIDEGATE_OPERATIONS_FILE": str(gateway.data.parent / "operations.toml"),
        "TIDEGATE_DATABASE_URL": f"sqlite:///{gateway.data}/tidegate.db",
        "TIDEGATE_BROKER_URL": (gateway.data / "run" / "broker.url").read_text().strip(),
        "TIDEGATE_SAMPLE_PORT": gateway.sample_url.rpartition(":")[2],
        "TIDEGATE_DATA": str(tmp_path),
    }
    command = [sys.executable, "-m", "tasks.worker", "elsewhere"]
    worker = ChildProcess(command, log=tmp_path / "worker.log", environment=environment)
    worker.start()
    try:
        assert gateway.wait_final(answer.headers["Location"]).status_code == 200
        assert gateway.client.get("/health/ready").json()["workers"]["elsewhere"] == 1
    finally:
        worker.stop(timeout_seconds=20)


def test_one_that_dies_is_started_again_and_the_other_goes_on(gateway: Gateway) -> None:
    old = gateway.pid("gpu-1")
    psutil.Process(old).kill()

    assert result_of(gateway, "own_place").status_code == 200
    wait_until(lambda: gateway.pid("gpu-1") != old, description="gpu-1 runs again")
