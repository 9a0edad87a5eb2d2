"""SIGTERM: what ends within the grace ends, the rest runs elsewhere; nothing can hold a process back."""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.chaos.books import Books
from benchmarks.chaos.load import Load
from benchmarks.chaos.stack import GRACE_SECONDS, Stack, running
from benchmarks.chaos.trial import await_end
from benchmarks.commands import python_process, worker_arguments
from tasks.worker.retirement import RETIRE
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.processes import ChildProcess
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
        longest_absence = restart_each(stack)
        load.stop()
        books = closed_books(stack, load)
    assert_undisturbed(books, longest_absence)


def test_a_rolling_restart_while_workers_come_and_go_loses_nothing_and_delays_nothing_beyond_the_grace(
    tmp_path: Path,
) -> None:
    """As before, and beside it more workers of each queue start and retire, as the embedded default's do."""
    with running(tmp_path / "stack", "sqlite") as stack:
        load = Load(stack.port, seed=2, per_second=15)
        load.start()
        restarted = threading.Event()
        settings = stack.settings(stack.broker.url, stack.database_url)
        commands = {
            "io-4": worker_arguments("tasks.app", "io-4", "io"),
            "cpu-2": worker_arguments("tasks.app", "cpu-2", "cpu", pool="prefork", size=2),
        }
        guests = [python_process(tmp_path, name, command, settings) for name, command in commands.items()]
        with ThreadPoolExecutor() as pool:
            visits = [pool.submit(come_and_go, guest, restarted) for guest in guests]
            try:
                longest_absence = restart_each(stack)
            finally:
                restarted.set()
            numbers = [visit.result() for visit in visits]
        load.stop()
        books = closed_books(stack, load)
    assert min(numbers) >= 2, "else they were not there much"
    assert_undisturbed(books, longest_absence)


def come_and_go(worker: ChildProcess, is_over: threading.Event) -> int:
    """Starts the worker and lets it retire, again and again; returns how often."""
    for number in itertools.count():
        if is_over.is_set():
            return number
        worker.start()
        try:
            worker.wait_for_log("ready.", timeout_seconds=60)
            is_over.wait(2)
            worker.kill(RETIRE)
            wait_until(lambda: not worker.is_running, description="it has retired", timeout_seconds=30)
            assert worker.exit_code == 0
        finally:
            worker.kill()
    raise AssertionError("it never ends")


def restart_each(stack: Stack) -> float:
    """Every process but the servers, one after the other, by SIGTERM; returns for how many seconds one was away."""
    longest_absence = 0.0
    for name, member in stack.members.items():
        if member.server is None:
            asked_at = time.monotonic()
            assert member.process.stop(timeout_seconds=GRACE_SECONDS + 10) in {0, -signal.SIGKILL}, name
            member.start()
            await_begun(stack, name)
            longest_absence = max(longest_absence, time.monotonic() - asked_at)
    return longest_absence


def closed_books(stack: Stack, load: Load) -> Books:
    """What was kept and what was not, when all jobs have ended."""
    database = Database(stack.database_url)
    try:
        await_end(database)
        return Books(database, stack, load)
    finally:
        database.close()


def assert_undisturbed(books: Books, longest_absence: float) -> None:
    """Every promise was kept, nothing was lost, and nothing waited for longer than a process was away."""
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
