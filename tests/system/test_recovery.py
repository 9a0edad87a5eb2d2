"""How soon jobs run again after something died. Times are wide: other tests use the same machine."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate import clock
from tidegate.database.schema import attempts

StartWorker = Callable[..., WorkerNode]
# What a busy machine may add to each time.
SLACK = timedelta(seconds=3)
# Longer than any pause between two tries to connect would have grown by then, had it no bound.
OUTAGE_SECONDS = 10


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


def attempts_of(face: Web, job_id: str) -> list[Any]:
    """Its attempts' rows, first to last."""
    statement = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)
    return list(face.database.fetch_all(statement))


def await_states(face: Web, job_ids: list[str], state: str, *, timeout_seconds: float = 30) -> None:
    """Waits until all of them are in this state."""
    wait_until(
        lambda: {face.row(job_id).state for job_id in job_ids} == {state},
        description=f"all are {state}",
        timeout_seconds=timeout_seconds,
    )


def test_what_a_killed_worker_ran_runs_again_within_the_lease_and_two_seconds(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker, lease_seconds: int
) -> None:
    doomed = start_worker("io", name="io-doomed", concurrency=4)
    interrupted = [face.accepted("sleepy_io", b'{"seconds": 12}') for _ in range(4)]
    await_states(face, interrupted, "running")
    start_worker("io", name="io-2", concurrency=8)

    killed_at = clock.now()
    doomed.kill()
    await_states(face, interrupted, "succeeded")

    for job_id in interrupted:
        last = attempts_of(face, job_id)[-1]
        assert last.claimed_at - killed_at < timedelta(seconds=lease_seconds + 2) + SLACK
        assert face.row(job_id).losses == 1
        assert last.outcome == "succeeded"


def test_what_was_accepted_during_a_long_outage_of_the_broker_starts_within_two_seconds_of_its_return(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker, broker: Valkey
) -> None:
    start_worker("io")
    start_worker("cpu")
    before = [face.accepted(), face.accepted("sleepy_cpu", b'{"seconds": 0}')]
    await_states(face, before, "succeeded")
    broker.kill()
    # Of the first the scheduler can't know whether it was sent; the sweep takes it back meanwhile.
    face.accepted()
    time.sleep(OUTAGE_SECONDS)
    waiting = [face.accepted() for _ in range(5)] + [face.accepted("sleepy_cpu", b'{"seconds": 0}')]

    broker.start()
    back_at = clock.now()
    await_states(face, waiting, "succeeded")

    for job_id in waiting:
        assert face.row(job_id).started_at - back_at < timedelta(seconds=2) + SLACK
        assert attempts_of(face, job_id)[-1].outcome == "succeeded"


def test_a_job_that_kills_its_io_worker_fails_after_three_losses_and_its_neighbours_succeed(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    """After its first loss it goes to a child process, where it can hurt nobody but itself."""
    start_worker("cpu")
    worker = start_worker("io")
    neighbours = [face.accepted("sleepy_io", b'{"seconds": 1}') for _ in range(4)]
    await_states(face, neighbours, "running")

    poison = face.accepted("kills_its_process_io", b"null")
    wait_until(lambda: worker.container.status == "exited", description="the worker is dead")
    worker.restart()

    await_states(face, [poison], "failed")
    await_states(face, neighbours, "succeeded")
    assert face.row(poison).losses == 3
    assert face.read(poison).get_json()["error"]["code"] == "attempts_exhausted"
    assert {face.row(job_id).losses for job_id in neighbours} == {1}
    # The io worker was killed once and no more.
    assert worker.container.status == "running"


def test_without_a_cpu_worker_too_the_neighbours_of_such_a_job_succeed(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    """On its last life it is let go only while no other such job runs, and dies alone."""
    worker = start_worker("io")
    neighbours = [face.accepted("sleepy_io", b'{"seconds": 1}') for _ in range(4)]
    await_states(face, neighbours, "running")
    poison = face.accepted("kills_its_process_io", b"null")

    def is_over() -> bool:
        if worker.container.status == "exited":
            worker.restart()
        return {face.row(job_id).state for job_id in [poison, *neighbours]} <= {"succeeded", "failed"}

    wait_until(is_over, description="all have ended", timeout_seconds=120)
    assert (face.row(poison).state, face.row(poison).losses) == ("failed", 3)
    assert {face.row(job_id).state for job_id in neighbours} == {"succeeded"}
