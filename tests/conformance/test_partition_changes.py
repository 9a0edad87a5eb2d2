"""Operators look at partitions and change them, and each change holds for what waits already; on both databases."""

import itertools
import threading
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from tests.conformance.test_partitions import add_client, assert_fair, finish, run, shared, submit
from tests.support.jobs import LANE, open_lane
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, downstreams
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.view import PartitionView, Sort
from tidegate.errors import InvalidQuery, NotShared, UnknownDownstream
from tidegate.jobs.filter import Filter
from tidegate.operations.sharing import PartitionLimits, Sharing, named_by
from tidegate.stores import Store


def change(store: Store, name: str, *, client: str = IMPLICIT_CLIENT, paused: bool | None = None, **given: Any) -> None:
    store.partitions.change(LANE, client, name, given, paused=paused)


def seen(store: Store, name: str, client: str = IMPLICIT_CLIENT) -> PartitionView:
    return store.partitions.read_partition(LANE, client, name)


def chosen(store: Store, *, behind: int = 0, clients: bool = False) -> list[str]:
    """Whose turns it was, by name or by client, in the order in which the gate chose, without the first so many."""
    rows = store.database.fetch_all(select(attempts.c.partition).order_by(attempts.c.turn).offset(behind))
    return [named_by(row.partition)[0 if clients else 1] for row in rows]


def test_a_higher_weight_holds_for_what_waits_already(store: Store) -> None:
    sharing = shared(store, concurrency=8)
    for name in "ab":
        submit(store, sharing, name, 100)
    gate = Gate(store.lanes)
    run(store, gate, 3)
    before = len(chosen(store))
    assert_fair(chosen(store), {"a": 1.0, "b": 1.0})

    change(store, "a", weight=3.0)
    run(store, gate, 10)

    assert Counter(chosen(store, behind=before)) == {"a": 60, "b": 20}
    assert_fair(chosen(store, behind=before), {"a": 3.0, "b": 1.0})
    assert (seen(store, "a").weight, seen(store, "a").share) == (3.0, 0.75)

    change(store, "a", weight=None)
    after = len(chosen(store))
    run(store, gate, 3)
    assert_fair(chosen(store, behind=after), {"a": 1.0, "b": 1.0})


def test_a_paused_partition_lets_nothing_go_until_it_is_resumed(store: Store) -> None:
    sharing = shared(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 30)
    gate = Gate(store.lanes)
    run(store, gate, 1)

    change(store, "a", paused=True)
    run(store, gate, 3)

    assert {*chosen(store, behind=4)} == {"b"}
    assert (seen(store, "a").paused, seen(store, "a").share, seen(store, "b").share) == (True, None, 1.0)
    change(store, "a", paused=False)
    run(store, gate, 1)
    assert Counter(chosen(store, behind=16))["a"] in {2, 3}, "who was paused has no credit, and owes a turn at most"


def test_a_lower_rate_and_a_lower_concurrency_hold_for_what_waits_already(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("1000/s",), burst=4), concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 30)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)

    change(store, "a", rates=["1/h"], burst=1)
    run(store, gate, 4)

    assert Counter(chosen(store, behind=4))["a"] == 0, "what went out before counts for the new rate"
    change(store, "b", concurrency=1)
    assert len(gate.run_once().released) == 1
    assert seen(store, "b").open == 1
    change(store, "b", concurrency="unlimited")
    assert len(gate.run_once().released) == 3


def test_null_takes_a_change_back_and_the_others_stay(store: Store) -> None:
    declared = PartitionLimits(rates=("5/s",), burst=2, concurrency=3, weight=2.0)
    shared(store, named={"a": declared})
    change(store, "a", weight=4.0, rates=["1/s", "100/d"], burst=7, concurrency="unlimited", paused=True)
    changed = seen(store, "a")
    assert changed.limits == PartitionLimits(weight=4.0, rates=("1/s", "100/d"), burst=7, concurrency=None)
    assert (changed.declared, changed.paused, {*changed.changes}) == (
        declared,
        True,
        {"weight", "rates", "burst", "concurrency"},
    )

    change(store, "a", rates=None, concurrency=None)
    assert seen(store, "a").limits == PartitionLimits(weight=4.0, rates=("5/s",), burst=7, concurrency=3)
    change(store, "a", weight=None, burst=None, paused=False)
    assert (seen(store, "a").limits, seen(store, "a").changes, seen(store, "a").paused) == (declared, {}, False)


def test_a_client_has_a_weight_beside_other_clients(store: Store) -> None:
    sharing = Sharing(by="client")
    open_lane(store, sharing=sharing, size=1000, concurrency=8)
    for client in ("one", "two"):
        submit(store, Sharing(by="header"), "", 60, client=add_client(store, client))
    gate = Gate(store.lanes)
    run(store, gate, 2)

    change(store, "", client="one", weight=3.0)
    before = len(chosen(store))
    run(store, gate, 4)

    assert_fair(chosen(store, behind=before, clients=True), {"one": 3.0, "two": 1.0})
    assert (seen(store, "", "one").share, seen(store, "", "one").changes) == (0.75, {"weight": 3.0})
    change(store, "", client="one", weight=None)
    assert (seen(store, "", "one").weight, seen(store, "", "one").changes) == (1.0, {})


def test_a_partition_may_be_changed_before_it_has_a_job(store: Store) -> None:
    sharing = shared(store, concurrency=8)
    assert seen(store, "new").limits == PartitionLimits()
    change(store, "new", weight=3.0)
    for name in ("new", "old"):
        submit(store, sharing, name, 30)

    run(store, Gate(store.lanes), 3)

    assert_fair(chosen(store), {"new": 3.0, "old": 1.0})


@pytest.mark.parametrize("sort", ["waiting", "name"])
def test_partitions_are_listed_page_by_page(store: Store, sort: Sort) -> None:
    sharing = shared(store, concurrency=1)
    other = add_client(store, "other")
    for name, number in {"a": 1, "b": 5, "c": 3, "d": 3}.items():
        submit(store, sharing, name, number)
    submit(store, sharing, "b", 2, client=other)
    change(store, "idle", weight=2.0)
    (went,) = Gate(store.lanes).run_once().released
    client_of_it, name_of_it = named_by(went.partition or "")

    found: list[PartitionView] = []
    cursor = None
    while len(found) < 10:
        page = store.partitions.list_partitions(LANE, sort=sort, limit=2, cursor=cursor)
        found += page.partitions
        cursor = page.cursor
        if cursor is None:
            break

    waiting = Counter({(IMPLICIT_CLIENT, "b"): 5, (IMPLICIT_CLIENT, "c"): 3, (IMPLICIT_CLIENT, "d"): 3})
    waiting += Counter({(IMPLICIT_CLIENT, "a"): 1, (other, "b"): 2})
    waiting[client_of_it, name_of_it] -= 1
    told = {(each.client, each.name): each.waiting for each in found}
    assert told == {**waiting, (IMPLICIT_CLIENT, "idle"): 0}
    assert len(found) == len(told), "none comes twice"
    assert {(each.client, each.name) for each in found if each.open} == {(client_of_it, name_of_it)}
    if sort == "waiting":
        assert [each.waiting for each in found] == sorted(told.values(), reverse=True)
    else:
        assert [(each.name, each.client) for each in found] == sorted((name, client) for client, name in told)
    assert sum(each.share or 0.0 for each in found) == pytest.approx(1.0)
    mine = store.partitions.list_partitions(LANE, sort=sort, client=other).partitions
    assert [(each.client, each.name, each.share) for each in mine] == [(other, "b", 0.5)]


def test_what_is_not_there_is_told_apart(store: Store) -> None:
    open_lane(store, "alone")
    shared(store)
    with pytest.raises(UnknownDownstream):
        store.partitions.list_partitions("nothing")
    with pytest.raises(NotShared):
        store.partitions.change("alone", IMPLICIT_CLIENT, "a", {}, paused=True)
    with pytest.raises(InvalidQuery, match="no client"):
        change(store, "a", client="nobody", weight=2.0)
    for cursor in ("", "x", "bnVsbA", "WzEsMl0"):
        if cursor:
            with pytest.raises(InvalidQuery, match="cursor"):
                store.partitions.list_partitions(LANE, cursor=cursor)


def test_no_change_is_lost_while_jobs_are_released(store: Store) -> None:
    """Turns and changes stand in one row: each keeps what the other wrote."""
    sharing = shared(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 40)
    begun, weights = threading.Event(), itertools.cycle((2.0, 5.0))
    faults: list[Exception] = []

    def operate() -> None:
        begun.wait(5)
        try:
            for _ in range(10):
                change(store, "a", weight=next(weights), burst=9)
        except Exception as error:  # noqa: BLE001 - the test tells it
            faults.append(error)

    operator = threading.Thread(target=operate)
    operator.start()
    gate = Gate(store.lanes)
    begun.set()
    run(store, gate, 10)
    operator.join()
    run(store, gate, 3)

    assert not faults
    assert (seen(store, "a").weight, seen(store, "a").limits.burst) == (5.0, 9)
    rows = store.database.fetch_all(select(attempts.c.turn))
    turns = store.database.fetch_one(select(downstreams.c.turns).where(downstreams.c.name == LANE))
    assert turns
    assert turns.turns >= len(rows) + 10
    assert len({row.turn for row in rows}) == len(rows), "no turn was taken twice"


def test_jobs_are_found_by_their_partition(store: Store) -> None:
    sharing = shared(store)
    wanted = submit(store, sharing, "50%", 2)
    submit(store, sharing, "50_", 1)
    (theirs,) = submit(store, sharing, "50%", client=add_client(store, "other"))

    def found(**filters: Any) -> set[str]:
        return {job.id for job in store.callers.list(Filter(partition="50%", **filters)).jobs}

    assert found(client_id=IMPLICIT_CLIENT) == {*wanted}
    assert found() == {*wanted, theirs}


@pytest.mark.parametrize("burst", [1, 100])
def test_a_rate_that_is_set_later_counts_what_went_out_before(store: Store, burst: int) -> None:
    """Of three calls within its window two are more than it allows now; those that were not made do not count."""
    sharing = shared(store, concurrency=5)
    submit(store, sharing, "a", 9)
    gate = Gate(store.lanes)
    released = gate.run_once().released
    assert len(released) == 5
    store.lanes.take_back(released[3:])
    finish(store, released[:3])

    change(store, "a", rates=["4/h"], burst=burst)

    assert len(gate.run_once().released) == (1 if burst > 1 else 0)
    assert gate.run_once().released == []


def test_a_rate_that_comes_back_counts_what_went_out_without_it(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("2/h",), burst=2), concurrency=2)
    submit(store, sharing, "a", 9)
    gate = Gate(store.lanes)
    run(store, gate, 1)

    change(store, "a", rates=[])
    run(store, gate, 1)
    change(store, "a", rates=["5/h"], burst=100)

    assert len(gate.run_once().released) == 1
    assert gate.run_once().released == []
