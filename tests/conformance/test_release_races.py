"""A release holds no lock between what it reads and what it writes: what happens meanwhile undoes it, where it must.

Each race is run between the two, over a connection of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.jobs import (
    LANE,
    attempts_of,
    change_lane,
    claim,
    count_of,
    lane_row,
    open_lane,
    pass_deadline,
    row_of,
    submit,
)
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs
from tidegate.dispatch.gate import BUSY_LOOK_SECONDS, Gate
from tidegate.dispatch.plan import Plan, plan_release
from tidegate.dispatch.release import Written
from tidegate.dispatch.room import MOST_RELEASED
from tidegate.dispatch.store import LaneStore
from tidegate.jobs.job import Released
from tidegate.notify.messages import Wakeup
from tidegate.states import State
from tidegate.stores import Store

_FOR_LANE = Wakeup(lanes={LANE})
# Where two transactions may be open side by side.
POSTGRESQL = pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


@pytest.fixture
def other(database_url: str) -> Iterator[Store]:
    """The same database over connections of its own."""
    database = Database(database_url)
    yield Store(database)
    database.close()


def release(store: Store, meanwhile: Callable[[], object] = lambda: None, *, limit: int = MOST_RELEASED) -> list[str]:
    """The ids that go, when something happens between what is read and what is written."""
    (state,) = store.lanes.read(LANE, limit=limit)
    plan = plan_release(state)
    meanwhile()
    return [job.job_id for written in store.lanes.write(plan) for job in written.released] if plan.released else []


def test_where_nothing_may_go_it_takes_one(store: Store) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    assert release(store)
    submit(store)

    gate = Gate(store.lanes)
    gate._survey_due = float("inf")

    with asked(store.database) as cost:
        assert gate.run_once(_FOR_LANE).released == []

    assert cost.counts == (1, 0), str(cost)


def test_more_than_a_few_all_go(store: Store) -> None:
    open_lane(store, size=100)
    ids = [submit(store) for _ in range(40)]
    gate = Gate(store.lanes)
    gate._survey_due = float("inf")

    assert [job.job_id for job in gate.run_once(_FOR_LANE).released] == ids


def test_another_release_meanwhile_leaves_no_place_too_many(store: Store, other: Store) -> None:
    open_lane(store, concurrency=1)
    first, second = submit(store), submit(store)

    assert release(store, lambda: release(other)) == []

    assert [each.ended_at for each in attempts_of(store, first)] == [None]
    assert attempts_of(store, second) == []


def test_another_release_meanwhile_leaves_no_slot_twice(store: Store, other: Store) -> None:
    open_lane(store, rates=("20/s",))
    first, second = submit(store), submit(store)

    def let_one_go() -> None:
        assert release(other, limit=1) == [first]

    assert release(store, let_one_go) == []
    assert release(store) == [second]

    before, after = (attempts_of(store, job_id)[0].slot_at for job_id in (first, second))
    assert after - before >= timedelta(milliseconds=50)
    assert lane_row(store).released == 2


def test_a_slot_that_a_call_takes_meanwhile_is_nobody_elses(store: Store, other: Store) -> None:
    open_lane(store, rates=("20/s",))
    submit(store)
    (released,) = Gate(store.lanes).run_once().released
    claimed = claim(store, released)
    assert claimed
    waiting = submit(store)

    assert release(store, lambda: other.slots.reserve(claimed, within=timedelta(seconds=1))) == []
    assert release(store) == [waiting]

    (calls,), (released_later,) = attempts_of(store, claimed.job_id), attempts_of(store, waiting)
    assert released_later.slot_at - calls.slot_at >= timedelta(milliseconds=50)


@pytest.mark.parametrize("limits", [{"paused": True}, {"concurrency": 1}], ids=["paused", "fewer places"])
def test_a_limit_that_changes_meanwhile_holds(store: Store, other: Store, limits: dict[str, Any]) -> None:
    open_lane(store, concurrency=5)
    submit(store)
    assert release(store), "a place is taken"
    job_id = submit(store)

    assert release(store, lambda: change_lane(other, **limits)) == []

    assert attempts_of(store, job_id) == []


def test_where_one_ends_meanwhile_there_is_room_for_another_look_at_once(store: Store, other: Store) -> None:
    open_lane(store, concurrency=2)
    ended, waiting = submit(store), submit(store)

    class Meanwhile(LaneStore):
        def write(self, *plans: Plan) -> Sequence[Written]:
            other.callers.cancel(ended, None)
            return super().write(*plans)

    turn = Gate(Meanwhile(store.database)).run_once()

    assert [job.job_id for job in turn.released] == [waiting]
    assert turn.look_again_seconds == 0.0


def test_a_lane_that_another_writes_each_time_is_looked_at_soon_again(store: Store, other: Store) -> None:
    open_lane(store)
    job_id = submit(store)

    class Meanwhile(LaneStore):
        def write(self, *plans: Plan) -> Sequence[Written]:
            change_lane(other, failures=plans[0].state.lane.failures + 1)
            return super().write(*plans)

    turn = Gate(Meanwhile(store.database)).run_once()

    assert turn.released == []
    assert 0 < turn.look_again_seconds <= BUSY_LOOK_SECONDS
    assert attempts_of(store, job_id) == []


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_job_that_ends_meanwhile_does_not_go_and_the_others_do(store: Store, other: Store, end: str) -> None:
    open_lane(store)
    ended, waiting = submit(store), submit(store)

    def let_it_end() -> None:
        if end == "cancelled":
            other.callers.cancel(ended, None)
        else:
            pass_deadline(other, ended)
            other.upkeep.expire(10)

    assert release(store, let_it_end) == [waiting]

    assert row_of(store, ended).state == end
    assert lane_row(store).released == 1
    assert row_of(store, ended).slot_at is None
    assert attempts_of(store, ended) == []


def test_when_all_end_meanwhile_nothing_goes(store: Store, other: Store) -> None:
    open_lane(store, rates=("1/h",))
    job_id = submit(store)
    before = lane_row(store).pace

    assert release(store, lambda: other.callers.cancel(job_id, None)) == []

    assert row_of(store, job_id).state == State.CANCELLED
    assert count_of(store, attempts) == 0
    assert lane_row(store).pace == before, "and no slot is spent"


@POSTGRESQL
def test_a_job_whose_row_another_holds_is_passed_over(store: Store, other: Store) -> None:
    open_lane(store)
    held, free = submit(store), submit(store)
    with other.database.transaction() as transaction:
        assert release(store, lambda: transaction.execute(select(jobs).where(jobs.c.id == held).with_for_update())) == [
            free
        ]

    assert attempts_of(store, held) == []
    assert release(store) == [held]


@POSTGRESQL
def test_a_lane_whose_lock_another_takes_meanwhile_is_left_to_it(store: Store, other: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    with other.database.transaction() as transaction:
        assert release(store, lambda: transaction.exec_driver_sql("SELECT * FROM downstreams FOR UPDATE")) == []

    assert attempts_of(store, job_id) == []
    assert release(store) == [job_id]


def test_jobs_of_two_queues_share_the_places_of_their_lane(store: Store) -> None:
    open_lane(store, concurrency=1)
    open_lane(store, concurrency=1, queue="cpu")
    first = submit(store)
    submit(store, queue="cpu")

    assert release(store) == [first]


def test_gates_that_are_rung_at_once_let_go_no_more_than_one_would(database_url: str) -> None:
    """Four with connections of their own, while jobs come one by one and are claimed and end: at no time are there
    more calls than places, each is released once for each of its attempts, and no two slots are the same."""
    stores = [Store(Database(database_url, pool_size=2)) for _ in range(4)]
    first = stores[0]
    open_lane(first, concurrency=3, rates=("1000/s",), size=100)
    wanted = 120

    def work(store: Store) -> list[tuple[Released, int]]:
        gate, released = Gate(store.lanes), []
        for _ in range(wanted // len(stores)):
            submit(store)
            gate._survey_due = float("inf")
            for job in gate.run_once(_FOR_LANE).released:
                released.append((job, store.lanes.held().get(LANE, 0)))
                claimed = claim(store, job)
                assert claimed
                store.workers.hand_back(claimed, after=timedelta(hours=1), outcome="seen")
        return released

    with ThreadPoolExecutor(len(stores)) as pool:
        released = [job for worked in pool.map(work, stores) for job in worked]

    assert max(held for _, held in released) <= 3
    assert len({job.job_id for job, _ in released}) == len(released), "none went twice"
    assert len({job.slot_at for job, _ in released}) == len(released), "each slot is one job's"
    assert len(released) > wanted / 10
    for store in stores:
        store.database.close()
