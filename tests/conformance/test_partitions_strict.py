"""Partitions that keep the order of submit: whatever becomes of the first, one call at a time; on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.conformance.test_partitions import finish, shared, submit
from tests.support.jobs import LANE, change_attempts, claim, lose_lease, pass_deadline, time_at
from tidegate.database.schema import IMPLICIT_CLIENT, jobs
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.jobs.job import Claim, Released
from tidegate.operations.sharing import PartitionLimits
from tidegate.stores import Store

STRICT = PartitionLimits(is_strict=True)


def released_by(gate: Gate) -> list[str]:
    return [job.job_id for job in gate.run_once().released]


def first_of(store: Store, gate: Gate) -> Claim:
    """The job that goes first, claimed by a worker."""
    (released,) = gate.run_once().released
    claimed = claim(store, released)
    assert claimed
    return claimed


def test_after_a_lost_process_the_next_call_waits_until_the_lost_place_has_ended(store: Store) -> None:
    sharing = shared(store, each=STRICT)
    ids = submit(store, sharing, "a", 3)
    gate = Gate(store.lanes)
    lost = first_of(store, gate)
    lose_lease(store, lost.job_id)

    assert store.upkeep.rescue(10, until=time_at(store)) == 1
    assert released_by(gate) == released_by(Gate(store.lanes)) == [], "its call may be open"
    change_attempts(store, lost.job_id, place_until=database_now(-timedelta(seconds=1)))
    assert released_by(gate) == released_by(Gate(store.lanes)) == [], "nobody has ended it"
    assert store.upkeep.free_places(10, until=time_at(store)) == 1

    went = []
    for _ in ids:
        (released,) = Gate(store.lanes).run_once().released
        went.append(released.job_id)
        finish(store, [released])
    assert went == ids, "the lost one first, for it has no end"


@pytest.mark.parametrize("leaves", ["cancel", "expire"])
def test_when_the_first_leaves_that_waits_for_a_retry_the_next_goes(store: Store, leaves: str) -> None:
    sharing = shared(store, each=STRICT)
    first, second, _ = submit(store, sharing, "a", 3)
    gate = Gate(store.lanes)
    claimed = first_of(store, gate)
    assert store.workers.hand_back(claimed, after=timedelta(hours=1), outcome="failed", call_seconds=0.1)
    assert released_by(gate) == []

    if leaves == "cancel":
        store.callers.cancel(first, None)
    else:
        pass_deadline(store, first)

    assert released_by(Gate(store.lanes)) == [second]


def test_a_first_that_expired_while_its_call_is_open_holds_those_behind_until_it_has_ended(store: Store) -> None:
    sharing = shared(store, each=STRICT)
    first, second = submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    claimed = first_of(store, gate)
    pass_deadline(store, first)
    assert store.upkeep.expire(10) == 1

    assert released_by(gate) == released_by(Gate(store.lanes)) == []

    store.workers.fail(claimed, {"code": "downstream_error", "message": "late"}, call_seconds=0.1)
    assert released_by(Gate(store.lanes)) == [second]


def test_one_that_is_cancelled_while_it_runs_holds_those_behind_until_it_has_ended(store: Store) -> None:
    sharing = shared(store, each=STRICT)
    first, second = submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    claimed = first_of(store, gate)
    store.callers.cancel(first, None)

    assert released_by(gate) == []

    store.workers.hand_back(claimed, after=timedelta(0), outcome="stopped", call_seconds=0.1)
    assert released_by(Gate(store.lanes)) == [second]


@pytest.mark.parametrize("ends", ["comes", "cancel"])
def test_a_first_that_may_not_run_yet_holds_those_behind_it_and_no_other_partition(store: Store, ends: str) -> None:
    sharing = shared(store, each=STRICT)
    (later,) = submit(store, sharing, "a", not_before=time_at(store) + timedelta(minutes=30))
    (behind,) = submit(store, sharing, "a")
    (other,) = submit(store, sharing, "b")
    gate = Gate(store.lanes)

    assert released_by(gate) == [other]
    assert released_by(gate) == released_by(Gate(store.lanes)) == []

    if ends == "cancel":
        store.callers.cancel(later, None)
        assert released_by(Gate(store.lanes)) == [behind]
        return
    with store.database.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.id == later).values(run_at=time_at(store)))
    (released,) = Gate(store.lanes).run_once().released
    assert released.job_id == later
    finish(store, [released])
    assert released_by(Gate(store.lanes)) == [behind]


def test_what_is_taken_back_goes_again_before_those_behind_it(store: Store) -> None:
    """A message that was lost: the release is undone, and nothing else went meanwhile."""
    sharing = shared(store, each=STRICT)
    first, second = submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    released: list[Released] = list(gate.run_once().released)
    assert released_by(gate) == []

    store.lanes.take_back(released)

    (again,) = gate.run_once().released
    assert (again.job_id, again.fence) == (first, released[0].fence + 1)
    finish(store, [again])
    assert released_by(Gate(store.lanes)) == [second]


def test_a_partition_that_is_paused_lets_its_first_end_and_no_other_go(store: Store) -> None:
    sharing = shared(store, each=STRICT)
    _, second = submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    claimed = first_of(store, gate)
    store.partitions.change(LANE, IMPLICIT_CLIENT, "a", {}, paused=True)
    store.workers.fail(claimed, {"code": "operation_error", "message": "no"}, call_seconds=0.1)

    assert released_by(gate) == []

    store.partitions.change(LANE, IMPLICIT_CLIENT, "a", {}, paused=False)
    assert released_by(gate) == [second]
