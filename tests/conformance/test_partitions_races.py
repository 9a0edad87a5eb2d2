"""What happens to a shared lane between the plan of a release and its write: turns and bounds hold; on both databases.

Each race is run between the two, over a connection of its own.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import select, update

from tests.conformance.test_partitions import assert_fair, finish, order, run, shared, submit
from tests.support.jobs import LANE, claim, pass_deadline
from tests.support.running import runner_of
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, downstreams, partitions, shared_clients
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.idle import IdlePartitions
from tidegate.dispatch.plan import Plan
from tidegate.dispatch.release import Written
from tidegate.dispatch.store import LaneStore
from tidegate.jobs.job import Released
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.operations.sharing import PartitionLimits, named_by
from tidegate.stores import Store


@pytest.fixture
def other(database_url: str) -> Iterator[Store]:
    """The same database over connections of its own."""
    database = Database(database_url)
    yield Store(database)
    database.close()


class Meanwhile(LaneStore):
    """A lane store for whose first write something happens before it."""

    def __init__(self, database: Database, happens: Callable[[], object]) -> None:
        super().__init__(database)
        self._happens: list[Callable[[], object]] = [happens]
        self.planned: list[Plan] = []

    def write(self, *plans: Plan) -> Sequence[Written]:
        self.planned += plans
        if self._happens:
            self._happens.pop()()
        return super().write(*plans)


def returned(store: Store) -> dict[str, int]:
    """The turns to get back, by name of the partition; the client's by the name "client"."""
    of_partitions = {row.name: row.returned for row in store.database.fetch_all(select(partitions)) if row.returned}
    of_clients = [row.returned for row in store.database.fetch_all(select(shared_clients)) if row.returned]
    return {**of_partitions, **({"client": sum(of_clients)} if of_clients else {})}


def made(store: Store, *, behind: int = 0) -> list[str]:
    """Whose turns it was, in the order in which the gate chose, also where numbers are missing."""
    of_turns = select(attempts.c.partition).where(attempts.c.turn > behind)
    return [named_by(row.partition)[1] for row in store.database.fetch_all(of_turns.order_by(attempts.c.turn))]


def last_turn(store: Store) -> int:
    row = store.database.fetch_one(select(downstreams.c.turns).where(downstreams.c.name == LANE))
    assert row
    return int(row.turns)


def change(store: Store, name: str, *, paused: bool | None = None, **changes: Any) -> None:
    store.partitions.change(LANE, IMPLICIT_CLIENT, name, changes, paused=paused)


def _release_with(gate: Gate, let_go: list[Released]) -> None:
    let_go += gate.run_once().released


def test_of_two_gates_that_plan_the_same_turns_one_writes_them(store: Store, other: Store) -> None:
    sharing = shared(store, concurrency=3)
    for name in "abcd":
        submit(store, sharing, name, 20)
    gates = [Gate(store.lanes), Gate(other.lanes)]
    for number in range(6):  # each has a book of before the other's
        winner = gates[number % 2]
        let_go: list[Released] = []
        of_loser = Meanwhile(store.database, partial(_release_with, winner, let_go))
        assert Gate(of_loser).run_once().released == []
        assert [job.turn for job in of_loser.planned[0].released] == [job.turn for job in let_go], "both planned"
        finish(store, let_go)

    assert len(order(store)) == 18, "each turn was taken once, and none is missing"
    assert_fair(order(store), dict.fromkeys("abcd", 1.0))


def test_gates_that_release_side_by_side_take_each_turn_once(store: Store, other: Store) -> None:
    weights = {"a": 3.0, "b": 1.0, "c": 0.5}
    named = {name: PartitionLimits(weight=weight) for name, weight in weights.items()}
    sharing = shared(store, named=named, concurrency=4)
    for name in weights:
        submit(store, sharing, name, 60)
    over = threading.Event()

    def release(own: Store) -> None:
        gate = Gate(own.lanes)
        while not over.is_set():
            finish(own, gate.run_once().released)
            if len(made(own)) >= 60:
                over.set()

    with ThreadPoolExecutor(2) as threads:
        for each in [threads.submit(release, own) for own in (store, other)]:
            each.result(timeout=60)

    assert_fair(order(store)[:60], weights)
    assert returned(store) == {}


@pytest.mark.parametrize("leaves", ["cancel", "expire"])
def test_jobs_that_left_before_the_write_give_their_turns_back(store: Store, other: Store, leaves: str) -> None:
    sharing = shared(store, concurrency=4)
    ids = submit(store, sharing, "a", 30)
    submit(store, sharing, "b", 30)

    def two_leave() -> None:
        for job_id in ids[:2]:
            if leaves == "cancel":
                other.callers.cancel(job_id, None)
            else:
                pass_deadline(other, job_id)
                other.upkeep.expire(10)

    gate = Gate(Meanwhile(store.database, two_leave))
    first = gate.run_once().released
    assert made(store) == ["b", "b"]
    assert returned(store) == {"a": 2, "client": 2}
    again = gate.run_once().released
    assert made(store)[2:] == ["a", "a"], "the places that were left go to those whose turns they were"
    finish(store, [*first, *again])

    run(store, gate, 6)
    run(store, Gate(other.lanes), 2)

    assert returned(store) == {}
    assert_fair(made(store)[4:], {"a": 1.0, "b": 1.0})
    counted = Counter(made(store))
    assert abs(counted["a"] - counted["b"]) <= 1, "who lost two turns has them back, and no more"


def test_turns_of_jobs_that_left_are_kept_until_their_partition_has_others(store: Store, other: Store) -> None:
    sharing = shared(store, concurrency=4)
    ids = submit(store, sharing, "a", 2)
    submit(store, sharing, "b", 30)

    gate = Gate(Meanwhile(store.database, lambda: [other.callers.cancel(job_id, None) for job_id in ids]))
    finish(store, gate.run_once().released)
    run(store, gate, 1)
    assert returned(store) == {"a": 2}, "its client had others that used theirs"

    submit(store, sharing, "a", 10)
    before = last_turn(store)
    run(store, Gate(other.lanes), 3)

    chosen = made(store, behind=before)
    assert chosen[:2] == ["a", "a"]
    assert_fair(chosen[2:], {"a": 1.0, "b": 1.0})


def test_a_pause_between_plan_and_write_holds_for_that_release(store: Store, other: Store) -> None:
    sharing = shared(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 20)

    gate = Gate(Meanwhile(store.database, lambda: change(other, "a", paused=True)))
    finish(store, gate.run_once().released)

    assert made(store) == ["b"] * 4
    assert returned(store) == {}, "what was not written took no turn"


def test_a_lower_concurrency_between_plan_and_write_holds_for_that_release(store: Store, other: Store) -> None:
    sharing = shared(store, each=PartitionLimits(concurrency=3), concurrency=6)
    for name in "ab":
        submit(store, sharing, name, 20)

    Gate(Meanwhile(store.database, lambda: change(other, "a", concurrency=1))).run_once()

    assert Counter(made(store)) == {"a": 1, "b": 3}


def test_a_rate_that_a_partition_gets_between_plan_and_write_holds_for_that_release(store: Store, other: Store) -> None:
    sharing = shared(store, rates=("1000/s",), burst=10, concurrency=6)
    for name in "ab":
        submit(store, sharing, name, 20)

    Gate(Meanwhile(store.database, lambda: change(other, "a", rates=("1/h",)))).run_once()

    assert Counter(made(store)) == {"a": 1, "b": 5}


def test_a_weight_between_plan_and_write_rescales_what_is_owed(store: Store, other: Store) -> None:
    """One of little weight is four turns ahead; with more it owes a quarter of one."""
    sharing = shared(store, named={"a": PartitionLimits(weight=0.25)}, concurrency=2)
    for name in "ab":
        submit(store, sharing, name, 40)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    assert made(store) == ["a", "b"]

    changed = Gate(Meanwhile(store.database, lambda: change(other, "a", weight=4.0)))
    before = last_turn(store)
    finish(store, changed.run_once().released)
    run(store, gate, 9)

    chosen = made(store, behind=before)
    assert chosen[:2] != ["b", "b"]
    assert_fair(chosen, {"a": 4.0, "b": 1.0})


class _SubmitsFirst(IdlePartitions):
    """Its delete comes when something has happened after the look."""

    happens: Callable[[], object]

    def _delete(self, client: Any, names: Sequence[str]) -> int:
        self.happens()
        return super()._delete(client, names)


@pytest.mark.parametrize("is_released", [False, True], ids=["submitted", "released"])
def test_a_partition_that_gets_a_job_while_it_is_deleted_as_idle_stays(
    store: Store, other: Store, is_released: bool
) -> None:
    sharing = shared(store, concurrency=10)
    for name in ("a", "b", "b", "b"):
        submit(store, sharing, name)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)

    def happens() -> None:
        submit(other, sharing, "a")
        if is_released:
            assert Gate(other.lanes).run_once().released

    idle = _SubmitsFirst(store.database)
    idle.happens = happens
    assert idle.forget() == 0

    assert {row.name for row in store.database.fetch_all(select(partitions))} == {"a", "b"}
    submit(store, sharing, "b", 5)
    submit(store, sharing, "a", 5)
    run(store, gate, 4)
    assert_fair(order(store)[4:], {"a": 1.0, "b": 1.0})


def test_a_gate_whose_partition_was_deleted_as_idle_goes_on_as_if_it_had_not_been(store: Store, other: Store) -> None:
    sharing = shared(store, concurrency=2)
    for name in "ab":
        submit(store, sharing, name, 3)
    gate = Gate(store.lanes)
    run(store, gate, 4)
    other.database.execute(update(shared_clients).values(clock=str(2**80)))
    assert IdlePartitions(other.database).forget() == 2

    before = last_turn(store)
    for name in "ab":
        submit(store, sharing, name, 6)
    run(store, gate, 6)

    chosen = made(store, behind=before)
    assert len(chosen) == 12
    assert_fair(chosen, {"a": 1.0, "b": 1.0})


def test_a_call_that_was_broken_off_gives_no_turn_back(store: Store) -> None:
    """Else whoever cancels what runs would have more calls than its share."""

    @operation(name="echo", downstream=LANE)
    def broken_off(params: JsonValue, attempt: Attempt) -> None:
        store.callers.cancel(attempt.job_id, None)
        attempt.progress(1, 2)

    sharing = shared(store, concurrency=2)
    submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released

    runner_of(store, broken_off).run(released.job_id, released.fence)

    assert returned(store) == {}
    row = store.database.fetch_one(select(attempts.c.outcome, attempts.c.ended_at))
    assert row
    assert (row.outcome, row.ended_at is not None) == ("stopped", True)


def test_a_claim_whose_answer_was_lost_gives_its_turn_back_once(store: Store) -> None:
    sharing = shared(store, concurrency=2)
    submit(store, sharing, "a", 2)
    (first, _) = Gate(store.lanes).run_once().released
    assert claim(store, first, worker="mine")

    assert store.claims.disclaim(first.job_id, first.fence, worker="mine")
    assert not store.claims.disclaim(first.job_id, first.fence, worker="mine")

    assert returned(store) == {"a": 1, "client": 1}
