"""What the sampler writes down of the partitions of a shared lane; on both databases."""

from datetime import timedelta

from sqlalchemy import select, update

from tests.conformance.test_partitions import add_client, finish, shared, submit
from tests.support.jobs import LANE
from tidegate.clock import EPOCH
from tidegate.database.schema import IMPLICIT_CLIENT, partition_samples, samples
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.busiest import MOST, Busiest
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.partitions.sampler import THE_BUSIEST
from tidegate.dispatch.partitions.view import Where
from tidegate.dispatch.samples import SampleStore
from tidegate.operations.sharing import PartitionLimits, named_by
from tidegate.stores import Store


def crowds(store: Store) -> dict[str, Crowd]:
    store.database.execute(update(samples).values(taken_at=database_now(-timedelta(seconds=1))))
    store.samples.sample()
    rows = store.database.fetch_all(select(partition_samples).where(partition_samples.c.client != THE_BUSIEST))
    return {row.client: Crowd.from_json(row.crowd) for row in rows}


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


def test_the_busiest_are_told_by_name_and_the_rest_as_one(store: Store) -> None:
    sharing = shared(store)
    first = submit(store, sharing, "first")
    for number in range(MOST + 5):
        submit(store, sharing, f"p{number:02}", number + 2)
    crowds(store)

    sampled, elsewhere = store.partition_overview.busiest()

    assert elsewhere == 0
    busiest = sampled[LANE]
    assert (busiest.number, busiest.waiting) == (MOST + 6, 1 + sum(range(2, MOST + 7)))
    assert [named_by(each.key)[1] for each in busiest.named] == [f"p{MOST + 4 - n:02}" for n in range(MOST)]
    assert [each.waiting for each in busiest.named] == [MOST + 6 - n for n in range(MOST)]
    assert busiest.oldest_of_rest
    assert busiest.oldest_of_rest.key == f"{IMPLICIT_CLIENT}/first"
    assert len(first) == busiest.oldest_of_rest.waiting == 1
    assert Busiest.from_json(busiest.as_json()) == busiest


def test_lines_of_given_partitions_are_read_and_no_others(store: Store) -> None:
    sharing = shared(store)
    later = store.callers.now() + timedelta(minutes=5)
    submit(store, sharing, 'a"b\\c', 3)
    submit(store, sharing, "later", 2, not_before=later)
    wheres = [Where(LANE, f"{IMPLICIT_CLIENT}/{name}") for name in ('a"b\\c', "later", "none")]

    lines = store.partition_overview.lines(wheres, counted=True)

    assert [lines[each].number for each in wheres] == [3, 2, 0]
    due = [lines[each].due_for for each in wheres]
    assert due[2] is None
    assert due[0] is not None
    assert due[0] >= 0
    assert due[1] is not None
    assert -301 < due[1] < -250
    uncounted = store.partition_overview.lines(wheres[:1], counted=False)
    assert uncounted[wheres[0]].number is None
    assert store.partition_overview.lines([], counted=True) == {}


def test_what_ended_a_moment_ago_is_counted_by_partition(store: Store) -> None:
    sharing = shared(store)
    since = store.callers.now() - timedelta(seconds=1)
    for name, count in (("a", 3), ("b", 1)):
        submit(store, sharing, name, count)
    cancelled = submit(store, sharing, "c")
    store.callers.cancel(cancelled[0], client_id=None)
    released = Gate(store.lanes).run_once().released

    places = store.partition_overview.places()
    finish(store, released)

    assert places == {Where(LANE, f"{IMPLICIT_CLIENT}/{name}"): count for name, count in (("a", 3), ("b", 1))}
    assert store.partition_overview.places() == {}
    ended = store.partition_overview.ended(since)
    assert ended == {LANE: {f"{IMPLICIT_CLIENT}/a": 3, f"{IMPLICIT_CLIENT}/b": 1}}
    assert store.partition_overview.ended(store.callers.now() + timedelta(minutes=1)) == {}
