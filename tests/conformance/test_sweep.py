"""What no message will put right: each step of the sweep, alone and two sweeps side by side."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.support.jobs import (
    LANE,
    WORKER,
    attempts_of,
    change_attempts,
    change_job,
    claim,
    count_of,
    lose_lease,
    open_lane,
    outcomes_of,
    pass_deadline,
    release_one,
    row_of,
    running,
    submit,
    time_at,
)
from tests.support.statements import asked
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, bodies, jobs, workers
from tidegate.database.time import database_now
from tidegate.maintenance import store as upkeep
from tidegate.maintenance.sweep import MOST_ERASED, MOST_MOVED, ClockWatch, Swept, sweep
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RETENTION = timedelta(days=7)
LEASE = timedelta(seconds=2)
RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)
OVERDUE = database_now(-timedelta(seconds=1))


def swept(store: Store, *, watch: ClockWatch | None = None) -> Swept:
    return sweep(store.upkeep, retention=RETENTION, watch=watch)


def nothing_but(**steps: int) -> Swept:
    return Swept(**{**dict.fromkeys(["expired", "rescued", "unclaimed", "freed", "pruned"], 0), **steps})


def test_a_quiet_database_is_left_alone(store: Store) -> None:
    open_lane(store)
    running(store)
    submit(store)

    assert swept(store) == nothing_but()
    assert not swept(store).is_full


def test_what_is_past_its_deadline_expires_queued_released_and_running(store: Store) -> None:
    open_lane(store)
    run = running(store).job_id
    submit(store)
    released = release_one(store).job_id
    queued, alive = submit(store), submit(store)
    for job_id in (run, released, queued):
        pass_deadline(store, job_id)

    assert swept(store) == nothing_but(expired=3)

    for job_id in (run, released, queued):
        row = row_of(store, job_id)
        assert (row.state, row.lease_until, row.slot_at) == ("expired", None, None)
    assert row_of(store, alive).state == "queued"


def test_a_lease_that_ran_out_is_rescued(store: Store) -> None:
    open_lane(store)
    lost, alive = running(store), running(store)
    lose_lease(store, lost.job_id)

    assert swept(store) == nothing_but(rescued=1)

    row = row_of(store, lost.job_id)
    assert (row.state, row.losses, row.lease_until) == ("queued", 1, None)
    assert row_of(store, alive.job_id).state == "running"


def test_while_nothing_is_believed_nothing_is_rescued_and_no_place_freed(store: Store) -> None:
    open_lane(store)
    lost = running(store)
    lose_lease(store, lost.job_id)
    change_attempts(store, lost.job_id, place_until=OVERDUE)

    assert swept(store, watch=ClockWatch(timedelta(seconds=10))) == nothing_but()
    assert row_of(store, lost.job_id).state == "running"
    assert store.lanes.held() == {LANE: 1}


def test_a_lost_message_is_made_good_when_a_worker_is_free(store: Store) -> None:
    open_lane(store)
    submit(store)
    lost = release_one(store)
    change_attempts(store, lost.job_id, place_until=OVERDUE)

    assert swept(store) == nothing_but(unclaimed=1)

    assert outcomes_of(store, lost.job_id) == ["unclaimed"]
    again = release_one(store)
    assert (again.job_id, again.fence) == (lost.job_id, 2)
    assert claim(store, lost) is None, "the lost message comes after all"
    assert claim(store, again) is not None


@pytest.mark.parametrize("size", [0, 1])
def test_a_message_that_waits_for_a_busy_worker_is_not_sent_twice(store: Store, size: int) -> None:
    open_lane(store, size=8)
    if size:
        running(store)
    submit(store)
    waiting = release_one(store)
    open_lane(store, size=size)
    change_attempts(store, waiting.job_id, place_until=OVERDUE)

    assert swept(store) == nothing_but()

    assert row_of(store, waiting.job_id).slot_at is not None
    (attempt,) = attempts_of(store, waiting.job_id)
    assert attempt.ended_at is None
    assert attempt.place_until > time_at(store), "looked at again later"
    assert claim(store, waiting) is not None


def test_a_dead_worker_is_not_busy(store: Store) -> None:
    open_lane(store, size=8)
    running(store)
    submit(store)
    waiting = release_one(store)
    store.heartbeats.beat(WORKER, queue="io", size=8, until=-timedelta(seconds=1))
    store.heartbeats.beat("worker-2", queue="io", size=1, until=timedelta(minutes=1))
    change_attempts(store, waiting.job_id, place_until=OVERDUE)

    assert swept(store).unclaimed == 1


def test_the_workers_of_another_queue_are_not_free_for_it(store: Store) -> None:
    open_lane(store, size=8)
    submit(store)
    waiting = release_one(store)
    store.heartbeats.remove(WORKER)
    store.heartbeats.beat("cpu", queue="cpu", size=8, until=timedelta(minutes=1))
    change_attempts(store, waiting.job_id, place_until=OVERDUE)

    assert swept(store) == nothing_but()


def test_the_place_of_a_released_job_that_was_cancelled_is_freed(store: Store) -> None:
    open_lane(store, size=8)
    submit(store)
    released = release_one(store)
    store.callers.cancel(released.job_id, "local")
    open_lane(store, size=0)
    change_attempts(store, released.job_id, place_until=OVERDUE)

    assert swept(store) == nothing_but(unclaimed=1)
    assert outcomes_of(store, released.job_id) == ["unclaimed"]
    assert row_of(store, released.job_id).state == "cancelled"


def test_a_place_whose_process_never_said_that_it_ended_is_freed(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    change_attempts(store, claimed.job_id, place_until=OVERDUE)

    assert swept(store) == nothing_but(freed=1)
    assert outcomes_of(store, claimed.job_id) == ["lost"]
    assert row_of(store, claimed.job_id).state == "running", "its lease decides about the job"


def test_a_process_that_ends_after_its_place_was_freed_still_says_how(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    change_attempts(store, claimed.job_id, place_until=OVERDUE)
    swept(store)

    assert store.workers.succeed(claimed, RESULT, call_seconds=1.0)
    assert outcomes_of(store, claimed.job_id) == ["succeeded"]


def test_old_jobs_are_erased_with_all_that_belongs_to_them(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    young, never_ended = running(store), submit(store)
    store.workers.succeed(young, RESULT, call_seconds=0.1)
    for job_id in (claimed.job_id, never_ended):
        change_job(store, job_id, created_at=database_now(-2 * RETENTION))
    change_job(store, claimed.job_id, finished_at=database_now(-RETENTION - timedelta(seconds=1)))

    assert swept(store) == nothing_but(pruned=1)

    assert (count_of(store, jobs), count_of(store, bodies), count_of(store, attempts)) == (2, 3, 1)
    assert row_of(store, young.job_id).state == "succeeded"


@pytest.mark.parametrize(("seconds", "erased"), [(10.0, 9), (0.0, 2)], ids=["in time", "no time is left"])
def test_large_bodies_are_erased_in_transactions_of_so_many_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, erased: int
) -> None:
    """SQLite has one writer, and others want their turn; in the end all are erased whatever their size."""
    monkeypatch.setattr(upkeep, "PRUNE_BYTES", 100_000)
    monkeypatch.setattr(upkeep, "_PRUNE_SECONDS", seconds)
    open_lane(store)
    for size in (40_000, 40_000, 40_000, 300_000, 40_000, 40_000, 10, 10, 10):
        job_id = submit(store, body=Body(content=b"x" * size))
        store.callers.cancel(job_id, None)
        change_job(store, job_id, finished_at=database_now(-RETENTION - timedelta(seconds=9)))
        time.sleep(0.002)  # so that they have ended one after the other
    with asked(store.database) as cost:
        assert store.upkeep.prune(100, retention=RETENTION) == erased
    assert cost.transactions == (4 if erased == 9 else 1)


def test_workers_that_were_long_not_seen_are_forgotten(store: Store) -> None:
    store.heartbeats.beat("old", queue="io", size=8, until=-timedelta(hours=2))
    store.heartbeats.beat("away", queue="io", size=8, until=-timedelta(minutes=2))

    swept(store)

    assert count_of(store, workers) == 1


def test_a_full_step_asks_for_the_next_at_once() -> None:
    assert nothing_but(expired=MOST_MOVED).is_full
    assert nothing_but(pruned=MOST_ERASED).is_full
    assert not nothing_but(expired=MOST_MOVED - 1).is_full
    assert nothing_but(expired=2, freed=3).total == 5


def test_a_step_moves_what_was_asked_for(store: Store) -> None:
    for _ in range(3):
        pass_deadline(store, submit(store))

    assert [store.upkeep.expire(2), store.upkeep.expire(2), store.upkeep.expire(2)] == [2, 1, 0]


def test_two_sweeps_at_once_move_each_row_once(store: Store, database_url: str) -> None:
    open_lane(store, size=50)
    lost = [running(store) for _ in range(10)]
    late = [submit(store) for _ in range(10)]
    for claimed in lost:
        lose_lease(store, claimed.job_id)
    for job_id in late:
        pass_deadline(store, job_id)
    others = [Store(Database(database_url, pool_size=1)) for _ in range(4)]

    with ThreadPoolExecutor(len(others)) as pool:
        done = list(pool.map(swept, others))

    assert sum(each.expired for each in done) == 10
    assert sum(each.rescued for each in done) == 10
    assert {row_of(store, claimed.job_id).losses for claimed in lost} == {1}
    for other in others:
        other.database.close()


def test_a_scheduler_that_starts_lets_the_living_renew_first(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    change_job(store, claimed.job_id, lease_until=database_now(-timedelta(seconds=1)))
    watch = ClockWatch(timedelta(seconds=0.5))

    assert swept(store, watch=watch).rescued == 0
    store.heartbeats.renew("mine", {(claimed.job_id, claimed.fence)}, lease=LEASE)
    time.sleep(0.9)
    assert swept(store, watch=watch).rescued == 0
    change_job(store, claimed.job_id, lease_until=database_now(-timedelta(seconds=2)))
    wait_until(lambda: swept(store, watch=watch).rescued == 1, description="it does not renew any more")
