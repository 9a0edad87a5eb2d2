"""Jobs whose downstream has accepted the work: between polls they keep one place and take no thread and no attempt."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.support.jobs import (
    ATTEMPT_TIMEOUT,
    LANE,
    LEASE,
    attempts_of,
    change_attempts,
    change_job,
    change_lane,
    claim,
    count_of,
    know_call_seconds,
    lane_row,
    lose_lease,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    row_of,
    running,
    submit,
    submit_many,
    time_at,
)
from tests.support.statements import asked
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs, workers
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.execution.attempt import Turn
from tidegate.jobs.job import Claim, Wait
from tidegate.maintenance.sweep import sweep
from tidegate.operations.outcome import Succeeded
from tidegate.operations.queues import Queue
from tidegate.stores import Store

URL, NEXT = "http://d/1", "http://d/2"
RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)
ERROR = {"code": "downstream_error", "message": "no"}
NOW, LATER, BEFORE = timedelta(0), timedelta(minutes=5), timedelta(seconds=-1)


def accepted(store: Store, *, after: timedelta = NOW, **job: object) -> str:
    """A job whose call was answered with a 202; its id."""
    claimed = running(store, **job)  # type: ignore[arg-type]
    assert store.workers.poll_later(claimed, URL, after=after, call_seconds=0.1)
    return claimed.job_id


def polling(store: Store, job_id: str) -> Claim:
    """Its next poll, in the hands of a worker."""
    released = release_one(store)
    assert released.job_id == job_id
    claimed = claim(store, released)
    assert claimed is not None
    return claimed


def end_place(store: Store, lost: Claim) -> None:
    """Lets the time of a call pass whose worker died."""
    own = update(attempts).where(attempts.c.job_id == lost.job_id, attempts.c.fence == lost.fence)
    store.database.execute(own.values(place_until=database_now(BEFORE)))
    assert store.upkeep.free_places(10, until=time_at(store)) == 1


def test_between_polls_a_job_is_queued_with_its_place_and_without_thread_and_attempt(store: Store) -> None:
    open_lane(store, concurrency=1)
    job_id = accepted(store, after=LATER)
    submit(store)

    row, (place,) = row_of(store, job_id), attempts_of(store, job_id)
    assert (row.state, row.waits_for, row.attempt, row.poll_url) == ("queued", Wait.POLL, 0, URL)
    assert (row.run_at - time_at(store)) / LATER == pytest.approx(1, abs=0.1)
    assert (place.ended_at, place.worker, place.place_until - row.deadline) == (None, None, timedelta(seconds=2))
    assert (store.lanes.held(), release(store)) == ({LANE: 1}, [])
    (state,) = store.lanes.read(LANE)
    assert (state.held, state.has_kept, state.calls, state.out_in("io")) == (1, True, 0, 0)
    assert not store.heartbeats.beat("worker-1", queue=Queue.IO, size=8, until=LEASE), "no worker has an open call"


def test_each_poll_takes_a_slot_and_rides_on_the_same_place(store: Store) -> None:
    open_lane(store, concurrency=1, rates=("50/s",))
    job_id = accepted(store)
    for number in (1, 2):
        slot = lane_row(store).released
        poll = polling(store, job_id)
        assert (poll.poll_url, poll.polls, poll.follows, poll.attempt, poll.is_paced) == (URL, number, None, 1, True)
        assert lane_row(store).released == slot + 1
        assert (store.lanes.held(), release(store)) == ({LANE: 1}, []), "the poll and the kept place are one"
        assert store.workers.poll_later(poll, URL, after=NOW, call_seconds=0.1)
    kept, last = attempts_of(store, job_id)
    assert (kept.fence, kept.ended_at, last.fence) == (1, None, 3), "of what found nothing new only the last is kept"
    assert (last.follows_job, last.follows_fence, last.outcome) == (job_id, 1, "polls")


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "expired", "swept", "cancelled while it polls"])
def test_the_end_of_the_job_frees_its_place_in_the_same_transaction(store: Store, end: str) -> None:
    open_lane(store, concurrency=1)
    job_id = accepted(store)
    match end:
        case "succeeded":
            assert store.workers.succeed(polling(store, job_id), RESULT, call_seconds=0.1)
        case "failed":
            assert store.workers.fail(polling(store, job_id), ERROR, call_seconds=0.1)
        case "cancelled":
            store.callers.cancel(job_id, IMPLICIT_CLIENT)
        case "cancelled while it polls":
            poll = polling(store, job_id)
            store.callers.cancel(job_id, IMPLICIT_CLIENT)
            assert store.workers.poll_later(poll, URL, after=NOW, call_seconds=0.1)
        case "expired":
            pass_deadline(store, job_id)
            store.callers.get(job_id, IMPLICIT_CLIENT)
        case _:
            pass_deadline(store, job_id)
            store.upkeep.expire(10)

    row = row_of(store, job_id)
    assert row.state == {"swept": "expired"}.get(end, end.partition(" ")[0])
    assert [each.ended_at is not None for each in attempts_of(store, job_id)].count(False) == 0
    assert store.lanes.held() == {}
    assert store.callers.delete(job_id, IMPLICIT_CLIENT)
    assert (count_of(store, jobs), count_of(store, attempts)) == (0, 0), "URL, places and all"


def test_an_expired_jobs_open_poll_keeps_the_place_until_its_own_end(store: Store) -> None:
    open_lane(store, concurrency=1)
    job_id = accepted(store)
    poll = polling(store, job_id)
    pass_deadline(store, job_id)
    store.upkeep.expire(10)
    submit(store)
    assert (store.lanes.held(), release(store)) == ({LANE: 1}, [])

    assert store.workers.poll_later(poll, URL, after=NOW, call_seconds=0.1) is False

    assert outcomes_of(store, job_id) == ["polls", "late"]
    assert len(release(store)) == 1


def test_a_due_poll_goes_when_every_place_is_kept_and_an_older_backlog_waits(store: Store) -> None:
    open_lane(store, concurrency=2, rates=("50/s",), burst=2)
    polled = [accepted(store, after=LATER) for _ in range(2)]
    submit_many(store, 50)
    change_job(store, polled[0], run_at=database_now())
    assert [job.job_id for job in release(store)] == polled[:1]
    assert release(store) == []


def test_after_a_lower_concurrency_kept_places_are_called_one_after_the_other(store: Store) -> None:
    open_lane(store, concurrency=2)
    ids = [accepted(store, after=LATER) for _ in range(2)]
    for job_id in ids:
        change_job(store, job_id, run_at=database_now())
    change_lane(store, concurrency=1)
    poll = polling(store, ids[0])
    assert release(store) == []
    assert store.workers.poll_later(poll, URL, after=LATER, call_seconds=0.1)
    polling(store, ids[1])


def test_a_poll_goes_before_jobs_that_wait_for_the_same_slot(store: Store) -> None:
    open_lane(store, concurrency=3, rates=("10/s",))
    job_id = accepted(store)
    older = submit(store)
    change_job(store, older, run_at=database_now(-LATER))
    assert [job.job_id for job in release(store)][:1] == [job_id]


def test_the_gate_looks_again_when_the_next_poll_is_due(store: Store) -> None:
    open_lane(store, concurrency=1)
    accepted(store, after=timedelta(seconds=0.4))
    submit(store)
    assert 0.2 < Gate(store.lanes).run_once().look_again_seconds <= 0.4


def test_an_open_breaker_is_probed_by_a_poll_and_by_nothing_beside_it(store: Store) -> None:
    open_lane(store, concurrency=4, breaker_after=1)
    job_id, another = (accepted(store, after=LATER) for _ in range(2))
    submit(store)
    change_lane(store, failures=1)
    change_job(store, job_id, run_at=database_now(-LATER))
    change_job(store, another, run_at=database_now())
    assert [job.job_id for job in release(store)] == [job_id]
    assert release(store) == []


def test_what_a_downstream_announced_as_left_holds_for_polls_too(store: Store) -> None:
    open_lane(store, concurrency=4)
    ids = [accepted(store, after=LATER) for _ in range(2)]
    (state,) = store.lanes.read(LANE)
    until = state.now + 60_000_000
    change_lane(store, announced=f'{{"": [1, {until}, {state.lane.released + 1}]}}')
    for job_id in ids:
        change_job(store, job_id, run_at=database_now())
    submit(store)
    assert [job.job_id for job in release(store)] == ids[:1]


def test_nobody_follows_a_poll_or_a_kept_place(store: Store) -> None:
    open_lane(store, concurrency=2)
    first = accepted(store, after=LATER)
    know_call_seconds(store, 0.1)
    one, another, _ = (submit(store) for _ in range(3))
    released = release(store)
    assert [job.job_id for job in released] == [one, another]
    assert attempts_of(store, another)[0].follows_job == one, "not the place that is kept for long"
    change_job(store, first, run_at=database_now())
    assert [job.job_id for job in release(store)] == [first]


def test_who_follows_a_call_that_is_accepted_does_not_wait_for_its_place(store: Store) -> None:
    open_lane(store, concurrency=1, call_seconds=0.1)
    submit(store)
    submit(store)
    first, second = (claim(store, released) for released in release(store))
    assert first is not None
    assert second is not None
    assert (second.follows, store.slots.turn(second)) == ((first.job_id, first.fence), Turn.LATER)
    store.workers.poll_later(first, URL, after=LATER, call_seconds=0.1)
    assert (store.slots.turn(second), store.lanes.held()) == (Turn.NEVER, {LANE: 1})


def test_a_release_of_a_poll_that_was_not_sent_keeps_the_place_and_gives_the_slot_back(store: Store) -> None:
    open_lane(store, concurrency=1, rates=("100/s", "2/d"))
    job_id = accepted(store)
    for _ in range(2):
        released = release_one(store)
        store.lanes.take_back([released])
        assert store.lanes.held() == {LANE: 1}
        assert row_of(store, job_id).waits_for == Wait.POLL
    assert outcomes_of(store, job_id) == ["polls", "not sent", "not sent"]


@pytest.mark.parametrize("what", ["a failure", "a refusal", "a hand-back", "a lost worker"])
def test_whatever_comes_of_a_poll_the_next_one_polls_again(store: Store, what: str) -> None:
    open_lane(store, concurrency=1)
    job_id = accepted(store)
    poll = polling(store, job_id)
    counted = 0
    match what:
        case "a failure":
            store.workers.try_again(poll, ERROR, after=NOW, is_spent=False, blames_downstream=True, call_seconds=0.1)
            counted = 1
        case "a refusal":
            store.workers.refused(poll, ERROR, after=NOW, call_seconds=0.1)
        case "a hand-back":
            store.workers.hand_back(poll, after=NOW, outcome="no slot")
        case _:
            lose_lease(store, job_id)
            store.upkeep.rescue(10, until=time_at(store))
            assert release(store) == [], "its call may still be open, and the place has one"
            end_place(store, poll)
            counted = 1
    row = row_of(store, job_id)
    assert (row.state, row.waits_for, row.attempt, row.poll_url) == ("queued", Wait.POLL, counted, URL)
    assert store.lanes.held() == {LANE: 1}
    change_lane(store, paused_until=None)
    again = polling(store, job_id)
    assert (again.poll_url, again.attempt) == (URL, counted + 1)
    assert store.workers.poll_later(again, NEXT, after=LATER, call_seconds=0.1)
    assert (row_of(store, job_id).poll_url, row_of(store, job_id).error) == (NEXT, None)


def test_the_place_of_a_poll_whose_worker_died_is_freed_and_that_of_the_job_is_not(store: Store) -> None:
    open_lane(store, concurrency=1)
    job_id = accepted(store)
    poll = polling(store, job_id)
    store.database.execute(update(workers).values(seen_until=database_now(BEFORE)))
    lose_lease(store, job_id)
    store.upkeep.rescue(10, until=time_at(store))
    end_place(store, poll)
    assert (outcomes_of(store, job_id), store.lanes.held()) == (["polls", "lost"], {LANE: 1})


def test_a_poll_that_is_told_twice_is_recorded_once(store: Store) -> None:
    open_lane(store)
    first = running(store)
    for _ in range(2):
        assert store.workers.poll_later(first, URL, after=NOW, call_seconds=0.1)
    poll = polling(store, first.job_id)
    for _ in range(2):
        assert store.workers.poll_later(poll, URL, after=NOW, call_seconds=0.1)
    assert outcomes_of(store, first.job_id) == ["polls", "polls"]
    change_attempts(store, first.job_id, outcome="lost")
    assert not store.workers.poll_later(poll, URL, after=NOW, call_seconds=0.1), "somebody else gave it up"


def test_a_clock_that_was_set_back_moves_no_kept_place_and_lets_its_job_be_polled(store: Store) -> None:
    open_lane(store)
    job_id = accepted(store, after=LATER)
    change_attempts(store, job_id, claimed_at=database_now(LATER), released_at=database_now(LATER))
    store.upkeep.put_right(lease=LEASE, longest_wait=LATER, is_known=True)
    assert attempts_of(store, job_id)[0].place_until > row_of(store, job_id).deadline
    sweep(store.upkeep, retention=timedelta(days=1))
    assert store.lanes.held() == {LANE: 1}
    assert release_one(store).job_id == job_id, "nor does it hold its job up"


def test_a_lane_without_polls_is_asked_nothing_more(store: Store) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    with asked(store.database) as without:
        first = claim(store, release_one(store), attempt_timeout=ATTEMPT_TIMEOUT)
    assert first is not None
    assert store.workers.poll_later(first, URL, after=NOW, call_seconds=0.1)
    with asked(store.database) as with_polls:
        polling(store, first.job_id)
    assert with_polls.counts == (without.counts[0] + 1, without.counts[1])
