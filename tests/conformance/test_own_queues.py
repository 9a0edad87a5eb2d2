"""Queues of one's own: the gate releases their jobs by the workers that live, whatever it knows of the queue itself."""

from datetime import timedelta

import pytest

from tests.support.jobs import (
    LANE,
    change_job,
    claim,
    lose_lease,
    open_lane,
    release,
    release_one,
    row_of,
    running,
    submit,
    submit_many,
    time_at,
)
from tidegate.dispatch.gate import Gate
from tidegate.jobs.job import MAX_LOSSES
from tidegate.notify.messages import Wakeup
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def workers_of(store: Store, queue: str, *, size: int = 8) -> None:
    store.heartbeats.beat(f"worker-of-{queue}", queue=queue, size=size, until=timedelta(minutes=5))


def test_a_job_of_such_a_queue_runs_from_release_to_result(store: Store) -> None:
    open_lane(store, queue="gpu")
    job_id = submit(store, queue="gpu")

    released = release_one(store)
    claimed = claim(store, released, worker="worker-of-gpu")

    assert released.queue == "gpu"
    assert claimed is not None
    assert not claimed.may_be_followed, "followers are of io alone"
    assert store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    assert (row_of(store, job_id).state, row_of(store, job_id).queue) == ("succeeded", "gpu")


def test_it_waits_for_a_worker_of_its_own(store: Store) -> None:
    open_lane(store)  # which has a worker of io
    job_id = submit(store, queue="gpu")
    assert release(store) == []

    workers_of(store, "gpu")

    assert release_one(store).job_id == job_id


def test_at_most_twice_as_many_are_out_as_its_workers_can_run(store: Store) -> None:
    open_lane(store, queue="gpu", size=1)
    submit_many(store, 5, queue="gpu")

    assert len(release(store)) == 2
    assert release(store) == []


def test_a_lane_whose_jobs_are_in_several_queues_fills_the_places_of_each(store: Store) -> None:
    """The first jobs that are read are of one queue, which is full then; those of the others stand behind."""
    open_lane(store)
    workers_of(store, "gpu", size=1)
    submit_many(store, 30, queue="gpu")
    submit_many(store, 10, queue="of-nobody")
    submit_many(store, 3, queue="io")

    gate = Gate(store.lanes)
    first, second, third = gate.run_once(), gate.run_once(), gate.run_once()

    assert [[job.queue for job in each.released] for each in (first, second, third)] == [["gpu"] * 2, ["io"] * 3, []]
    assert first.look_again_seconds == 0.0, "at once, for the others have room"
    assert third.look_again_seconds > 0.5


@pytest.mark.parametrize("queue", ["gpu", "cpu"])
def test_a_place_that_comes_free_in_a_full_queue_is_given_away_at_once(store: Store, queue: str) -> None:
    """Also where another queue has places, and none of its jobs waits."""
    open_lane(store)
    workers_of(store, queue, size=1)
    submit_many(store, 20, queue=queue)
    gate = Gate(store.lanes)
    first, _ = gate.run_once().released
    gate.run_once()
    claimed = claim(store, first, worker=f"worker-of-{queue}")
    assert claimed is not None
    assert store.workers.succeed(claimed, RESULT, call_seconds=0.1)

    assert len(gate.run_once(Wakeup(lanes=frozenset(), freed=True)).released) == 1


def test_the_concurrency_of_a_downstream_counts_over_all_queues(store: Store) -> None:
    open_lane(store, concurrency=3)
    workers_of(store, "gpu")
    for queue in ("gpu", "io", "gpu", "io"):
        submit(store, queue=queue)

    assert [job.queue for job in release(store)] == ["gpu", "io", "gpu"]
    assert release(store) == []


def test_no_job_of_an_operation_that_no_worker_runs_is_read_again(store: Store) -> None:
    open_lane(store, queue="gpu")
    submit(store, operation="gone", queue="gpu")
    wanted = submit(store, queue="gpu")

    for queues in (None, ["gpu"], ["io", "gpu"]):
        (state,) = store.lanes.read(LANE, queues=queues, without={"gone"})
        assert [job.id.replace("-", "") for job in state.waiting] == [wanted.replace("-", "")]
    (state,) = store.lanes.read(LANE, queues=["io"], without={"gone"})
    assert state.waiting == []


@pytest.mark.parametrize(("queue", "next_queue"), [("gpu", "gpu"), ("io", "cpu"), ("cpu", "cpu")])
def test_a_job_whose_process_died_stays_where_only_its_workers_have_what_it_needs(
    store: Store, queue: str, next_queue: str
) -> None:
    open_lane(store, queue=queue)
    workers_of(store, "cpu")
    claimed = running(store, queue=queue)
    lose_lease(store, claimed.job_id)

    store.upkeep.rescue(10, until=time_at(store))

    assert (row_of(store, claimed.job_id).losses, row_of(store, claimed.job_id).queue) == (1, next_queue)


def test_jobs_on_their_last_life_go_one_by_one(store: Store) -> None:
    """Whether each has a process of its own the gate does not know."""
    open_lane(store, queue="gpu")
    for _ in range(2):
        change_job(store, submit(store, queue="gpu"), losses=MAX_LOSSES - 1)

    release_one(store)
    assert release(store) == []
