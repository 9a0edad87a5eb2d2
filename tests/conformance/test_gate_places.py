"""Places: how many jobs of a lane and of a queue may be out, and when a place is free again."""

from datetime import timedelta

import pytest
from sqlalchemy import delete

from tests.support.jobs import (
    LANE,
    WORKER,
    change_attempts,
    change_job,
    claim,
    know_call_seconds,
    open_lane,
    pass_deadline,
    release,
    release_one,
    row_of,
    submit,
    time_at,
)
from tidegate.database.schema import samples
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.room import MOST_RELEASED, room_in
from tidegate.maintenance.sweep import sweep
from tidegate.notify.messages import Wakeup
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def test_no_more_are_out_than_the_concurrency(store: Store) -> None:
    open_lane(store, concurrency=2)
    for _ in range(5):
        submit(store)
    first, second = release(store)
    assert release(store) == []

    claimed = claim(store, first)
    assert claimed is not None
    assert release(store) == [], "a claim frees no place"
    store.workers.succeed(claimed, RESULT, call_seconds=0.1)

    assert len(release(store)) == 1
    assert claim(store, second) is not None


@pytest.mark.parametrize("end", ["expired", "cancelled", "rescued"])
def test_the_end_of_a_job_does_not_free_the_place_of_its_call(store: Store, end: str) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed is not None
    submit(store)
    if end == "rescued":
        change_job(store, claimed.job_id, lease_until=database_now(-timedelta(seconds=1)))
        store.upkeep.rescue(10, until=time_at(store))
    else:
        pass_deadline(store, claimed.job_id)
        store.upkeep.expire(10)

    assert release(store) == []

    store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    assert len(release(store)) == 1, "the late result says that the call has ended"


def test_a_place_whose_time_is_long_over_is_given_away(store: Store) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed is not None
    submit(store)

    change_attempts(store, claimed.job_id, place_until=database_now(-timedelta(seconds=1)))
    assert release(store) == [], "a clock alone says nothing"

    sweep(store.upkeep, retention=timedelta(days=1))

    assert len(release(store)) == 1


def test_an_unclaimed_release_holds_its_place_until_it_is_taken_back(store: Store) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    released = release_one(store)
    change_attempts(store, released.job_id, place_until=database_now(-timedelta(seconds=1)))
    submit(store)

    assert release(store) == []

    store.lanes.take_back([released])
    assert [job.job_id for job in release(store)] == [released.job_id]


def test_without_a_worker_nothing_goes(store: Store) -> None:
    open_lane(store)
    submit(store)
    store.heartbeats.remove(WORKER)
    store.heartbeats.beat("of the other queue", queue="cpu", size=8, until=timedelta(minutes=1))

    assert release(store) == []


def test_room_for_what_is_not_a_job_takes_none_from_jobs(store: Store) -> None:
    """The queue of webhooks has workers, too."""
    open_lane(store)
    store.heartbeats.beat("of webhooks", queue="webhooks", size=8, until=timedelta(minutes=1))
    job = submit(store)

    assert [each.job_id for each in release(store)] == [job]
    (state,) = store.lanes.read(LANE)
    assert room_in(state).by_queue == {"io": 2 * 8 - 1}


def test_at_most_twice_as_many_are_out_as_the_workers_can_run(store: Store) -> None:
    open_lane(store, size=3)
    for _ in range(20):
        submit(store)

    assert len(release(store)) == 6
    assert release(store) == []


@pytest.mark.parametrize("other", [False, True], ids=["alone", "another lane waits"])
def test_the_places_of_a_dead_worker_take_nothing_from_its_queue(store: Store, other: bool) -> None:
    """They are held until their attempts' time is over, which may be minutes; new workers must have work meanwhile."""
    open_lane(store, size=3)
    for _ in range(12):
        submit(store)
    lost = release(store)
    for job in lost:
        claim(store, job)
    store.heartbeats.beat(WORKER, queue="io", size=3, until=-timedelta(seconds=1))
    if other:
        open_lane(store, "other")
        submit(store, lane="other")
        store.heartbeats.beat(WORKER, queue="io", size=3, until=-timedelta(seconds=1))
    assert release(store) == []

    store.heartbeats.beat("worker-2", queue="io", size=3, until=timedelta(minutes=1))

    assert len(release(store)) == (4 if other else 6)


def test_a_release_is_bounded_and_the_rest_follows_at_once(store: Store) -> None:
    open_lane(store, size=1000)
    for _ in range(MOST_RELEASED + 1):
        submit(store)

    turn = Gate(store.lanes).run_once()

    assert (len(turn.released), turn.look_again_seconds) == (MOST_RELEASED, 0.0)
    assert len(release(store)) == 1


def test_a_lane_takes_at_most_half_of_a_queue_that_another_waits_for(store: Store) -> None:
    open_lane(store, "greedy", size=4)
    open_lane(store, "modest", size=4)
    for _ in range(20):
        submit(store, lane="greedy")
    submit(store, lane="modest")

    released = [row_of(store, job.job_id).downstream for job in release(store)]

    assert sorted(released) == ["greedy"] * 4 + ["modest"]


def test_a_lane_that_is_alone_gets_the_whole_queue(store: Store) -> None:
    open_lane(store, "greedy", size=4)
    open_lane(store, "idle", size=4)
    for _ in range(20):
        submit(store, lane="greedy")

    assert len(release(store)) == 8


@pytest.mark.parametrize(
    ("slow_seconds", "goes"), [(None, 8 - 1), (30.0, 8 - 1), (0.5, 2 * 8)], ids=["not known yet", "slow", "quick"]
)
def test_a_lane_of_slow_calls_leaves_a_thread_for_the_next_slot_of_a_paced_one(
    store: Store, slow_seconds: float | None, goes: int
) -> None:
    """Whose slot, three seconds away, comes before a call that begins now has ended."""
    gate = held_by_its_rate(store, rates=("20/m",))
    open_lane(store, "slow", size=8)
    if slow_seconds is None:
        store.database.execute(delete(samples))
    else:
        know_call_seconds(store, slow_seconds, "slow")
    for _ in range(40):
        submit(store, lane="slow")

    slow = gate.run_once(Wakeup(lanes={"slow"})).released

    assert len(slow) == goes
    assert gate.run_once(Wakeup(lanes={"slow"})).released == []


def test_no_thread_is_kept_for_a_slot_that_is_hours_away(store: Store) -> None:
    gate = held_by_its_rate(store, rates=("1/h",))
    open_lane(store, "slow", size=8)
    for _ in range(40):
        submit(store, lane="slow")

    assert len(gate.run_once(Wakeup(lanes={"slow"})).released) == 2 * 8


def test_no_thread_is_kept_for_a_paced_lane_that_has_its_share_of_the_queue(store: Store) -> None:
    """Of two lanes a half each."""
    gate = held_by_its_rate(store, rates=("80/m",), burst=4, out=4)
    open_lane(store, "slow", size=8)
    for _ in range(40):
        submit(store, lane="slow")

    assert len(gate.run_once(Wakeup(lanes={"slow"})).released) == 2 * 8 - 4


def test_a_lane_that_has_less_than_its_share_is_kept_from_nothing_for_others(store: Store) -> None:
    """Else many paced lanes of slow calls would leave half of the workers idle."""
    names = [f"paced-{number}" for number in range(16)]
    for name in names:
        open_lane(store, name, rates=("20/m",), size=8)
        submit(store, lane=name)
        submit(store, lane=name)

    assert len(Gate(store.lanes).run_once().released) == 16


def held_by_its_rate(store: Store, *, rates: tuple[str, ...], burst: int = 1, out: int = 0) -> Gate:
    """A gate that knows of a lane whose rate holds its next job; so many of its calls are still out."""
    open_lane(store, rates=rates, burst=burst, size=8)
    gate = Gate(store.lanes)
    for _ in range(burst + 1):
        submit(store)
    released = gate.run_once().released
    assert len(released) == burst
    for job in released[out:]:
        claimed = claim(store, job)
        assert claimed
        assert store.workers.succeed(claimed, RESULT, call_seconds=None)
    return gate
