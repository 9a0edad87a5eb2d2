"""Batches in shared lanes: a batch is of one partition, is one turn, and counts as one call of its limits."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.conformance.test_batches import Together
from tests.conformance.test_partitions import assert_fair, order, shared, submit
from tests.support.jobs import row_of
from tests.support.waiting import wait_until
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs
from tidegate.dispatch.lane import LAST_LIFE
from tidegate.jobs.job import Released
from tidegate.operations.batch import Batch
from tidegate.operations.outcome import HandedBack
from tidegate.operations.sharing import PartitionLimits, Sharing, named_by
from tidegate.stores import Store


def waiting(store: Store, sharing: Sharing, **numbers: int) -> dict[str, list[str]]:
    """So many jobs of the batched operation in each partition."""
    ids = {name: submit(store, sharing, name, number) for name, number in numbers.items()}
    store.database.execute(update(jobs).values(operation="made"))
    return ids


def partition_of(store: Store, job: Released) -> str:
    return named_by(row_of(store, job.job_id).partition)[1]


def partitions_of(store: Store, messages: Sequence[Sequence[Released]]) -> list[set[str]]:
    return [{partition_of(store, job) for job in message} for message in messages]


def test_partitions_never_mix(store: Store) -> None:
    sharing = shared(store, concurrency=4)
    waiting(store, sharing, a=25, b=5)
    messages = Together(store).release()
    assert sorted(len(message) for message in messages) == [5, 5, 10, 10]
    assert all(len(names) == 1 for names in partitions_of(store, messages))


def test_a_batch_is_one_turn(store: Store) -> None:
    sharing = shared(store, concurrency=3)
    waiting(store, sharing, a=100, b=100)
    together = Together(store)
    for _ in range(5):
        for message in together.release():
            together.run(message)
    chosen = order(store)
    assert len(chosen) == 15
    assert_fair(chosen, {"a": 1.0, "b": 1.0})
    assert {len(each) for each in together.calls.jobs} == {10}


def test_a_batch_is_one_call_of_its_partitions_concurrency(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(concurrency=1))
    waiting(store, sharing, a=30)
    together = Together(store)
    (message,) = together.release()
    assert (len(message), together.release()) == (10, [])
    together.run(message)
    assert [len(each) for each in together.release()] == [10]


def test_a_batch_is_one_call_of_its_partitions_rate(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("1/m",)))
    waiting(store, sharing, a=30, b=3)
    together = Together(store)
    assert sorted(len(each) for each in together.release()) == [3, 10]
    assert together.release() == []


def test_a_job_of_a_partition_lingers(store: Store) -> None:
    sharing = shared(store)
    together = Together(store, batch=Batch(max=2, linger=timedelta(seconds=20)))
    ids = waiting(store, sharing, a=1)["a"]
    assert together.release() == []
    ids += waiting(store, sharing, a=1)["a"]
    released = wait_until(together.release, description="both go together")
    assert [[job.job_id for job in message] for message in released] == [ids]


def test_a_batch_of_which_nobody_is_left_gives_its_turn_back(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    ids = waiting(store, sharing, a=2)["a"]
    together = Together(store)
    (message,) = together.release()
    for job_id in ids:
        store.callers.cancel(job_id, IMPLICIT_CLIENT)
    assert not together.run(message)
    others = waiting(store, sharing, a=10, b=10)
    for _ in "ab":
        for each in wait_until(together.release, description="a batch goes"):
            together.run(each)
    of_turns = select(attempts.c.outcome).where(attempts.c.turn.is_not(None)).order_by(attempts.c.turn)
    assert [row.outcome for row in store.database.fetch_all(of_turns)] == ["dropped", "succeeded", "succeeded"]
    assert together.calls.jobs[0][0] in others["a"]  # the turn was given back


def test_a_batch_that_was_not_called_gives_its_turn_back(store: Store) -> None:
    sharing = shared(store, concurrency=1)
    waiting(store, sharing, a=10, b=10)
    together = Together(store)
    together.before_begin = [HandedBack(reason="own shortage")]
    while len(together.calls.jobs) < 2:
        for each in wait_until(together.release, description="a batch goes"):
            together.run(each)
    of_turns = select(attempts.c.partition, attempts.c.outcome).where(attempts.c.turn.is_not(None))
    first, again, other = store.database.fetch_all(of_turns.order_by(attempts.c.turn))
    assert [row.outcome for row in (first, again, other)] == ["own shortage", "succeeded", "succeeded"]
    assert first.partition == again.partition != other.partition


def test_the_turn_stays_with_who_leads_the_batch(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(concurrency=1))
    ids = waiting(store, sharing, a=3)["a"]
    together = Together(store)
    (message,) = together.release()
    store.callers.cancel(ids[0], IMPLICIT_CLIENT)
    seen: list[Any] = []
    together.before_check = lambda: seen.append(store.lanes.partitions.opened("lane"))
    together.run(message)
    assert [sum(dict(each).values()) for each in seen] == [1]
    assert order(store) == ["a"]
    assert together.calls.jobs == [ids[1:]]


@pytest.mark.parametrize("name", ["made", "single"])
def test_jobs_of_a_partition_that_are_kept_apart_are_passed_over(store: Store, name: str) -> None:
    """As many as a dead worker had in its batches: one goes, and the gate does not look for others without end."""
    sharing = shared(store, concurrency=4)
    waiting(store, sharing, a=40)
    store.database.execute(update(jobs).values(operation=name, losses=LAST_LIFE))
    assert [len(message) for message in Together(store).release()] == [1]
