"""What the gate looks at when it is rung: no more than it must, and never less than what may go."""

from datetime import timedelta

from tests.support.jobs import LANE, claim, open_lane, submit
from tests.support.statements import asked
from tidegate.database.schema import jobs
from tidegate.dispatch.gate import SLOW_LOOK_SECONDS, Gate
from tidegate.jobs.job import Claim
from tidegate.notify.messages import Wakeup, parse_wakeup
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

_FOR_LANE = Wakeup(lanes={LANE})
_FREED = Wakeup(lanes=set(), freed=True)
_NOTHING = Wakeup(lanes=set())


def finish(store: Store, claimed: Claim) -> None:
    """The job succeeds."""
    result = Succeeded(content=b"1", content_type="application/json", is_json=True)
    assert store.workers.succeed(claimed, result, call_seconds=None)


def quiet_gate(store: Store) -> Gate:
    """One that has just looked at all."""
    gate = Gate(store.lanes)
    assert gate.run_once().released == []
    return gate


def test_a_named_lane_is_released_without_a_look_for_all(store: Store) -> None:
    open_lane(store)
    gate = quiet_gate(store)
    job_id = submit(store)

    with asked(store.database) as cost:
        (released,) = gate.run_once(_FOR_LANE).released

    assert released.job_id == job_id
    assert not [statement for statement in cost.statements if "next_run_at" in statement]


def test_a_place_that_came_free_is_nothing_when_no_lane_waits(store: Store) -> None:
    open_lane(store)
    gate = quiet_gate(store)

    with asked(store.database) as cost:
        turn = gate.run_once(_FREED)

    assert cost.statements == []
    assert 0 < turn.look_again_seconds <= SLOW_LOOK_SECONDS


def test_a_place_that_came_free_is_the_next_ones_where_a_lane_waits(store: Store) -> None:
    open_lane(store, concurrency=1)
    gate = quiet_gate(store)
    first, second = submit(store), submit(store)
    (released,) = gate.run_once(_FOR_LANE).released
    assert released.job_id == first
    claimed = claim(store, released)
    assert claimed
    assert gate.run_once(_FREED).released == []
    finish(store, claimed)

    assert [job.job_id for job in gate.run_once(_FREED).released] == [second]


def test_a_lane_that_is_named_takes_no_more_than_its_half_while_another_waits(store: Store) -> None:
    """The other one is known to wait since the gate looked at it: so all are looked at."""
    open_lane(store, size=2)
    open_lane(store, "other", size=2)
    gate = quiet_gate(store)
    for _ in range(6):
        submit(store, lane="other")
    first = gate.run_once(Wakeup(lanes={"other"})).released
    assert len(first) == 4, "twice the threads, with nobody else there"
    for job in first[:2]:
        claimed = claim(store, job)
        assert claimed
        finish(store, claimed)
    for _ in range(6):
        submit(store)

    released = gate.run_once(_FOR_LANE).released

    lanes = dict(store.database.fetch_all(jobs.select().with_only_columns(jobs.c.id, jobs.c.downstream)))
    assert [lanes[job.job_id] for job in released] == [LANE, LANE]


def test_what_was_not_rung_for_is_found_a_second_later_at_the_latest(store: Store) -> None:
    open_lane(store)
    gate = quiet_gate(store)
    job_id = submit(store)

    turn = gate.run_once(_NOTHING)
    assert turn.released == []
    gate._survey_due = 0.0  # the second is over
    (released,) = gate.run_once(_NOTHING).released
    assert released.job_id == job_id


def test_a_job_that_is_due_later_is_waited_for(store: Store) -> None:
    open_lane(store)
    gate = quiet_gate(store)
    submit(store)
    (released,) = gate.run_once(_FOR_LANE).released
    claimed = claim(store, released)
    assert claimed
    store.workers.hand_back(claimed, after=timedelta(seconds=0.2), outcome="later")

    assert gate.run_once().look_again_seconds < 0.3
    assert gate.run_once(_FREED).look_again_seconds < 0.3, "also when it is rung for less meanwhile"


def test_messages_say_what_was_rung_for() -> None:
    assert parse_wakeup([]) == _NOTHING
    assert parse_wakeup([b"one two", b"two :"]) == Wakeup(lanes={"one", "two"}, freed=True)
    assert parse_wakeup([b"one", b""]) == Wakeup(lanes=None)
