"""A worker that retires: SIGUSR2, and it ends when what it has is done."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.stores import Store

pytestmark = pytest.mark.long  # calls are open for longer than the grace

StartWorker = Callable[..., WorkerNode]


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """A grace that is shorter than the calls."""
    return {**default_worker_env, "TIDEGATE_GRACE_SECONDS": "0"}


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


def await_end(worker: WorkerNode) -> None:
    """Waits until the worker has ended."""
    wait_until(lambda: worker.container.status == "exited", description="it is gone", timeout_seconds=20)


@pytest.mark.parametrize("queue", ["io", "cpu"])
def test_it_ends_its_calls_however_long_and_takes_no_more(
    face: Web, scheduler: SchedulerNode, store: Store, start_worker: StartWorker, queue: str
) -> None:
    operation = f"sleepy_{queue}"
    leaving = start_worker(queue)
    long = face.accepted(operation, b'{"seconds": 4}')
    wait_until(lambda: face.row(long).state == "running", description="it runs")

    leaving.kill(signal.SIGUSR2)
    wait_until(lambda: store.heartbeats.sizes() == {queue: 0}, description="it has no places any more")
    waiting = face.accepted(operation, b'{"seconds": 0}')
    assert face.row(long).state == "running"
    await_end(leaving)

    assert (face.row(long).state, face.row(long).attempt, face.row(long).losses) == ("succeeded", 1, 0)
    assert (face.row(waiting).state, face.row(waiting).attempt) == ("queued", 0)
    assert store.heartbeats.sizes() == {}
    start_worker(queue, name=f"{queue}-next")
    wait_until(lambda: face.row(waiting).state == "succeeded", description="the next one takes it")
    assert (face.row(waiting).attempt, face.row(waiting).losses) == (1, 0)


def test_a_sigterm_while_it_retires_is_bounded_by_the_grace(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    leaving = start_worker("io")
    job_id = face.accepted("sleepy_io", b'{"seconds": 60}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")

    leaving.kill(signal.SIGUSR2)
    leaving.kill(signal.SIGUSR2)  # again says nothing new
    wait_until(lambda: "takes no more work" in leaving.logs(), description="it retires")
    leaving.kill(signal.SIGTERM)
    await_end(leaving)
    assert (face.row(job_id).state, face.row(job_id).losses) == ("queued", 0)
    assert leaving.logs().count("takes no more work") == 1


def test_it_takes_nothing_after_its_broker_was_away_either(
    face: Web, scheduler: SchedulerNode, store: Store, broker: Valkey, start_worker: StartWorker
) -> None:
    leaving = start_worker("io")
    long = face.accepted("sleepy_io", b'{"seconds": 8}')
    wait_until(lambda: face.row(long).state == "running", description="it runs")

    broker.process.kill()
    wait_until(lambda: "the broker is away" in leaving.logs(), description="it has noticed")
    leaving.kill(signal.SIGUSR2)
    broker.start()
    wait_until(lambda: leaving.logs().count("Connected to") > 1, description="it is connected again")
    waiting = face.accepted("sleepy_io", b'{"seconds": 0}')
    await_end(leaving)
    assert (face.row(long).state, face.row(waiting).state) == ("succeeded", "queued")
    assert face.row(waiting).attempt == 0
