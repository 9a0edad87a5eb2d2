"""Workers that live, and what becomes of the jobs of one that does not."""

from datetime import timedelta

from sqlalchemy import func, select

from tests.support.jobs import (
    LEASE,
    attempts_of,
    change_attempts,
    change_job,
    claim,
    count_of,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    row_of,
    running,
    submit,
    time_at,
)
from tidegate.database.schema import workers
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.jobs.job import Call, Claim
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)
ERROR = {"code": "operation_error", "message": "no"}
SETTLED = database_now(-timedelta(seconds=2))


def call(claimed: Claim) -> Call:
    return claimed.job_id, claimed.fence


def test_a_worker_counts_as_long_as_it_is_seen(store: Store) -> None:
    store.heartbeats.beat("a", queue="io", size=8, until=LEASE)
    store.heartbeats.beat("b", queue="io", size=4, until=LEASE)
    store.heartbeats.beat("c", queue="cpu", size=2, until=LEASE)
    store.heartbeats.beat("dead", queue="cpu", size=64, until=-timedelta(seconds=1))

    assert store.heartbeats.sizes() == {"io": 12, "cpu": 2}


def test_a_worker_that_is_seen_again_is_one_worker(store: Store) -> None:
    store.heartbeats.beat("a", queue="io", size=8, until=-timedelta(seconds=1))
    store.heartbeats.beat("a", queue="io", size=16, until=LEASE)

    assert store.heartbeats.sizes() == {"io": 16}
    assert count_of(store, workers) == 1


def test_a_heartbeat_renews_what_its_own_worker_runs(store: Store) -> None:
    open_lane(store)
    mine, others = running(store, worker="mine"), running(store, worker="other")
    for claimed in (mine, others):
        change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))
        change_attempts(store, claimed.job_id, place_until=database_now(timedelta(seconds=1)))

    assert store.heartbeats.renew("mine", {call(mine), call(others)}, lease=LEASE) == set()

    soon = time_at(store) + LEASE - timedelta(seconds=5)
    assert row_of(store, mine.job_id).lease_until > soon
    assert attempts_of(store, mine.job_id)[0].place_until > soon
    assert row_of(store, others.job_id).lease_until < soon
    assert attempts_of(store, others.job_id)[0].place_until < soon


def test_a_heartbeat_never_shortens_a_place(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    far = time_at(store) + timedelta(hours=1)
    change_attempts(store, claimed.job_id, place_until=far)

    store.heartbeats.renew("mine", {call(claimed)}, lease=LEASE)

    assert attempts_of(store, claimed.job_id)[0].place_until == far


def test_a_heartbeat_renews_the_place_of_a_call_whose_job_has_expired(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    pass_deadline(store, claimed.job_id)
    store.upkeep.expire(10)
    change_attempts(store, claimed.job_id, place_until=database_now(timedelta(seconds=1)))

    assert store.heartbeats.renew("mine", {call(claimed)}, lease=LEASE) == set()

    assert attempts_of(store, claimed.job_id)[0].place_until > time_at(store) + LEASE / 2


def test_what_nobody_works_on_is_not_renewed(store: Store) -> None:
    """Its claim was given up, and committed all the same."""
    open_lane(store)
    mine, nobodys = running(store, worker="mine"), running(store, worker="mine")
    for claimed in (mine, nobodys):
        change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))
        change_attempts(store, claimed.job_id, place_until=database_now(timedelta(seconds=1)))

    store.heartbeats.renew("mine", {call(mine)}, lease=LEASE)

    soon = time_at(store) + LEASE - timedelta(seconds=5)
    assert row_of(store, mine.job_id).lease_until > soon
    assert row_of(store, nobodys.job_id).lease_until < soon
    assert attempts_of(store, nobodys.job_id)[0].place_until < soon


def test_the_calls_of_a_worker_are_those_of_its_living_children(store: Store) -> None:
    open_lane(store)
    mine, _dead = running(store, worker="mine", pid=11), running(store, worker="mine", pid=12)
    running(store, worker="other", pid=11)

    assert store.heartbeats.calls_of("mine", {11, 13}) == {call(mine)}


def test_a_heartbeat_does_not_revive_a_job_that_was_rescued_from_its_worker(store: Store) -> None:
    open_lane(store)
    lost = running(store, worker="mine")
    change_job(store, lost.job_id, lease_until=database_now(-timedelta(seconds=1)))
    store.upkeep.rescue(10, until=time_at(store))
    newer = claim(store, release_one(store), worker="other")
    assert newer is not None
    before = row_of(store, lost.job_id)

    store.heartbeats.renew("mine", {call(lost)}, lease=timedelta(hours=1))

    assert row_of(store, lost.job_id) == before


def test_a_stopping_worker_gives_its_jobs_back_at_once(store: Store) -> None:
    open_lane(store)
    mine, others = running(store, worker="mine"), running(store, worker="other")
    store.heartbeats.beat("mine", queue="io", size=8, until=LEASE)

    assert store.heartbeats.remove("mine") == 1
    assert store.heartbeats.remove("mine") == 0

    row = row_of(store, mine.job_id)
    assert (row.state, row.attempt, row.losses) == ("queued", 0, 0)
    assert outcomes_of(store, mine.job_id) == ["handed back"]
    assert row_of(store, others.job_id).state == "running"
    assert required(store.database.fetch_one(select(func.count()).where(workers.c.id == "mine")))[0] == 0
    assert [job.job_id for job in release(store)] == [mine.job_id]


def test_a_worker_that_stopped_cannot_write_about_what_it_gave_back(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    store.heartbeats.remove("mine")

    assert not store.workers.progress(claimed, Progress(done=1), lease=LEASE)
    assert not store.workers.hand_back(claimed, after=timedelta(0), outcome="stopped")
    assert row_of(store, claimed.job_id).attempt == 0, "given back once and not twice"


def test_what_a_stopped_workers_threads_still_say_is_not_written_over_what_became_of_their_attempts(
    store: Store,
) -> None:
    """Its grace is over, its jobs are given back, and its process is not yet gone."""
    open_lane(store)
    claimed = running(store, worker="mine")
    store.heartbeats.remove("mine")
    (before,) = attempts_of(store, claimed.job_id)

    assert not store.workers.hand_back(claimed, after=timedelta(0), outcome="stopped")
    assert not store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    assert not store.workers.fail(claimed, ERROR, call_seconds=0.1)

    assert before.outcome == "handed back"
    assert attempts_of(store, claimed.job_id) == [before]


def test_what_a_dead_child_held_is_taken_back_and_counts_as_a_loss(store: Store) -> None:
    open_lane(store)
    dead, alive = running(store, worker="mine", pid=11), running(store, worker="mine", pid=12)
    other = running(store, worker="other", pid=11)
    for claimed in (dead, alive, other):
        change_attempts(store, claimed.job_id, claimed_at=SETTLED)

    assert store.heartbeats.child_died("mine", {12}, claimed_until=time_at(store)) == 1

    row = row_of(store, dead.job_id)
    assert (row.state, row.attempt, row.losses) == ("queued", 1, 1)
    assert outcomes_of(store, dead.job_id) == ["lost"]
    for claimed in (alive, other):
        assert row_of(store, claimed.job_id).state == "running"
        assert outcomes_of(store, claimed.job_id) == [None]


def test_without_any_child_alive_everything_is_taken_back(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine", pid=11)
    change_attempts(store, claimed.job_id, claimed_at=SETTLED)

    assert store.heartbeats.child_died("mine", (), claimed_until=time_at(store)) == 1
    assert row_of(store, claimed.job_id).state == "queued"


def test_a_child_that_claimed_since_the_living_were_listed_is_believed_to_live(store: Store) -> None:
    """However long the statement was on its way: that they are listed lies behind it."""
    open_lane(store)
    listed_at = time_at(store)
    claimed = running(store, worker="mine", pid=13)

    assert store.heartbeats.child_died("mine", {12}, claimed_until=listed_at) == 0
    assert row_of(store, claimed.job_id).state == "running"


def test_a_child_that_was_ended_by_its_time_limit_failed_and_was_not_lost(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine", pid=11, max_attempts=2)
    change_attempts(store, claimed.job_id, claimed_at=SETTLED, ends_at=SETTLED)

    assert store.heartbeats.child_died("mine", {12}, claimed_until=time_at(store)) == 1

    row = row_of(store, claimed.job_id)
    assert (row.state, row.attempt, row.losses) == ("queued", 1, 0)
    assert outcomes_of(store, claimed.job_id) == ["timed out"]


def test_the_last_attempt_that_was_ended_by_its_time_limit_is_final(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine", pid=11, max_attempts=1)
    change_attempts(store, claimed.job_id, claimed_at=SETTLED, ends_at=SETTLED)

    store.heartbeats.child_died("mine", (), claimed_until=time_at(store))

    row = row_of(store, claimed.job_id)
    assert row.state == "failed"
    assert "time limit" in row.error


def test_a_dead_child_whose_job_had_expired_frees_its_place(store: Store) -> None:
    open_lane(store, concurrency=1)
    claimed = running(store, worker="mine", pid=11)
    pass_deadline(store, claimed.job_id)
    store.upkeep.expire(10)
    change_attempts(store, claimed.job_id, claimed_at=SETTLED)
    submit(store)
    assert release(store) == [], "the expired job's call may still be open"

    store.heartbeats.child_died("mine", (), claimed_until=time_at(store))

    assert row_of(store, claimed.job_id).state == "expired"
    assert len(release(store)) == 1
