"""A broker that dies while a worker has messages that it has not begun."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web

pytestmark = pytest.mark.long  # brokers are killed, and their workers find them again


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the worker."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


def test_a_worker_with_prefetched_messages_outlives_its_broker(
    face: Web, broker: Valkey, scheduler: SchedulerNode, start_worker: Callable[..., WorkerNode]
) -> None:
    worker = start_worker("io", name="io-1", concurrency=2)
    job_ids = [face.accepted("sleepy_io", b'{"seconds": 1.5}') for _ in range(6)]
    wait_until(
        lambda: [face.row(job_id).state for job_id in job_ids].count("running") == 2,
        description="two run, others lie in the worker",
    )

    broker.kill()
    wait_until(lambda: "broker is away" in worker.logs(), description="the worker has noticed", timeout_seconds=30)
    broker.restart()

    wait_until(
        lambda: {face.row(job_id).state for job_id in job_ids} == {"succeeded"},
        description="all have succeeded",
        timeout_seconds=60,
    )
    assert "Unrecoverable error" not in worker.logs()
