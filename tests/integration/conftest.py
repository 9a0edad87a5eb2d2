"""Real workers and a steward around a test's own database and broker, as nodes of pytest-celery.

pytest-celery would run its nodes in Docker containers; the fixtures that make containers are replaced here, and all of
its others (celery_setup, celery_worker, celery_broker, ...) work unchanged on processes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import RedisTestBroker

from tests.support.nodes import RedisProcess, StewardNode, StewardProcess, WorkerNode, WorkerProcess
from tests.support.valkey import Valkey
from tests.support.web import Web

StartWorker = Callable[..., WorkerNode]

_NODES = os.environ.get("CELERY_NODES", "auto")
if _NODES not in {"auto", "process"}:
    raise pytest.UsageError(f"CELERY_NODES={_NODES}: nodes are processes so far; say process, or leave it out")


@pytest.fixture
def operations_toml() -> str:
    """What the operations file says; a module overrides this fixture, a test parametrizes it."""
    return ""


@pytest.fixture
def operations_file(tmp_path: Path, operations_toml: str) -> Path:
    """The operations file of every process of the test."""
    file = tmp_path / "operations.toml"
    file.write_text(operations_toml)
    return file


@pytest.fixture
def web(tmp_path: Path, database_url: str) -> Iterator[Web]:
    """The HTTP face over a fresh database, with nothing running beside it."""
    face = Web(tmp_path, database_url)
    yield face
    face.close()


@pytest.fixture
def lease_seconds() -> int:
    """The shortest lease there is, so that rescues are seen soon; override it to have another."""
    return 2


@pytest.fixture
def default_worker_env(
    tmp_path: Path,
    database_url: str,
    celery_worker_cluster_config: dict[str, Any],
    operations_file: Path,
    lease_seconds: int,
) -> dict[str, str]:
    """The settings of every process of the test; override it, requesting itself, to add some."""
    return {
        "TIDEGATE_DATA": str(tmp_path / "data"),
        "TIDEGATE_DATABASE_URL": database_url,
        "TIDEGATE_BROKER_URL": celery_worker_cluster_config["celery_broker_cluster_config"]["urls"][0],
        "TIDEGATE_OPERATIONS_FILE": str(operations_file),
        "TIDEGATE_OPERATIONS": "tests.support.operations",
        "TIDEGATE_LEASE_SECONDS": str(lease_seconds),
    }


@pytest.fixture
def default_redis_broker(broker: Valkey) -> RedisProcess:
    """In place of a container: the Valkey that the fixture `broker` gives."""
    return RedisProcess(broker)


@pytest.fixture
def celery_broker(celery_redis_broker: RedisTestBroker) -> RedisTestBroker:
    """Redis only; pytest-celery would run each test with RabbitMQ too."""
    return celery_redis_broker


@pytest.fixture
def celery_backend_cluster() -> None:
    """No result backend: results are rows."""


@pytest.fixture
def celery_setup_app(celery_setup_app: Celery) -> Iterator[Celery]:
    """The test's own Celery app, knowing nothing but the broker; closed afterwards."""
    yield celery_setup_app
    celery_setup_app.close()


@pytest.fixture
def default_worker_cls() -> type[WorkerNode]:
    """What `celery_worker` is."""
    return WorkerNode


@pytest.fixture
def default_worker_container(default_worker_env: dict[str, str], tmp_path: Path) -> WorkerProcess:
    """In place of a container: a worker process of the queue io."""
    worker = WorkerProcess("io", name="io-test", concurrency=8, environment=default_worker_env, folder=tmp_path)
    worker.start()
    return worker


@pytest.fixture
def start_worker(default_worker_env: dict[str, str], celery_setup_app: Celery, tmp_path: Path) -> Iterator[StartWorker]:
    """`start_worker("io" | "cpu", name="io-2", concurrency=8)` starts one more worker of the same stack."""
    with ExitStack() as nodes:

        def start(queue: str, *, name: str | None = None, concurrency: int | None = None) -> WorkerNode:
            container = WorkerProcess(
                queue,
                name=name or f"{queue}-test",
                concurrency=concurrency or {"io": 8, "cpu": 2}[queue],
                environment=default_worker_env,
                folder=tmp_path,
            )
            nodes.callback(container.teardown)
            container.start()
            return WorkerNode(container, celery_setup_app)

        yield start


@pytest.fixture
def cpu_worker(start_worker: StartWorker) -> WorkerNode:
    """A worker of the queue cpu: prefork, two processes."""
    return start_worker("cpu")


@pytest.fixture
def steward(default_worker_env: dict[str, str], tmp_path: Path) -> Iterator[StewardNode]:
    """The steward of the stack: it releases the jobs and sweeps."""
    container = StewardProcess(environment=default_worker_env, folder=tmp_path)
    container.start()
    yield StewardNode(container)
    container.teardown()
