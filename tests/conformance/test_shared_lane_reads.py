"""What waits in a shared lane, read with the lane: as the statement for the first jobs of partitions has it."""

from datetime import timedelta

import pytest

from tests.conformance.test_partitions import shared, submit
from tests.support.jobs import LANE, open_lane, time_at
from tests.support.jobs import submit as plain
from tidegate.clock import to_microseconds
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.gate import Gate
from tidegate.operations.sharing import Sharing, key_of
from tidegate.stores import Store

A, B = (key_of(IMPLICIT_CLIENT, name) for name in "ab")


def test_the_jobs_of_each_partition_are_those_that_a_statement_for_them_finds_in_its_order(store: Store) -> None:
    sharing = shared(store)
    for priority in (5, 3, 0, 7):
        submit(store, sharing, "a", priority=priority)
    submit(store, sharing, "b", 2)
    later = time_at(store) + timedelta(hours=1)
    submit(store, sharing, "b", priority=0, not_before=later)

    (state,) = store.lanes.read(LANE, limit=8, are_shared=True)

    heads = store.lanes.partitions.heads(LANE, [A, B], most=8, queues=["io"], without=())
    assert state.all_waiting
    assert state.all_waiting.by_partition == {key: each.jobs for key, each in heads.items()}
    assert state.all_waiting.next_run_at == to_microseconds(later) == heads[B].next_run_at


@pytest.mark.parametrize("limit", [2, 3])
def test_all_is_known_only_where_fewer_were_read_than_were_asked_for(store: Store, limit: int) -> None:
    sharing = shared(store)
    submit(store, sharing, "a", 2)

    (state,) = store.lanes.read(LANE, limit=limit, are_shared=True)

    assert (state.all_waiting is not None) == (limit == 3)


def test_jobs_of_the_time_before_a_lane_was_shared_are_not_known_by_partition(store: Store) -> None:
    """They are in none until they are taken into one, by the survey."""
    open_lane(store, size=10)
    job = plain(store)
    open_lane(store, sharing=Sharing(by="header"), size=10)
    (state,) = store.lanes.read(LANE, limit=8, are_shared=True)

    assert state.all_waiting is None
    assert [each.job_id for each in Gate(store.lanes).run_once().released] == [job]


def test_a_gate_that_knows_the_lane_lets_jobs_go_by_priority_and_keeps_those_that_may_not_run(store: Store) -> None:
    sharing = shared(store, concurrency=10)
    gate = Gate(store.lanes)
    submit(store, sharing, "a")
    assert len(gate.run_once().released) == 1
    (last,) = submit(store, sharing, "a", priority=7)
    (first,) = submit(store, sharing, "a", priority=0)
    (of_b,) = submit(store, sharing, "b")
    submit(store, sharing, "a", priority=0, not_before=time_at(store) + timedelta(hours=1))

    released = [job.job_id for job in gate.run_once().released]

    assert {*released} == {first, last, of_b}
    assert released.index(first) < released.index(last)
    assert gate.run_once().released == []


def test_jobs_that_no_message_named_go_at_the_next_look(store: Store) -> None:
    """The lane's own read has them: nobody need ask in which partitions jobs wait."""
    sharing = shared(store)
    gate = Gate(store.lanes)
    submit(store, sharing, "a")
    assert len(gate.run_once().released) == 1
    gate._shared._survey_due[LANE] = float("inf")
    gate._shared._surveyed.clear()
    (of_b,) = submit(store, sharing, "b")

    assert [job.job_id for job in gate.run_once().released] == [of_b]
