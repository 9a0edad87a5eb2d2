"""Real workers and a scheduler around a test's own database and broker, as nodes of pytest-celery.

pytest-celery would run its nodes in Docker containers. CELERY_NODES=process, which is what it is by default, puts
processes in their place; CELERY_NODES=docker runs the same tests on containers of the product's image. All of
pytest-celery's other fixtures (celery_setup, celery_worker, celery_broker, ...) work unchanged on both.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import RedisTestBroker

from tests.support.http_server import HttpServer, serving
from tests.support.nodes import RedisProcess, SchedulerNode, SchedulerProcess, WorkerNode, WorkerProcess
from tests.support.valkey import Valkey
from tests.support.web import Web
from tests.support.webhooks import make_secret
from tidegate.stores import Store

StartWorker = Callable[..., WorkerNode]

_MODE = os.environ.get("CELERY_NODES", "process")
if _MODE == "docker":
    from tests.support.containers import ContainerRedis, SchedulerContainer, WorkerContainer, why_not

    if reason := why_not():
        raise pytest.UsageError(f"CELERY_NODES=docker: {reason}")
    _Worker, _Scheduler = WorkerContainer, SchedulerContainer
elif _MODE == "process":
    _Worker, _Scheduler = WorkerProcess, SchedulerProcess
else:
    raise pytest.UsageError(f"CELERY_NODES={_MODE}: say process or docker, or leave it out")
_STARTS_NODES = {"start_worker", "scheduler", "celery_setup"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that have nodes, for `-m nodes`."""
    for item in items:
        if _STARTS_NODES & set(getattr(item, "fixturenames", ())):
            item.add_marker("nodes")


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
def downstream() -> Iterator[HttpServer]:
    """What the operation `call` calls, which answers 200 until a test says otherwise."""
    with serving() as server:
        yield server


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


if _MODE == "docker":

    @pytest.fixture
    def broker() -> Iterator[Valkey]:
        """A running, empty Redis in a container, with all that a test may do to the Valkey of the other mode."""
        server = ContainerRedis()
        server.start()
        yield server
        server.container.teardown()

else:

    @pytest.fixture
    def broker(tmp_path: Path) -> Iterator[Valkey]:
        """A running, empty Valkey of the test's own: it may kill, freeze and restart it."""
        server = Valkey(tmp_path)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def default_redis_broker(broker: Valkey) -> Any:
    """The server that the fixture `broker` gives, as pytest-celery wants it."""
    if _MODE == "docker":
        assert isinstance(broker, ContainerRedis)
        return broker.container
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
def default_worker_container(default_worker_env: dict[str, str], tmp_path: Path) -> Any:
    """A worker of the queue io."""
    worker = _Worker("io", name="io-test", concurrency=8, environment=default_worker_env, folder=tmp_path)
    worker.start()
    return worker


@pytest.fixture
def start_worker(default_worker_env: dict[str, str], celery_setup_app: Celery, tmp_path: Path) -> Iterator[StartWorker]:
    """`start_worker("io" | "cpu" | "webhooks", name="io-2", concurrency=8)` starts one more worker of the stack."""
    with ExitStack() as nodes:

        def start(queue: str, *, name: str | None = None, concurrency: int | None = None) -> WorkerNode:
            container = _Worker(
                queue,
                name=name or f"{queue}-test",
                concurrency=concurrency or {"io": 8, "cpu": 2, "webhooks": 8}[queue],
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
def start_scheduler(default_worker_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], SchedulerNode]]:
    """`start_scheduler()` starts a scheduler of the stack."""
    with ExitStack() as nodes:
        number = itertools.count(1)

        def start() -> SchedulerNode:
            folder = tmp_path / f"scheduler-{next(number)}"
            folder.mkdir()
            container = _Scheduler(environment=default_worker_env, folder=folder)
            nodes.callback(container.teardown)
            container.start()
            return SchedulerNode(container)

        yield start


@pytest.fixture
def scheduler(start_scheduler: Callable[[], SchedulerNode]) -> SchedulerNode:
    """The scheduler of the stack: it releases the jobs and sweeps."""
    return start_scheduler()


@pytest.fixture
def receiver() -> Iterator[HttpServer]:
    """A receiver of webhooks, on loopback."""
    with serving() as server:
        yield server


@pytest.fixture
def secret(store: Store) -> str:
    """The client's webhook secret."""
    return make_secret(store)
