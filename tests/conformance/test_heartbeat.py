"""The thread that says that a worker lives, by its single turns and as it runs."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support import sqlite
from tests.support.jobs import (
    WORKER,
    change_attempts,
    change_job,
    open_lane,
    outcomes_of,
    release,
    row_of,
    running,
    submit,
    time_at,
)
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.time import database_now
from tidegate.execution.heartbeat import Heartbeat
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.metrics.counters import CountWriter
from tidegate.stores import HeartbeatStore, Store

LEASE = timedelta(seconds=15)


class Bells:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1


def heartbeat_of(
    store: Store,
    *,
    children: set[int] | None = None,
    bells: Bells | None = None,
    lease: timedelta = LEASE,
    open_attempts: OpenAttempts | None = None,
) -> Heartbeat:
    return Heartbeat(
        store.heartbeats,
        worker="mine",
        queue="io",
        size=8,
        lease=lease,
        children=None if children is None else lambda: set(children),
        wake_all=(bells or Bells()).ring,
        write_counts=CountWriter(store.counts, store.counted.add).turn,
        open_attempts=open_attempts,
    )


def test_a_beat_shows_the_worker_and_renews_its_leases(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))
    store.heartbeats.remove(WORKER)

    open_attempts = OpenAttempts()

    with open_attempts.holding(claimed.job_id, claimed.fence):
        assert heartbeat_of(store, open_attempts=open_attempts).run_once() == 0

    assert store.heartbeats.sizes() == {"io": 8}
    assert row_of(store, claimed.job_id).lease_until > time_at(store) + LEASE / 2


def test_a_beat_renews_nothing_that_no_thread_works_on(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine")
    before = row_of(store, claimed.job_id)

    heartbeat_of(store).run_once()

    assert row_of(store, claimed.job_id) == before


def test_a_beat_renews_what_a_living_child_has_whatever_it_computes(store: Store) -> None:
    open_lane(store)
    alive, dead = running(store, worker="mine", pid=11), running(store, worker="mine", pid=12)
    for claimed in (alive, dead):
        change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))

    heartbeat_of(store, children={11}).run_once()

    soon = time_at(store) + LEASE / 2
    assert row_of(store, alive.job_id).lease_until > soon
    assert row_of(store, dead.job_id).lease_until < soon


def test_what_was_locked_at_a_beat_is_renewed_soon_after(postgresql_url: str) -> None:
    store = Store(Database(postgresql_url))
    open_lane(store)
    claimed, open_attempts = running(store, worker="mine"), OpenAttempts()
    change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))
    heartbeat = heartbeat_of(store, open_attempts=open_attempts)

    with open_attempts.holding(claimed.job_id, claimed.fence):
        with store.database.transaction() as another:
            another.execute(select(jobs.c.id).where(jobs.c.id == claimed.job_id).with_for_update())
            heartbeat.run_once()
        heartbeat.run_once()

    assert row_of(store, claimed.job_id).lease_until > time_at(store) + LEASE / 2
    store.database.close()


def test_a_worker_that_no_message_reaches_has_no_places_and_keeps_its_jobs(store: Store) -> None:
    open_lane(store)
    claimed, open_attempts, bells = running(store, worker="mine"), OpenAttempts(), Bells()
    store.heartbeats.remove(WORKER)
    heartbeat = heartbeat_of(store, open_attempts=open_attempts, bells=bells)
    heartbeat.start()
    submit(store)

    with open_attempts.holding(claimed.job_id, claimed.fence):
        heartbeat.hears(hears=False)
        wait_until(lambda: store.heartbeats.sizes() == {"io": 0}, description="it has no places", timeout_seconds=3)
        assert release(store) == []
        change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))
        heartbeat.hears(hears=False)
        soon = time_at(store) + LEASE / 2
        wait_until(lambda: row_of(store, claimed.job_id).lease_until > soon, description="its job is renewed")

        heartbeat.hears(hears=True)
        wait_until(
            lambda: store.heartbeats.sizes() == {"io": 8}, description="it has its places again", timeout_seconds=3
        )
        wait_until(lambda: bells.rung == 1, description="who lets jobs go is told")
        assert len(release(store)) == 1

    heartbeat.stop()


def test_between_two_beats_nothing_is_written(store: Store) -> None:
    heartbeat = heartbeat_of(store)
    heartbeat.run_once()
    open_lane(store)
    claimed = running(store, worker="mine")
    before = row_of(store, claimed.job_id)

    heartbeat.run_once()

    assert row_of(store, claimed.job_id) == before


def test_a_child_that_vanished_loses_its_job_and_the_gate_is_woken(store: Store) -> None:
    open_lane(store)
    children, bells = {11, 12}, Bells()
    heartbeat = heartbeat_of(store, children=children, bells=bells)
    dead, alive = running(store, worker="mine", pid=11), running(store, worker="mine", pid=12)
    for claimed in (dead, alive):
        change_attempts(store, claimed.job_id, claimed_at=database_now(-timedelta(seconds=5)))
    assert heartbeat.run_once() == 0

    children.remove(11)

    assert heartbeat.run_once() == 1
    assert bells.rung == 1
    assert row_of(store, dead.job_id).state == "queued"
    assert row_of(store, alive.job_id).state == "running"


def test_threads_have_no_children_to_lose(store: Store) -> None:
    open_lane(store)
    claimed = running(store, worker="mine", pid=11)
    change_attempts(store, claimed.job_id, claimed_at=database_now(-timedelta(seconds=5)))

    assert heartbeat_of(store).run_once() == 0
    assert row_of(store, claimed.job_id).state == "running"


def test_a_stop_gives_back_what_still_runs(store: Store) -> None:
    open_lane(store)
    heartbeat = heartbeat_of(store)
    heartbeat.start()
    claimed = running(store, worker="mine")

    assert heartbeat.stop() == 1

    assert row_of(store, claimed.job_id).state == "queued"
    assert outcomes_of(store, claimed.job_id) == ["handed back"]
    assert store.heartbeats.sizes() == {"io": 8}, "only the one that opened the lane is left"


def test_a_running_heartbeat_renews_by_itself(store: Store) -> None:
    open_lane(store)
    open_attempts = OpenAttempts()
    heartbeat = heartbeat_of(store, lease=timedelta(seconds=2), open_attempts=open_attempts)
    heartbeat.start()
    claimed = running(store, worker="mine")
    first = row_of(store, claimed.job_id).lease_until
    change_job(store, claimed.job_id, lease_until=first - timedelta(seconds=30))

    with open_attempts.holding(claimed.job_id, claimed.fence):
        wait_until(
            lambda: row_of(store, claimed.job_id).lease_until > first - timedelta(seconds=20), description="a beat"
        )

    heartbeat.stop()


@pytest.fixture
def missing(tmp_path: Path) -> Iterator[Store]:
    """A store whose database is not there yet."""
    database = Database(f"sqlite:///{tmp_path / 'later' / 'tidegate.db'}")
    yield Store(database)
    database.close()


def test_a_worker_that_starts_while_the_database_is_away_is_seen_when_it_is_back(
    missing: Store, tmp_path: Path
) -> None:
    heartbeat = heartbeat_of(missing)

    heartbeat.start()

    (tmp_path / "later").mkdir()
    sqlite.fresh_database(tmp_path / "later")
    wait_until(missing.heartbeats.sizes, description="the worker is seen")
    heartbeat.stop()


def test_a_turn_that_fails_is_not_the_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [KeyError("a child that went while it was counted")]

    def children() -> set[int]:
        if failures:
            raise failures.pop()
        return {1}

    looked: list[set[int]] = []

    def look(_self: object, _worker: str, alive: set[int], **_: object) -> int:
        looked.append(alive)
        return 0

    monkeypatch.setattr(HeartbeatStore, "child_died", look, raising=True)
    heartbeat = Heartbeat(
        store.heartbeats,
        worker="mine",
        queue="cpu",
        size=2,
        lease=LEASE,
        children=children,
        wake_all=Bells().ring,
        write_counts=CountWriter(store.counts, store.counted.add).turn,
    )
    heartbeat.start()

    wait_until(lambda: looked, description="the next turn looks at the children")

    heartbeat.stop()


@pytest.mark.parametrize(("children", "turns"), [(None, 1), ({7}, 3)])
def test_between_two_beats_it_wakes_only_to_look_after_children(
    store: Store, monkeypatch: pytest.MonkeyPatch, children: set[int] | None, turns: int
) -> None:
    """Ten workers that wake twice a second for nothing would cost an idle cluster as much as its schedulers do."""
    heartbeat = heartbeat_of(store, children=children)
    seen: list[int] = []
    turn = heartbeat._turn

    def counted() -> None:
        seen.append(1)
        turn()

    monkeypatch.setattr(heartbeat, "_turn", counted)

    heartbeat.start()
    time.sleep(1.8)
    heartbeat.stop()

    assert turns <= len(seen) <= turns + 1
