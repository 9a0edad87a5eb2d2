"""What the sampler writes down of the partitions of a shared lane; on both databases."""

from datetime import timedelta

from sqlalchemy import select, update

from tests.conformance.test_partitions import add_client, shared, submit
from tests.support.jobs import LANE
from tidegate.clock import EPOCH
from tidegate.database.schema import IMPLICIT_CLIENT, partition_samples, samples
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.samples import SampleStore
from tidegate.operations.sharing import PartitionLimits
from tidegate.stores import Store


def crowds(store: Store) -> dict[str, Crowd]:
    store.database.execute(update(samples).values(taken_at=database_now(-timedelta(seconds=1))))
    store.samples.sample()
    return {row.client: Crowd.from_json(row.crowd) for row in store.database.fetch_all(select(partition_samples))}


def test_clients_and_the_partitions_of_each_are_told_apart(store: Store) -> None:
    sharing = shared(store, named={"big": PartitionLimits(weight=4)})
    one, other = add_client(store, "one"), add_client(store, "other")
    submit(store, sharing, "big", 8, client=one)
    submit(store, sharing, "small", 2, client=one)
    submit(store, sharing, "only", 5, client=other)

    found = crowds(store)

    assert set(found) == {"*", one, other}
    assert (found["*"].number, found["*"].calls_by(1), found["*"].calls_by(100)) == (2, 2, 15)
    assert (found[one].number, found[one].calls_by(1), found[one].calls_by(100)) == (2, 5, 10)


def test_what_its_own_rate_holds_puts_only_that_before_others(store: Store) -> None:
    sharing = shared(store, named={"slow": PartitionLimits(rates=("2/m",))})
    submit(store, sharing, "slow", 100)
    submit(store, sharing, "a", 3)
    (crowd,) = [each for client, each in crowds(store).items() if client != "*"]
    assert 3 + 2 <= crowd.calls_by(1000) <= 3 + 6


def test_a_lane_that_is_empty_has_none(store: Store) -> None:
    sharing = shared(store)
    submit(store, sharing, "a", 3)
    assert crowds(store)
    store.samples = SampleStore(store.database)  # another scheduler
    gate = Gate(store.lanes)
    assert len(gate.run_once().released) == 3
    assert not crowds(store)


def test_a_partition_is_counted_in_its_own_order(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("100/h",), burst=2))
    submit(store, sharing, "a", 300)
    submit(store, sharing, "b", 3)
    key = f"{IMPLICIT_CLIENT}/a"
    assert len(Gate(store.lanes).run_once().released) == 4
    crowds(store)

    count = store.partition_counts.count(LANE, key)

    assert (count.number, count.opened, count.paused, count.changes) == (298, 2, False, {})
    assert (count.before(EPOCH), count.before(count.now + timedelta(days=1))) == (0, 298)
    assert count.pace.calls_since(0) == 2
    assert count.among
    assert count.within
    assert count.within.number == 2
    assert [store.partition_counts.number_of(LANE, IMPLICIT_CLIENT, most=most) for most in (1, 9)] == [1, 2]
    assert store.partition_counts.number_of(LANE, "nobody", most=9) == 0
