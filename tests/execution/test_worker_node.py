"""The worker nodes that the other integration tests stand on are real workers that can be killed."""

import time
from pathlib import Path

import pytest
from pytest_celery import CeleryTestSetup

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.waiting import wait_until
from tidegate.stores import Store

pytestmark = pytest.mark.long  # workers are frozen and killed until they are missed


def answering(setup: CeleryTestSetup) -> set[str]:
    """The names of the workers that answer now."""
    return {name for answer in setup.app.control.ping(timeout=0.5) for name in answer}


def test_a_worker_answers_is_killed_and_answers_again(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker
    assert celery_setup.ready(control=True)
    assert answering(celery_setup) == {worker.hostname()} == {"io-test@tidegate"}

    worker.kill()
    assert worker.container.status == "exited"
    assert answering(celery_setup) == set()

    worker.restart()
    wait_until(lambda: answering(celery_setup) == {"io-test@tidegate"}, description="the restarted worker answers")
    assert worker.logs().count("ready.") == 2


def test_a_frozen_worker_is_silent_until_it_is_thawed(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker
    worker.freeze()
    assert answering(celery_setup) == set()

    worker.thaw()
    wait_until(lambda: answering(celery_setup), description="the thawed worker answers")


def test_a_worker_and_a_scheduler_have_a_pulse_until_they_are_frozen(
    celery_setup: CeleryTestSetup, scheduler: SchedulerNode, tmp_path: Path
) -> None:
    nodes = {"io-test": celery_setup.worker, "scheduler": scheduler}
    for name, node in nodes.items():
        pulse = tmp_path / "data" / "run" / f"{name}.alive"
        wait_until(pulse.exists, description=f"{name} has a pulse")
        first = pulse.stat().st_mtime
        wait_until(lambda: pulse.stat().st_mtime > first, description="it beats again")  # noqa: B023 - called at once

        node.freeze()
        time.sleep(0.1)  # what was under way
        last = pulse.stat().st_mtime
        time.sleep(5)
        assert pulse.stat().st_mtime == last
        node.thaw()
        wait_until(lambda: pulse.stat().st_mtime > last, description="it beats again")  # noqa: B023 - called at once


def test_a_worker_without_its_broker_has_no_places(celery_setup: CeleryTestSetup, store: Store) -> None:
    """Nothing is released for one that hears nothing; when it hears again, it says so at once."""
    wait_until(lambda: store.heartbeats.sizes() == {"io": 8}, description="it has places")

    celery_setup.broker.kill()
    wait_until(lambda: store.heartbeats.sizes() == {"io": 0}, description="it has none", timeout_seconds=5)
    celery_setup.broker.restart()

    wait_until(lambda: store.heartbeats.sizes() == {"io": 8}, description="it has its places again", timeout_seconds=15)


def test_a_worker_outlives_the_loss_of_its_broker(celery_setup: CeleryTestSetup) -> None:
    celery_setup.broker.kill()
    celery_setup.broker.restart()

    wait_until(lambda: answering(celery_setup), description="the worker is connected again", timeout_seconds=30)
    assert celery_setup.worker.container.status == "running"


def test_the_cpu_worker_stands_beside_the_io_worker(celery_setup: CeleryTestSetup, cpu_worker: WorkerNode) -> None:
    names = {"io-test@tidegate", "cpu-test@tidegate"}
    wait_until(lambda: answering(celery_setup) == names, description="both workers answer")
    queues = celery_setup.app.control.inspect(timeout=1).active_queues()
    assert {name: [queue["name"] for queue in each] for name, each in queues.items()} == {
        "io-test@tidegate": ["io"],
        "cpu-test@tidegate": ["cpu"],
    }
