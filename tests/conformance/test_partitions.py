"""Partitions: calls of a shared downstream go in turns, by weight, beneath limits of each; on both databases."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
import uuid_utils
from sqlalchemy import select

from tests.support.jobs import LANE, claim, open_lane, row_of, time_at
from tests.support.jobs import submit as plain
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, clients, jobs
from tidegate.dispatch.gate import Gate
from tidegate.intake.submission import NewJob, Submission, place_in
from tidegate.jobs.job import Released
from tidegate.notify.messages import Wakeup
from tidegate.operations.limits import Limits
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.operations.sharing import PartitionLimits, Sharing, named_by
from tidegate.stores import Store

RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)


def shared(store: Store, *, each: PartitionLimits | None = None, named: Any = None, **limits: Any) -> Sharing:
    """A lane whose calls are shared by names that clients give."""
    sharing = Sharing(by="header", each=each or PartitionLimits(), named=named or {})
    open_lane(store, sharing=sharing, size=limits.pop("size", 1000), **limits)
    return sharing


def submit(
    store: Store,
    sharing: Sharing,
    name: str,
    count: int = 1,
    *,
    client: str = IMPLICIT_CLIENT,
    priority: int | None = None,
    not_before: Any = None,
) -> list[str]:
    """So many jobs of a partition."""
    body = Body(content=b"{}")
    asked = Submission(operation="echo", body=body, client_id=client, partition=name, priority=priority)
    new = NewJob(
        id="",
        client_id=client,
        operation="echo",
        downstream=LANE,
        queue="io",
        timeout=timedelta(hours=1),
        max_attempts=3,
        not_before=not_before,
        body=body,
        place=place_in(sharing, asked),
    )
    ids = [str(uuid_utils.uuid7()) for _ in range(count)]
    store.submissions.insert([NewJob(**{**new.__dict__, "id": job_id}) for job_id in ids])
    return ids


def add_client(store: Store, name: str) -> str:
    with store.database.transaction() as connection:
        connection.execute(clients.insert().values(id=name, name=name, created_at=time_at(store)))
    return name


def finish(store: Store, released: Iterable[Released]) -> None:
    for job in released:
        claimed = claim(store, job)
        assert claimed
        assert store.workers.succeed(claimed, RESULT, call_seconds=None)


def order(store: Store) -> list[str]:
    """The partitions of all releases, by name, in the order in which the gate chose."""
    of_turns = select(attempts.c.partition, attempts.c.turn).where(attempts.c.turn.is_not(None))
    rows = store.database.fetch_all(of_turns.order_by(attempts.c.turn))
    assert [row.turn for row in rows] == list(range(1, len(rows) + 1))
    return [named_by(row.partition)[1] for row in rows]


def assert_fair(chosen: Sequence[str], weights: dict[str, float]) -> None:
    """Over every stretch the calls by weight differ by a turn of each at the most."""
    for (one, its), (other, others) in itertools.combinations(weights.items(), 2):
        turns = {one: 1 / Fraction(its), other: -1 / Fraction(others)}
        sums = [Fraction(0), *itertools.accumulate(turns.get(name, Fraction(0)) for name in chosen)]
        assert max(sums) - min(sums) <= (turns[one] - turns[other]) * Fraction(10**12 + 1, 10**12)


def run(store: Store, gate: Gate, times: int) -> None:
    for _ in range(times):
        finish(store, gate.run_once().released)


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0, "c": 0.5}], ids=["equal", "unequal"])
def test_calls_are_shared_by_weight_in_every_stretch(store: Store, weights: dict[str, float]) -> None:
    named = {name: PartitionLimits(weight=weight) for name, weight in weights.items()}
    sharing = shared(store, named=named, concurrency=7)
    for name in weights:
        submit(store, sharing, name, 60)

    run(store, Gate(store.lanes), 8)

    chosen = order(store)
    assert len(chosen) == 56
    assert_fair(chosen, weights)


def test_another_gate_goes_on_where_the_first_was(store: Store) -> None:
    """Turns are rows: a scheduler that is killed, and one that takes over for a while, change nothing."""
    sharing = shared(store, concurrency=3)
    for name in "abcd":
        submit(store, sharing, name, 40)
    gates = [Gate(store.lanes), Gate(store.lanes)]

    for number in range(20):
        run(store, gates[number % 2] if number < 10 else Gate(store.lanes), 1)

    chosen = order(store)
    assert len(chosen) == 60
    assert_fair(chosen, dict.fromkeys("abcd", 1.0))


def test_a_newcomer_is_next_behind_a_thousand_jobs_of_another(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    submit(store, sharing, "loud", 1000)
    gate = Gate(store.lanes)
    run(store, gate, 20)
    (newcomer,) = submit(store, sharing, "quiet")
    woken = Wakeup(lanes={LANE}, partitions={(LANE, f"{IMPLICIT_CLIENT}/quiet")})

    first = gate.run_once(woken).released
    finish(store, first)
    second = gate.run_once(Wakeup(lanes=set(), freed=True)).released

    assert newcomer in {job.job_id for job in (*first, *second)}


def test_a_clients_share_does_not_grow_with_its_partitions(store: Store) -> None:
    sharing = shared(store, concurrency=10)
    many, one = add_client(store, "many"), add_client(store, "one")
    for number in range(20):
        submit(store, sharing, f"p{number}", 5, client=many)
    submit(store, sharing, "only", 60, client=one)

    run(store, Gate(store.lanes), 10)

    rows = store.database.fetch_all(select(attempts.c.partition))
    assert Counter(named_by(row.partition)[0] for row in rows) == {"many": 50, "one": 50}


def test_each_has_a_concurrency_of_its_own_and_delays_no_other(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(concurrency=2))
    for name in "abc":
        submit(store, sharing, name, 10)
    gate = Gate(store.lanes)

    released = gate.run_once().released

    assert Counter(order(store)) == {"a": 2, "b": 2, "c": 2}
    finish(store, [job for job in released if job.partition == f"{IMPLICIT_CLIENT}/a"])
    assert Counter(job.partition for job in gate.run_once().released) == {f"{IMPLICIT_CLIENT}/a": 2}


def test_each_has_a_rate_of_its_own_beneath_the_common_one(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("2/h",), burst=2), rates=("1000/s",), burst=100)
    for name in "abc":
        submit(store, sharing, name, 10)
    gate = Gate(store.lanes)

    run(store, gate, 3)
    run(store, Gate(store.lanes), 1)

    assert Counter(order(store)) == {"a": 2, "b": 2, "c": 2}


def test_the_common_rate_holds_whoever_has_room(store: Store) -> None:
    sharing = shared(store, rates=("3/h",), burst=3)
    for name in "abcde":
        submit(store, sharing, name, 10)

    run(store, Gate(store.lanes), 3)

    assert len(order(store)) == 3
    assert len(set(order(store))) == 3


def test_a_strict_partition_goes_one_at_a_time_in_the_order_of_submit(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(is_strict=True))
    first, second, third = submit(store, sharing, "a", 3)
    gate = Gate(store.lanes)

    (released,) = gate.run_once().released
    assert released.job_id == first
    assert gate.run_once().released == []
    claimed = claim(store, released)
    assert claimed
    store.workers.hand_back(claimed, after=timedelta(hours=1), outcome="failed")
    assert gate.run_once().released == [], "its retry holds the partition"
    with store.database.transaction() as connection:
        connection.execute(jobs.update().where(jobs.c.id == first).values(run_at=time_at(store)))

    went = []
    for _ in range(3):
        (released,) = Gate(store.lanes).run_once().released
        went.append(released.job_id)
        finish(store, [released])
    assert went == [first, second, third]


def test_a_priority_overtakes_within_its_partition_and_no_other(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    usual = submit(store, sharing, "a", 2)
    (urgent,) = submit(store, sharing, "a", priority=0)
    others = submit(store, sharing, "b", 3, priority=7)
    gate, went = Gate(store.lanes), []

    for _ in range(6):
        released = gate.run_once().released
        went += [job.job_id for job in released]
        finish(store, released)

    assert [job_id for job_id in went if job_id not in others] == [urgent, *usual]
    assert_fair(order(store), {"a": 1.0, "b": 1.0})


def test_a_job_of_no_priority_waits_for_one_of_the_first_no_longer_than_the_step(store: Store) -> None:
    """Three steps of half a minute before it: what came two minutes earlier goes first all the same."""
    sharing = shared(store, concurrency=1)
    (old,) = submit(store, sharing, "a", priority=3)
    with store.database.transaction() as connection:
        earlier = time_at(store) - timedelta(minutes=2)
        rank = earlier + timedelta(seconds=90)
        connection.execute(jobs.update().where(jobs.c.id == old).values(run_at=earlier, rank_at=rank))
    submit(store, sharing, "a", priority=0)

    (released,) = Gate(store.lanes).run_once().released

    assert released.job_id == old


def test_a_release_that_is_taken_back_gives_its_turn_back(store: Store) -> None:
    sharing = shared(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 40)
    gate = Gate(store.lanes)
    released = gate.run_once().released

    back = [job for job in released if job.partition == f"{IMPLICIT_CLIENT}/a"]
    store.lanes.take_back(back)
    finish(store, [job for job in released if job not in back])
    run(store, gate, 6)

    made = store.database.fetch_all(
        select(attempts.c.partition).where(attempts.c.outcome == "succeeded").order_by(attempts.c.turn)
    )
    counted = Counter(named_by(row.partition)[1] for row in made)
    assert abs(counted["a"] - counted["b"]) <= 1, "the two that were not made were made good"


def test_followers_are_chosen_in_turn_and_each_follows_a_call_of_its_own(store: Store) -> None:
    """Quick calls at a concurrency: the next jobs are on their way before a place is free."""
    sharing = shared(store, concurrency=4, call_seconds=0.1)
    for name in "abc":
        submit(store, sharing, name, 20)
    gate = Gate(store.lanes)
    first = gate.run_once().released
    calls = {(job.job_id, job.fence) for job in first}
    for _ in range(3):
        calls |= {(job.job_id, job.fence) for job in gate.run_once().released}

    rows = store.database.fetch_all(select(attempts.c.job_id, attempts.c.follows_job).order_by(attempts.c.turn))
    followed = [row.follows_job for row in rows if row.follows_job]
    assert len(rows) == 8
    assert len(followed) == len(set(followed)) == 4
    assert store.lanes.held() == {LANE: 4}, "a follower has no place of its own"
    assert_fair(order(store), dict.fromkeys("abc", 1.0))
    assert len(gate.run_once().released) == 0, "each call has one follower"


def test_a_due_poll_goes_beside_the_turns_and_on_its_own_place(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    (polled,) = submit(store, sharing, "a")
    submit(store, sharing, "b", 5)
    gate = Gate(store.lanes)
    (released,) = gate.run_once().released
    assert released.job_id == polled
    claimed = claim(store, released)
    assert claimed
    assert store.workers.poll_later(claimed, "http://d/1", after=timedelta(0), call_seconds=0.1)

    (poll,) = gate.run_once().released

    assert (poll.job_id, poll.fence) == (polled, released.fence + 1)
    assert gate.run_once().released == [], "its place is the only one"
    assert order(store) == ["a"]


def test_a_retry_waits_and_others_go(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    (failed,) = submit(store, sharing, "a")
    (other,) = submit(store, sharing, "b")
    gate = Gate(store.lanes)
    (released,) = gate.run_once().released
    claimed = claim(store, released)
    assert claimed
    store.workers.hand_back(claimed, after=timedelta(seconds=0.2), outcome="failed")
    before = row_of(store, released.job_id)

    went = [gate.run_once().released[0].job_id]

    assert {released.job_id, went[0]} == {failed, other}
    moved = before.rank_at - before.run_at - timedelta(seconds=90)
    assert abs(moved) < timedelta(milliseconds=10), "its place moves with it"


def test_a_paused_lane_of_partitions_lets_nothing_go_and_one_without_workers_neither(store: Store) -> None:
    sharing = shared(store, size=0)
    submit(store, sharing, "a", 3)

    assert Gate(store.lanes).run_once().released == []


def test_jobs_of_before_the_lane_was_shared_wait_in_their_clients_partitions(store: Store) -> None:
    open_lane(store, size=1000, concurrency=2)
    old = [plain(store) for _ in range(3)]
    sharing = shared(store, concurrency=2)
    (new,) = submit(store, sharing, "a")
    gate, went = Gate(store.lanes), []

    for _ in range(3):
        released = gate.run_once().released
        went += [job.job_id for job in released]
        finish(store, released)

    assert [job_id for job_id in went if job_id != new] == old
    assert went.index(new) < 2


def test_a_lane_that_is_shared_no_more_lets_all_go_in_order_of_arrival(store: Store) -> None:
    sharing = shared(store)
    ids = [submit(store, sharing, name)[0] for name in "abab"]
    store.limits.declare([Limits(name=LANE)])

    assert [job.job_id for job in Gate(store.lanes).run_once().released] == ids


def test_partitions_at_their_own_limits_ask_for_no_worker_more(store: Store) -> None:
    """Two partitions of which each may have two calls open: four places, whatever waits."""
    sharing = shared(store, each=PartitionLimits(concurrency=2), size=2)
    submit(store, sharing, "a", 50)
    submit(store, sharing, "b", 50)
    for _ in range(2):
        for released in Gate(store.lanes).run_once().released:
            assert claim(store, released)
        store.samples.sample()
        store.scale.measure(store.samples.due)
        time.sleep(1.0)
    found = store.scale.wanted()["io"]
    assert (found.wanted, found.because) == (
        2,
        f"{LANE} can use 4 place(s) now, for 2 partition(s) have jobs waiting, and limits of their own",
    )
