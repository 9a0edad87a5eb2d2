"""SIGTERM: what ends within the grace ends, the rest runs elsewhere; nothing can hold a process back."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.books import Books
from benchmarks.chaos.load import Load
from benchmarks.chaos.stack import GRACE_SECONDS, Stack, running
from benchmarks.chaos.trial import await_end
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.database.connection import Database

StartWorker = Callable[..., WorkerNode]
SLACK_SECONDS = 5


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """A grace that a test can wait for."""
    return {**default_worker_env, "TIDEGATE_GRACE_SECONDS": "1"}


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url)
    yield web
    web.close()


def test_a_thread_that_ignores_its_end_can_not_hold_the_worker_back(
    face: Web, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    leaving = start_worker("io")
    job_id = face.accepted("ignores_stop_io", b'{"seconds": 60}')
    wait_until(lambda: face.row(job_id).state == "running", description="it runs")

    asked_at = time.monotonic()
    leaving.kill(signal.SIGTERM)
    wait_until(lambda: leaving.container.status == "exited", description="it is gone", timeout_seconds=15)

    assert time.monotonic() - asked_at < 1 + SLACK_SECONDS
    row = face.row(job_id)
    assert (row.state, row.lease_until, row.losses) == ("queued", None, 0)


def test_the_scheduler_stops_at_once(scheduler: SchedulerNode) -> None:
    asked_at = time.monotonic()
    scheduler.kill(signal.SIGTERM)
    wait_until(lambda: scheduler.container.status == "exited", description="it is gone")
    assert time.monotonic() - asked_at < 1 + SLACK_SECONDS
    assert "scheduler stops" in scheduler.logs()


def test_a_rolling_restart_under_load_loses_nothing_and_delays_nothing_beyond_the_grace(tmp_path: Path) -> None:
    """Web, both schedulers and every worker, one after the other; each gets SIGTERM and is started again."""
    with running(tmp_path / "stack", "sqlite") as stack:
        load = Load(stack.port, seed=1, per_second=15)
        load.start()
        longest_absence = 0.0
        for name, member in stack.members.items():
            if member.server is None:
                asked_at = time.monotonic()
                assert member.process.stop(timeout_seconds=GRACE_SECONDS + 10) in {0, -signal.SIGKILL}, name
                member.start()
                await_begun(stack, name)
                longest_absence = max(longest_absence, time.monotonic() - asked_at)
        load.stop()
        database = Database(stack.database_url)
        try:
            await_end(database)
            books = Books(database, stack, load)
        finally:
            database.close()
    assert not any(books.violations().values()), books.violations()
    assert {job.losses for job in books.jobs.values()} == {0}
    # There is one cpu worker: its jobs wait until it is there again, which takes long on a busy machine.
    longest = longest_absence + GRACE_SECONDS + SLACK_SECONDS
    # On a busy machine an operation may overrun its own timeout, and is tried again: that is no restart's doing.
    overran = {job_id for job_id, made in books.attempts.items() if any(each.outcome == "error" for each in made)}
    late = {
        job.id: books.story(job.id)
        for job in books.jobs.values()
        if (job.finished_at - job.created_at).total_seconds() > longest and job.id not in overran
    }
    assert len(overran) < len(books.jobs) / 10, "else the rest says little"
    assert not late, late


def await_begun(stack: Stack, name: str) -> None:
    """Waits until a restarted process does its work."""
    words = {"io": "ready.", "cpu": "ready.", "scheduler": "scheduler of ", "web": "Started worker"}
    stack.members[name].process.wait_for_log(words[name.partition("-")[0]], timeout_seconds=60)
