"""The door while Valkey refuses, while it is frozen, and while no worker lives: 202, and 504 at the deadline."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate import clock

StartWorker = Callable[..., WorkerNode]
SUBMITS = 20


def nothing(_broker: Valkey) -> None:
    """Nothing is wrong with the broker: only, no worker lives."""


FAULTS = pytest.mark.parametrize(
    "fault", [Valkey.kill, Valkey.freeze, nothing], ids=["broker refuses", "broker is frozen", "no worker lives"]
)


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()
    broker.thaw()


@FAULTS
def test_submits_are_accepted_and_ready_says_that_nothing_is_dispatched(
    face: Web, broker: Valkey, fault: Callable[[Valkey], None]
) -> None:
    fault(broker)
    began = time.monotonic()
    accepted = {face.accepted() for _ in range(SUBMITS)}
    # Far from tight: one look at a broker that does not answer would cost half a second each time.
    assert time.monotonic() - began < 0.25 * SUBMITS
    assert face.count() == len(accepted) == SUBMITS
    ready = face.client.get("/health/ready")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "accepting, not dispatching")


@FAULTS
def test_a_poll_answers_504_from_the_deadline_on_and_not_before(
    face: Web, broker: Valkey, fault: Callable[[Valkey], None]
) -> None:
    fault(broker)
    job_id = face.accepted(Job_Timeout="1")
    deadline = datetime.fromisoformat(face.read(job_id).get_json()["deadline"])
    asked_at, answer = clock.now(), face.read(job_id)
    while answer.status_code == 202:
        assert asked_at <= deadline + timedelta(milliseconds=1), "the document tells whole milliseconds"
        asked_at, answer = clock.now(), face.read(job_id)
    assert answer.status_code == 504
    assert clock.now() >= deadline
    assert face.row(job_id).state == "expired"


@pytest.mark.parametrize("fault", [Valkey.kill, Valkey.freeze], ids=["broker refuses", "broker is frozen"])
def test_the_scheduler_ends_what_is_late_although_nobody_asks(
    face: Web, scheduler: SchedulerNode, broker: Valkey, fault: Callable[[Valkey], None]
) -> None:
    fault(broker)
    expiring = [face.accepted(Job_Timeout="1") for _ in range(3)]
    wait_until(
        lambda: {face.row(job_id).state for job_id in expiring} == {"expired"},
        description="the sweep went on without a broker",
    )


def test_jobs_run_when_a_frozen_broker_goes_on(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker, broker: Valkey
) -> None:
    start_worker("io")
    broker.freeze()
    waiting = [face.accepted() for _ in range(5)]
    time.sleep(3)  # long enough for every time-out there is
    broker.thaw()
    wait_until(
        lambda: {face.row(job_id).state for job_id in waiting} == {"succeeded"},
        description="they ran",
        timeout_seconds=15,
    )
    assert {face.row(job_id).attempt for job_id in waiting} == {1}
