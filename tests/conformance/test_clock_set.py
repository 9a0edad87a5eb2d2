"""The database's clock is set, by half a minute or by an hour: no lane has more calls open than places, nobody who
lives loses anything, and nothing stands still until a clock that was set back has caught up.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.support.jobs import (
    LANE,
    attempts_of,
    change_job,
    change_lane,
    claim,
    open_lane,
    release,
    release_one,
    row_of,
    running,
    submit,
    submit_many,
    time_at,
)
from tests.support.operations import echo
from tests.support.running import runner_of
from tidegate import clock
from tidegate.database.time import database_now
from tidegate.maintenance.sweep import ClockWatch, sweep
from tidegate.operations.operation import Body
from tidegate.stores import Store

LEASE = timedelta(seconds=2)
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=30)
_JOBS = 5

SetClock = Callable[[timedelta], None]


@pytest.fixture
def set_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the database's clock by so much."""
    if store.database.is_sqlite:
        offset = [timedelta(0)]
        monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + offset[0])
        return lambda by: offset.append(offset.pop() + by)
    with store.database.transaction() as connection:
        # Functions of these names that are found before the server's own.
        connection.execute(text("CREATE SCHEMA wrong"))
        connection.execute(text("CREATE TABLE wrong.clock AS SELECT interval '0' AS by"))
        for name, kind in (("clock_timestamp", "VOLATILE"), ("statement_timestamp", "STABLE")):
            reads = f"SELECT pg_catalog.{name}() + by FROM wrong.clock"  # noqa: S608 - our own names
            head = f"CREATE FUNCTION wrong.{name}() RETURNS timestamptz LANGUAGE sql {kind}"
            connection.execute(text(f"{head} AS '{reads}'"))
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET search_path = wrong, pg_catalog, public'))
    store.database.engine.dispose()

    def by(offset: timedelta) -> None:
        with store.database.transaction() as connection:
            connection.execute(text("UPDATE wrong.clock SET by = by + :more"), {"more": offset})

    return by


@pytest.mark.parametrize("minutes", [0.5, 40, -0.5, -60])
def test_after_a_clock_that_was_set(store: Store, set_clock: SetClock, minutes: float) -> None:
    """No more calls are open than the lane's places, and nobody loses anything."""
    open_lane(store, concurrency=_JOBS)
    submit_many(store, 2 * _JOBS)
    calls = set()
    for released in release(store):
        claimed = claim(store, released, worker="mine", lease=LEASE, attempt_timeout=timedelta(seconds=1))
        assert claimed is not None
        calls.add((claimed.job_id, claimed.fence))
    assert len(calls) == _JOBS
    watch = ClockWatch(LEASE)
    sweep(store.upkeep, retention=timedelta(days=1), watch=watch)
    watch._trusted_from = 0.0  # its first look was long ago
    before = time_at(store)

    set_clock(timedelta(minutes=minutes))

    assert abs(time_at(store) - before - timedelta(minutes=minutes)) < timedelta(seconds=20)
    open_lane(store, concurrency=_JOBS)  # its worker says that it lives
    assert release(store) == []
    assert sweep(store.upkeep, retention=timedelta(days=1), watch=watch).total == 0
    store.heartbeats.renew("mine", calls, lease=LEASE)
    watch._trusted_from = 0.0
    assert sweep(store.upkeep, retention=timedelta(days=1), watch=watch).total == 0
    assert release(store) == []
    assert store.lanes.held() == {LANE: _JOBS}


def swept(store: Store) -> None:
    """By a scheduler that has just started and knows nothing of the time before."""
    sweep(store.upkeep, retention=timedelta(days=1), watch=ClockWatch(LEASE))


def test_what_was_submitted_before_the_clock_was_set_back_goes_now(store: Store, set_clock: SetClock) -> None:
    open_lane(store)
    first, second = submit(store, timeout=2 * HOUR), submit(store, timeout=2 * HOUR)
    set_clock(-HOUR)
    assert release(store) == []

    swept(store)

    assert [each.job_id for each in release(store)] == [first, second]


def test_what_its_caller_wants_later_stays_later(store: Store, set_clock: SetClock) -> None:
    open_lane(store)
    job_id = submit(store, timeout=9 * HOUR)
    change_job(store, job_id, run_at=time_at(store) + timedelta(minutes=10))
    wanted = row_of(store, job_id).run_at
    set_clock(-HOUR)

    swept(store)

    assert row_of(store, job_id).run_at == wanted


def test_what_came_back_is_tried_again_no_later_than_it_may_be(store: Store, set_clock: SetClock) -> None:
    open_lane(store)
    claimed = running(store, timeout=9 * HOUR)
    store.workers.hand_back(claimed, after=timedelta(seconds=5), outcome="unknown here")
    set_clock(-HOUR)

    swept(store)

    assert release_one(store).job_id == claimed.job_id


def test_the_lease_and_the_place_of_one_that_is_dead_run_out_as_they_would_have(
    store: Store, set_clock: SetClock
) -> None:
    open_lane(store, concurrency=1)
    claimed = running(store, timeout=9 * HOUR)
    (before,) = attempts_of(store, claimed.job_id)
    set_clock(-HOUR)

    swept(store)

    soon = time_at(store) + SOON
    assert row_of(store, claimed.job_id).lease_until < soon
    (attempt,) = attempts_of(store, claimed.job_id)
    assert attempt.claimed_at < soon
    lasts = attempt.place_until - attempt.claimed_at
    assert abs(lasts - (before.place_until - before.claimed_at)) < timedelta(seconds=0.1)
    assert store.heartbeats.child_died("worker-1", [99], claimed_until=time_at(store)) == 1, "its child, also at once"


def test_a_release_whose_message_was_lost_and_a_worker_that_died_are_noticed(store: Store, set_clock: SetClock) -> None:
    open_lane(store)
    job_id = submit(store, timeout=9 * HOUR)
    release_one(store)
    set_clock(-HOUR)

    swept(store)

    assert attempts_of(store, job_id)[0].place_until < time_at(store) + SOON
    set_clock(SOON)
    assert store.heartbeats.sizes() == {}


def test_a_lane_rests_no_longer_than_it_may(store: Store, set_clock: SetClock) -> None:
    open_lane(store)
    submit(store, timeout=9 * HOUR)
    change_lane(store, paused_until=database_now(SOON))
    set_clock(-HOUR)

    swept(store)
    set_clock(timedelta(minutes=6))
    open_lane(store)

    assert len(release(store)) == 1


def test_a_call_does_not_wait_for_a_slot_of_the_clock_before(store: Store, set_clock: SetClock) -> None:
    open_lane(store, rates=("10/s",))
    job_id = submit(store, operation=echo.name, timeout=9 * HOUR, body=Body(content=b"1"))
    first = release_one(store)
    set_clock(-HOUR)
    began = clock.monotonic()

    runner_of(store, echo).run(job_id, first.fence)

    while row_of(store, job_id).state != "succeeded":
        assert clock.monotonic() - began < 2.5, "slots of the clock before are believed to lie a second ahead at most"
        for again in release(store):
            runner_of(store, echo).run(job_id, again.fence)
        clock.sleep(0.05)


def test_a_clock_that_was_not_set_changes_nothing(store: Store) -> None:
    """However long somebody wants to wait."""
    open_lane(store)
    claimed = running(store, timeout=9 * HOUR)
    store.workers.hand_back(claimed, after=HOUR, outcome="told to wait")
    change_lane(store, paused_until=database_now(HOUR))
    before = row_of(store, claimed.job_id)

    swept(store)

    assert row_of(store, claimed.job_id) == before
    assert release(store) == []


@pytest.mark.parametrize("rate", ["6/s", "2/s"])
def test_a_paced_lane_goes_on_at_its_pace_after_a_clock_that_was_set_back(
    store: Store, set_clock: SetClock, rate: str
) -> None:
    """Its next slot, and that of a call, were of the clock that was: no slot comes near while it is only cut to size
    at each look and not kept."""
    open_lane(store, rates=(rate,))
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed
    set_clock(-SOON)
    submit(store)
    began = clock.monotonic()
    while not release(store):
        assert clock.monotonic() - began < 2, "it stands still until the clock has caught up"
        clock.sleep(0.05)


def test_a_call_gets_a_slot_after_a_clock_that_was_set_back(store: Store, set_clock: SetClock) -> None:
    open_lane(store, rates=("2/s",))
    submit(store)
    claimed = claim(store, release_one(store))
    assert claimed
    set_clock(-SOON)
    began = clock.monotonic()
    while store.slots.reserve(claimed, within=timedelta(milliseconds=100)).due is None:
        assert clock.monotonic() - began < 2, "it stands still until the clock has caught up"
        clock.sleep(0.05)


def test_a_slot_of_the_clock_before_holds_no_place_for_longer(store: Store) -> None:
    """Released right before it was set back, and claimed after that by a worker that then dies."""
    open_lane(store)
    job_id = submit(store)
    released = release_one(store)
    change_job(store, job_id, slot_at=database_now(timedelta(seconds=30)))

    assert claim(store, released, attempt_timeout=timedelta(seconds=10))

    (attempt,) = attempts_of(store, job_id)
    assert attempt.place_until - time_at(store) < timedelta(seconds=14)
