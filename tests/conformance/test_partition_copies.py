"""A copy of partitions' rows is brought up to date by reading those that were written since; on both databases."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.conformance.test_partitions import finish, shared, submit
from tests.support.jobs import LANE, claim
from tidegate.database.schema import IMPLICIT_CLIENT, downstreams
from tidegate.dispatch.gate import Gate
from tidegate.jobs.job import Released
from tidegate.operations.limits import Limits
from tidegate.operations.sharing import PartitionLimits, Sharing, key_of
from tidegate.stores import Store

EACH = PartitionLimits(rates=("1000/s",))


def late_call(store: Store, released: Released) -> None:
    claimed = claim(store, released)
    assert claimed
    store.slots.postpone(claimed, began=1e9)


def new_slot(store: Store, released: Released) -> None:
    claimed = claim(store, released)
    assert claimed
    assert store.slots.reserve(claimed, within=timedelta(seconds=1)).due is not None


def given_back(store: Store, released: Released) -> None:
    store.lanes.take_back([released])


def operator(store: Store, _: Released) -> None:
    store.partitions.change(LANE, IMPLICIT_CLIENT, "a", {"concurrency": 3}, paused=None)


def clients_weight(store: Store, _: Released) -> None:
    store.partitions.change(LANE, IMPLICIT_CLIENT, "", {"weight": 3.0}, paused=None)


def another_release(store: Store, _: Released) -> None:
    submit(store, Sharing(by="header", each=EACH), "a")
    assert Gate(store.lanes).run_once().released


@pytest.mark.parametrize(
    ("write", "partitions", "clients"),
    [
        (late_call, {"a"}, set()),
        (new_slot, {"a"}, set()),
        (given_back, {"a"}, {IMPLICIT_CLIENT}),
        (operator, {"a"}, set()),
        (clients_weight, set(), {IMPLICIT_CLIENT}),
        (another_release, {"a"}, {IMPLICIT_CLIENT}),
    ],
)
def test_each_write_bears_its_number_and_is_all_that_is_read(
    store: Store, write: Callable[[Store, Released], None], partitions: set[str], clients: set[str]
) -> None:
    sharing = shared(store, each=EACH)
    for name in "abc":
        submit(store, sharing, name)
    released = Gate(store.lanes).run_once().released
    (of_a,) = (job for job in released if job.partition == key_of(IMPLICIT_CLIENT, "a"))
    before = turns_of(store)

    write(store, of_a)

    changes = store.lanes.partitions.changes(LANE, sharing, since=before)
    assert changes.turns == turns_of(store) > before
    assert {each.name for each in changes.partitions.values()} == partitions
    assert changes.clients.keys() == clients
    read = store.lanes.partitions.read(LANE, sharing, changes.partitions)
    assert changes.partitions == read, "as a copy that is made anew"


def test_a_gate_that_knows_partitions_goes_on_by_what_changed(store: Store) -> None:
    """Turns that were given back are used by the gate that had a copy."""
    sharing = shared(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 40)
    gate = Gate(store.lanes)
    first = gate.run_once().released
    of_a = [job for job in first if job.partition == key_of(IMPLICIT_CLIENT, "a")]
    store.lanes.take_back(of_a)

    assert [job.partition for job in gate.run_once().released] == [key_of(IMPLICIT_CLIENT, "a")] * 2


def test_limits_that_the_file_declares_anew_hold_for_a_gate_that_runs(store: Store) -> None:
    sharing = shared(store)
    submit(store, sharing, "a", 9)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    submit(store, sharing, "a", 9)

    strict = replace(sharing, each=PartitionLimits(concurrency=2))
    store.limits.declare([Limits(name=LANE, sharing=strict)])

    assert len(gate.run_once().released) == 2


def turns_of(store: Store) -> int:
    row = store.database.fetch_one(select(downstreams.c.turns).where(downstreams.c.name == LANE))
    assert row
    return int(row.turns)
