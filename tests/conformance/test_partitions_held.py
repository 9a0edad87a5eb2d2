"""Partitions that a limit of their own holds, and what that must not do to others; on both databases."""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from tests.conformance.test_clock_set import SetClock, set_clock
from tests.conformance.test_partitions import finish, order, shared, submit
from tests.conformance.test_unknown_operations import gate as gate_that_knows
from tests.conformance.test_unknown_operations import worker
from tests.support.jobs import LANE, WORKER, change_job, claim, lane_row, open_lane, release, time_at
from tests.support.jobs import submit as plain
from tests.support.statements import asked
from tests.support.waiting import wait_until
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.store import PartitionStore
from tidegate.dispatch.plan import Plan
from tidegate.dispatch.release import Written
from tidegate.jobs.job import MAX_LOSSES, Released
from tidegate.notify.messages import Wakeup
from tidegate.operations.sharing import PartitionLimits
from tidegate.stores import Store

__all__ = ["set_clock"]  # a fixture


def woken_by(name: str) -> Wakeup:
    """What a submit into this partition tells the gate."""
    return Wakeup(lanes={LANE}, partitions={(LANE, f"{IMPLICIT_CLIENT}/{name}")})


def test_a_partition_at_its_own_rate_does_not_hold_the_lane(store: Store) -> None:
    """A job of another goes at once, though the only one that waited may go in half an hour."""
    sharing = shared(store, each=PartitionLimits(rates=("2/h",), burst=2))
    submit(store, sharing, "held", 3)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    assert gate.run_once().released == []

    (other,) = submit(store, sharing, "free")

    assert [job.job_id for job in gate.run_once(woken_by("free")).released] == [other]


def test_calls_that_were_not_made_are_returned_to_the_partitions_own_rate(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("2/h",), burst=100))
    submit(store, sharing, "a", 5)
    gate = Gate(store.lanes)
    released = gate.run_once().released
    assert len(released) == 2

    store.lanes.take_back(released)

    assert len(gate.run_once().released) == 2


class _SlowAtFirst(PartitionStore):
    """Its first survey takes half a second, as while a database stands still."""

    is_slow = True

    def active(self, lane: str) -> list[str]:
        if self.is_slow:
            threading.Event().wait(0.5)
        self.is_slow = False
        return super().active(lane)


def test_after_a_survey_that_took_long_the_next_one_is_not_put_off_for_as_long(store: Store) -> None:
    """A job of a partition that nobody knows yet, whose message was lost, is seen by the next survey alone."""
    sharing = shared(store)
    submit(store, sharing, "a")
    store.lanes.partitions = _SlowAtFirst(store.database)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    submit(store, sharing, "a")
    (unheard_of,) = submit(store, sharing, "b")

    went: list[str] = []

    def goes() -> bool:
        went.extend(job.job_id for job in gate.run_once().released)
        return unheard_of in went

    wait_until(goes, timeout_seconds=6, description="the other partition's job to go")


@pytest.mark.long
def test_a_clock_that_was_set_back_does_not_stop_a_partition_with_a_rate(store: Store, set_clock: SetClock) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("10/s",)))
    submit(store, sharing, "a", 9)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    set_clock(timedelta(hours=-1))
    shared(store, each=PartitionLimits(rates=("10/s",)))  # its worker says that it lives
    with store.database.transaction() as connection:  # as the sweep does it
        connection.execute(update(jobs).values(run_at=time_at(store)))
    went: list[Released] = []

    for _ in range(40):
        went += gate.run_once().released
        if went:
            break
        threading.Event().wait(0.05)

    assert went


def test_a_strict_partition_is_held_by_a_job_that_no_worker_can_run(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(is_strict=True))
    worker(store, "io-1", "echo")
    store.heartbeats.remove(WORKER)
    (renamed, behind) = submit(store, sharing, "a", 2)
    with store.database.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.id == renamed).values(operation="renamed"))
    gate = gate_that_knows(store, "renamed", "echo")

    assert [gate.run_once().released for _ in range(3)] == [[]] * 3

    worker(store, "io-2", "echo", "renamed")
    assert [job.job_id for job in gate_that_knows(store, "renamed", "echo").run_once().released] == [renamed]
    assert behind not in order(store)


@pytest.mark.long
def test_a_call_that_missed_its_slot_counts_for_the_partitions_own_rate_when_it_is_made(store: Store) -> None:
    """Else the next one of the partition would go right behind it."""
    sharing = shared(store, each=PartitionLimits(rates=("1/s",)), rates=("1000/s",))
    submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    (first,) = gate.run_once().released
    claimed = claim(store, first)
    assert claimed
    threading.Event().wait(0.1)

    assert store.slots.reserve(claimed, within=timedelta(seconds=1)).due is not None

    again = store.database.fetch_one(select(attempts.c.slot_at).where(attempts.c.job_id == first.job_id))
    assert again
    assert again.slot_at > first.slot_at
    released: list[Released] = []
    until = time.monotonic() + 5
    while not released and time.monotonic() < until:
        threading.Event().wait(0.05)
        released += gate.run_once().released
    (second,) = released
    assert second.slot_at - again.slot_at >= timedelta(seconds=1)


@pytest.mark.parametrize("is_strict", [False, True])
def test_jobs_on_their_last_life_go_one_by_one_whatever_their_partitions(store: Store, is_strict: bool) -> None:
    sharing = shared(store, each=PartitionLimits(is_strict=is_strict))
    for name in "ab":
        (job,) = submit(store, sharing, name)
        change_job(store, job, losses=MAX_LOSSES - 1)

    first = Gate(store.lanes).run_once().released
    assert len(first) == 1
    assert Gate(store.lanes).run_once().released == [], "also when the first is out"
    finish(store, first)

    assert len(Gate(store.lanes).run_once().released) == 1


@pytest.mark.parametrize("is_strict", [False, True])
def test_one_on_its_last_life_goes_beside_none_of_another_lane(store: Store, is_strict: bool) -> None:
    """Both lanes are looked at together, before either job is seen to be out, in an order drawn each time."""
    sharing = shared(store, each=PartitionLimits(is_strict=is_strict))
    open_lane(store, "other")
    jobs_of_both = [*submit(store, sharing, "a"), plain(store, lane="other")]
    for job in jobs_of_both:
        change_job(store, job, losses=MAX_LOSSES - 1)

    for _ in range(8):
        (released,) = release(store)
        store.lanes.take_back([released])


def test_partitions_that_ran_out_are_found_in_few_statements(store: Store) -> None:
    """Two hundred have a job each, and six places are free: the last look has places left, and nobody has a job."""
    sharing = shared(store, concurrency=6, call_seconds=5.0)
    for number in range(200):
        submit(store, sharing, f"p{number}")
    gate = Gate(store.lanes)
    asked_of_looks, gone = [], 0
    while gone < 200:
        with asked(store.database) as cost:
            released = gate.run_once().released
        asked_of_looks.append(len(cost.statements))
        finish(store, released)
        gone += len(released)

    assert max(asked_of_looks[1:]) <= 2 * min(asked_of_looks[1:]) + 5


def test_a_late_call_of_a_partition_with_a_rate_of_its_own_costs_it_no_interval(store: Store) -> None:
    """It missed the last slot that was given, so that its own rate has room at once."""
    sharing = shared(store, each=PartitionLimits(rates=("1/s",)), rates=("200/s",))
    submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released
    claimed = claim(store, released)
    assert claimed
    threading.Event().wait(0.05)

    offer = store.slots.reserve(claimed, within=timedelta(seconds=1))

    assert offer.due is not None
    assert offer.due - time.monotonic() < 0.5, "not a second after the slot that it missed"


def test_a_late_call_that_its_own_rate_holds_passes_no_slots_of_others_over(store: Store) -> None:
    """No slot is given before one that is promised: the lane would stand still until then."""
    sharing = shared(store, each=PartitionLimits(rates=("2/m",), burst=2), rates=("200/s",))
    submit(store, sharing, "a", 2)
    released, _ = Gate(store.lanes).run_once().released
    claimed = claim(store, released)
    assert claimed
    before = lane_row(store).pace

    offer = store.slots.reserve(claimed, within=timedelta(minutes=1))

    assert (offer.due, offer.counts) == (None, True)
    assert offer.wait_seconds > 0.5
    assert lane_row(store).pace == before


def test_of_a_lane_that_is_behind_no_slots_are_given_that_would_be_missed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that takes long makes its own slots late."""
    open_lane(store, rates=("50/s",), size=1000)
    for _ in range(30):
        plain(store)
    gate, write = Gate(store.lanes), store.lanes.write

    def slowly(*plans: Plan) -> Sequence[Written]:
        time.sleep(0.05)
        return write(*plans)

    monkeypatch.setattr(store.lanes, "write", slowly)
    assert gate.run_once().released
    threading.Event().wait(0.4)
    asked_at = datetime.now(UTC)

    released = gate.run_once().released

    assert released
    assert min(job.slot_at for job in released) - asked_at >= timedelta(milliseconds=75)
