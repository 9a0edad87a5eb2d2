"""Jobs whose operation no worker runs: renamed, removed, or not there yet during a rolling upgrade."""

import logging

import pytest

from tasks.scheduler.process import tell_of_undeclared
from tests.support.jobs import LANE, LEASE, WORKER, attempts_of, lane_row, open_lane, row_of, submit
from tests.support.web import Web
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.known_operations import KnownOperations
from tidegate.stores import Store


def gate(store: Store, *declared: str) -> Gate:
    """A gate whose process declares these operations."""
    return Gate(store.lanes, known=KnownOperations(store.heartbeats, declared))


def worker(store: Store, name: str, *operations: str, queue: str = "io") -> None:
    """A live worker that runs these operations."""
    store.heartbeats.beat(name, queue=queue, size=10, until=LEASE)
    store.heartbeats.say_operations(name, operations)


def test_no_slot_is_spent_on_an_operation_that_no_worker_runs(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    open_lane(store)
    worker(store, "io-1", "echo")
    store.heartbeats.remove(WORKER)
    jobs = [submit(store, operation="renamed") for _ in range(30)]
    known = submit(store, operation="echo")
    the_gate = gate(store, "renamed", "echo")

    released = [job.job_id for _ in range(3) for job in the_gate.run_once().released]

    assert released == [known], "behind thirty that no worker runs"
    assert [attempts_of(store, job) for job in jobs] == [[]] * 30
    assert lane_row(store).released == 1
    assert caplog.text.count("'renamed', which no worker runs") == 1


@pytest.mark.parametrize("queue", ["io", "cpu"])
def test_a_worker_that_runs_it_gets_it_whatever_the_scheduler_declares(store: Store, queue: str) -> None:
    """As in a rolling upgrade: the scheduler is of the new version, a worker still of the old one, or reversed."""
    open_lane(store)
    store.heartbeats.remove(WORKER)
    worker(store, f"{queue}-1", "old", "echo", queue=queue)
    job_id = submit(store, operation="old", queue=queue)
    assert [job.job_id for job in gate(store, "new").run_once().released] == [job_id]


def test_it_goes_as_soon_as_a_worker_that_runs_it_comes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.dispatch.known_operations._FRESH_SECONDS", 0.0)
    open_lane(store)
    store.heartbeats.remove(WORKER)
    worker(store, "io-1", "echo")
    job_id = submit(store, operation="new")
    the_gate = gate(store, "new")
    assert not the_gate.run_once().released
    worker(store, "io-2", "new")
    assert [job.job_id for job in the_gate.run_once().released] == [job_id]


def test_a_worker_of_another_queue_does_not_count(store: Store) -> None:
    open_lane(store)
    store.heartbeats.remove(WORKER)
    worker(store, "io-1", "echo")
    worker(store, "cpu-1", "new", queue="cpu")
    submit(store, operation="new", queue="io")
    assert not gate(store, "new").run_once().released


def test_a_worker_of_an_earlier_version_runs_what_is_declared(store: Store) -> None:
    open_lane(store)
    store.heartbeats.beat("io-1", queue="io", size=10, until=LEASE)
    known, _ = submit(store, operation="echo"), submit(store, operation="removed")
    assert [job.job_id for job in gate(store, "echo").run_once().released] == [known]


def test_an_operation_that_moved_to_another_downstream_goes_on_in_its_old_lane(store: Store) -> None:
    open_lane(store)
    worker(store, "io-1", "echo")
    job_id = submit(store, operation="echo")
    store.limits.declare([])  # the file has the lane no more
    assert [job.job_id for job in gate(store, "echo").run_once().released] == [job_id]
    assert row_of(store, job_id).downstream == LANE


def test_a_job_is_told_that_no_worker_runs_its_operation(web: Web) -> None:
    web.declare()
    job_id = web.accepted("echo")
    lanes = web.app.extensions["tidegate"].lanes

    def told() -> tuple[str, str | None, bool]:
        lanes.views(fresh=True)
        waiting = web.read(job_id).get_json()["waiting"]
        return waiting["reason"], waiting["estimated_start"], waiting["in_time"]

    assert told()[0] == "pace" or told()[0] == "concurrency"
    for name in ("io-1", "cpu-1"):
        web.store.heartbeats.say_operations(name, ["another"])
    assert told() == ("unknown_operation", None, True)
    web.store.heartbeats.say_operations("io-1", ["echo"])
    assert told()[0] != "unknown_operation"


def test_the_start_says_which_jobs_wait_for_what_is_not_declared(
    web: Web, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    open_lane(store)
    for operation in ("echo", "renamed", "renamed"):
        submit(store, operation=operation)
    with caplog.at_level(logging.WARNING):
        tell_of_undeclared(store, web.app.extensions["tidegate"].registry)
    assert [record.getMessage() for record in caplog.records] == [
        "2 job(s) wait for the operation 'renamed', which is not declared: without a worker that runs it they expire"
    ]
