"""Rows of partitions go once they say nothing; debts, windows, overrides and turns to get back stay."""

from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from tests.conformance.test_partitions import add_client, finish, shared, submit
from tests.support.jobs import LANE, claim
from tidegate.database.schema import partitions, shared_clients
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.idle import IdlePartitions
from tidegate.operations.sharing import PartitionLimits, Sharing
from tidegate.stores import Store


def went(store: Store, **named: Any) -> Sharing:
    """Partitions a and b made a call each, and nobody waits; a's turn, chosen first, is not beyond the clock."""
    sharing = shared(store, concurrency=10, **named)
    for name in ("a", "b", "b", "b"):
        submit(store, sharing, name)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    return sharing


def names(store: Store) -> set[str]:
    return {row.name for row in store.database.fetch_all(select(partitions.c.name, partitions.c.client))}


def test_who_owes_nothing_goes_and_who_owes_stays(store: Store) -> None:
    went(store)
    IdlePartitions(store.database).forget()
    assert names(store) == {"b"}
    assert len(store.database.fetch_all(select(shared_clients))) == 1


def test_all_go_once_others_turns_are_beyond_theirs(store: Store) -> None:
    went(store)
    store.database.execute(update(shared_clients).values(clock=str(2**80)))
    idle = IdlePartitions(store.database)
    assert idle.forget() == 2
    assert not names(store)
    assert len(store.database.fetch_all(select(shared_clients))) == 1, "the client itself stands beyond the clock"


def test_overrides_turns_to_get_back_and_windows_stay(store: Store) -> None:
    went(store, each=PartitionLimits(rates=("100/h",), burst=100))
    store.database.execute(update(shared_clients).values(clock=str(2**80)))
    assert IdlePartitions(store.database).forget() == 0, "within its window"
    store.database.execute(update(partitions).values(pace="{}"))
    for changed in ({"paused": True}, {"changes": '{"weight": 2}'}, {"returned": 1}):
        store.database.execute(update(partitions).values(paused=False, changes="{}", returned=0))
        store.database.execute(update(partitions).values(**changed))
        assert IdlePartitions(store.database).forget() == 0
    store.database.execute(update(partitions).values(paused=False, changes="{}", returned=0))
    assert IdlePartitions(store.database).forget() == 2


def test_a_clients_own_weight_stays_while_it_has_no_jobs(store: Store) -> None:
    """An operator's change outlives the rows that say nothing; taken back it says nothing either."""
    shared(store)
    for name, weight in (("heavy", 3.0), ("usual", 1.0)):
        store.partitions.change(LANE, add_client(store, name), "", {"weight": weight}, paused=None)

    IdlePartitions(store.database).forget()

    rows = store.database.fetch_all(select(shared_clients.c.client, shared_clients.c.weight))
    assert {row.client: row.weight for row in rows} == {"heavy": 3.0}


def test_one_with_jobs_or_open_calls_stays(store: Store) -> None:
    sharing = went(store)
    store.database.execute(update(shared_clients).values(clock=str(2**80)))
    submit(store, sharing, "a")
    gate = Gate(store.lanes)
    released = gate.run_once().released
    assert claim(store, released[0])
    submit(store, sharing, "b")
    store.database.execute(update(shared_clients).values(clock=str(2**80)))
    assert IdlePartitions(store.database).forget() == 0
    assert names(store) == {"a", "b"}


def test_the_sweep_does_it(store: Store) -> None:
    went(store)
    store.upkeep.prune(10, retention=timedelta(days=7))
    assert names(store) == {"b"}
