"""What the gate lets go: never more than rate, burst, concurrency, pause and workers allow, whoever looks."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support.jobs import (
    LANE,
    attempts_of,
    call_now,
    change_attempts,
    change_job,
    change_lane,
    claim,
    lane_row,
    open_lane,
    pass_deadline,
    release,
    release_one,
    row_of,
    submit,
    time_at,
)
from tidegate.database.connection import Database
from tidegate.database.schema import attempts
from tidegate.database.time import database_now
from tidegate.dispatch.gate import SLOW_LOOK_SECONDS, UNTOLD_SLOW_SECONDS, Gate
from tidegate.dispatch.plan import HORIZON
from tidegate.jobs.job import Released
from tidegate.stores import Store


def slowly(seconds: float) -> Any:
    """So many seconds, less those that the look itself took."""
    return pytest.approx(seconds, abs=0.1)


def test_a_lane_without_jobs_is_looked_at_slowly(store: Store) -> None:
    open_lane(store)

    turn = Gate(store.lanes).run_once()

    assert turn.released == []
    assert turn.look_again_seconds == slowly(SLOW_LOOK_SECONDS)


def test_a_gate_that_is_not_told_looks_soon_after_a_release_and_then_less_and_less(store: Store) -> None:
    open_lane(store)
    told, gate = True, Gate(store.lanes, lambda: told)
    assert gate.run_once().look_again_seconds == slowly(SLOW_LOOK_SECONDS)
    told = False
    assert gate.run_once().look_again_seconds == slowly(UNTOLD_SLOW_SECONDS)
    submit(store)

    looks = [gate.run_once().look_again_seconds for _ in range(5)]

    assert looks[0] < UNTOLD_SLOW_SECONDS / 2
    assert looks[:3] == sorted(looks[:3])
    assert looks[-1] == slowly(UNTOLD_SLOW_SECONDS)


def test_a_released_job_keeps_its_place_and_its_slot(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)

    released = release_one(store)

    assert (released.job_id, released.fence, released.queue, released.operation) == (job_id, 1, "io", "echo")
    row = row_of(store, job_id)
    assert (row.state, row.fence, row.slot_at, row.attempt) == ("queued", 1, released.slot_at, 0)
    assert row.version == 1, "nobody sees a release"
    (attempt,) = attempts_of(store, job_id)
    assert (attempt.fence, attempt.downstream, attempt.ended_at, attempt.claimed_at) == (1, LANE, None, None)
    assert attempt.place_until > attempt.released_at


def test_a_job_is_released_once(store: Store) -> None:
    open_lane(store)
    submit(store)

    assert len(release(store)) == 1
    assert release(store) == []


def test_the_first_come_are_the_first_to_go(store: Store) -> None:
    open_lane(store, size=100)
    submitted = [submit(store) for _ in range(10)]

    assert [job.job_id for job in release(store)] == submitted


def test_slots_are_an_interval_apart_and_at_most_the_horizon_ahead(store: Store) -> None:
    open_lane(store, rates=("50/s",), size=100)
    for _ in range(20):
        submit(store)

    turn = Gate(store.lanes).run_once()

    slots = [job.slot_at for job in turn.released]
    interval = timedelta(milliseconds=20.4)  # a second and the 20 ms by which a call may be late, divided by 50
    assert len(slots) == HORIZON // interval + 1
    assert {later - slot for slot, later in itertools.pairwise(slots)} == {interval}
    released_at = attempts_of(store, turn.released[0].job_id)[0].released_at
    assert slots[-1] <= released_at + HORIZON
    assert turn.look_again_seconds < 0.1


def test_a_burst_goes_at_once_and_no_more(store: Store) -> None:
    open_lane(store, rates=("9/m",), burst=5, size=100)
    for _ in range(20):
        submit(store)

    released = release(store)

    assert len(released) == 5
    assert len({job.slot_at for job in released}) == 1
    assert release(store) == []


def test_every_rate_of_a_lane_is_kept(store: Store) -> None:
    open_lane(store, rates=("1000/s", "3/d"), burst=100, size=100)
    for _ in range(20):
        submit(store)

    assert len(release(store)) == 3
    assert release(store) == []


@pytest.mark.parametrize("is_operator", [True, False])
def test_a_paused_lane_lets_nothing_go(store: Store, is_operator: bool) -> None:
    open_lane(store)
    submit(store)
    until = {"paused": True} if is_operator else {"paused_until": database_now(timedelta(seconds=30))}
    change_lane(store, **until)

    turn = Gate(store.lanes).run_once()

    assert turn.released == []
    assert turn.look_again_seconds == slowly(SLOW_LOOK_SECONDS)


def test_a_lane_whose_rest_is_over_goes_on(store: Store) -> None:
    open_lane(store)
    submit(store)
    change_lane(store, paused_until=database_now(-timedelta(microseconds=1)))

    assert len(release(store)) == 1


def test_a_retry_goes_when_its_time_has_come_and_the_gate_looks_then(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    change_job(store, job_id, run_at=database_now(timedelta(milliseconds=500)))

    turn = Gate(store.lanes).run_once()

    assert turn.released == []
    assert 0.1 < turn.look_again_seconds <= 0.5
    change_job(store, job_id, run_at=database_now())
    assert len(release(store)) == 1


def test_what_is_past_its_deadline_costs_no_slot(store: Store) -> None:
    open_lane(store, rates=("1/h",))
    dead, alive = submit(store), submit(store)
    pass_deadline(store, dead)

    assert [job.job_id for job in release(store)] == [alive]


def test_a_release_taken_back_can_go_again_but_its_slot_is_spent(store: Store) -> None:
    open_lane(store, rates=("2/h",), burst=2)
    submit(store)
    first = release_one(store)

    store.lanes.take_back([first])

    assert row_of(store, first.job_id).slot_at is None
    assert release_one(store).fence == 2
    assert lane_row(store).released == 2


def test_a_missed_slot_is_replaced_by_a_new_one_and_the_place_goes_with_it(store: Store) -> None:
    open_lane(store, rates=("1000/s",))
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed is not None
    slot = time_at(store) - timedelta(minutes=1)
    times = {"ends_at": slot + timedelta(seconds=10), "place_until": slot + timedelta(seconds=12)}
    change_attempts(store, claimed.job_id, slot_at=slot, claimed_at=slot, **times)

    assert store.slots.reserve(claimed, within=timedelta(seconds=1)).due is not None

    (attempt,) = attempts_of(store, claimed.job_id)
    assert attempt.slot_at > slot + timedelta(minutes=1)
    assert attempt.ends_at - attempt.slot_at == timedelta(seconds=10)
    assert attempt.place_until - attempt.slot_at == timedelta(seconds=12)


def test_new_slots_keep_the_pace(store: Store) -> None:
    open_lane(store, rates=("1/m",))
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed is not None
    call_now(store, spacing=timedelta(minutes=1))

    offer = store.slots.reserve(claimed, within=timedelta(seconds=1))

    assert offer.counts
    assert offer.due is None
    assert 50 < offer.wait_seconds <= 60.02


@pytest.mark.parametrize("why", ["cancelled", "expired", "rescued"])
def test_an_attempt_that_no_longer_counts_gets_no_slot_and_spends_none(store: Store, why: str) -> None:
    open_lane(store, rates=("1/m",), burst=2)
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed is not None
    match why:
        case "cancelled":
            store.callers.cancel(claimed.job_id, "local")
        case "expired":
            pass_deadline(store, claimed.job_id)
        case "rescued":
            change_job(store, claimed.job_id, lease_until=database_now(-timedelta(seconds=1)))
            store.upkeep.rescue(10, until=time_at(store))
    before = lane_row(store).pace

    assert not store.slots.reserve(claimed, within=timedelta(seconds=1)).counts
    assert lane_row(store).pace == before


def test_two_gates_at_once_let_go_no_more_than_one(postgresql_url: str) -> None:
    """A concurrency of 7 and a burst of 10, looked at by four gates with connections of their own."""
    stores = [Store(Database(postgresql_url, pool_size=2)) for _ in range(4)]
    first = stores[0]
    open_lane(first, "narrow", concurrency=7, size=100)
    open_lane(first, "bursty", rates=("20/h",), burst=10, size=100)
    for _ in range(30):
        submit(first, lane="narrow")
        submit(first, lane="bursty")

    def look(store: Store) -> list[Released]:
        return [job for _ in range(10) for job in Gate(store.lanes).run_once().released]

    with ThreadPoolExecutor(len(stores)) as pool:
        released = [job for looked in pool.map(look, stores) for job in looked]

    assert len({job.job_id for job in released}) == len(released), "none went twice"
    counted = select(attempts.c.downstream, func.count()).group_by(attempts.c.downstream)
    assert {name: count for name, count in first.database.fetch_all(counted)} == {"narrow": 7, "bursty": 10}  # noqa: C416 - pairs
    for store in stores:
        store.database.close()


def test_a_lane_that_another_scheduler_holds_is_looked_at_again_soon(postgresql_url: str) -> None:
    store = Store(Database(postgresql_url))
    open_lane(store)
    submit(store)
    with store.database.transaction() as other:
        other.exec_driver_sql("SELECT * FROM downstreams FOR UPDATE")

        turn = Gate(store.lanes).run_once()

    assert turn.released == []
    assert turn.look_again_seconds <= 0.02
    store.database.close()
