"""Followers: released on the place of an open call, they wait for its end, and the two are never open together."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydantic import JsonValue
from sqlalchemy import delete, func, select, update

from tests.support.jobs import (
    LANE,
    LEASE,
    WORKER,
    attempts_of,
    change_attempts,
    change_job,
    change_lane,
    claim,
    know_call_seconds,
    lane_row,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    row_of,
    submit,
    time_at,
)
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tidegate.database.schema import attempts, jobs, samples, workers
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.execution.attempt import Turn
from tidegate.execution.handoff import Handoff, RedisHandoff, SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.jobs.job import Claim
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.outcome import Succeeded
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from tidegate.operations.registry import Registry
from tidegate.states import FINAL_STATES
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def quick_lane(store: Store, *, jobs: int, size: int = 8, concurrency: int | None = 1, rate: str = "") -> list[str]:
    open_lane(store, size=size, call_seconds=0.1, concurrency=concurrency, rates=(rate,) if rate else ())
    return [submit(store) for _ in range(jobs)]


def open_call_and_follower(store: Store, rate: str = "") -> tuple[Claim, Claim]:
    """A lane with one place, its open call, and the job that waits for its end."""
    quick_lane(store, jobs=2, rate=rate)
    first, second = (claim(store, released) for released in release(store))
    assert first is not None
    assert second is not None
    assert second.follows == (first.job_id, first.fence)
    return first, second


def test_every_open_call_gets_one_follower(store: Store) -> None:
    ids = quick_lane(store, jobs=6, concurrency=2)

    released = release(store)

    assert [job.job_id for job in released] == ids[:4]
    assert [attempts_of(store, job_id)[0].follows_job for job_id in ids[:4]] == [None, None, ids[0], ids[1]]
    assert release(store) == [], "and no second one"
    assert store.lanes.held() == {LANE: 2}, "a follower has no place of its own"


def test_the_place_is_the_followers_once_the_call_before_has_ended(store: Store) -> None:
    first, second = open_call_and_follower(store)
    third = submit(store)
    assert store.slots.turn(second) is Turn.LATER

    store.workers.succeed(first, RESULT, call_seconds=0.1)

    assert store.slots.turn(second) is Turn.NOW
    assert store.lanes.held() == {LANE: 1}
    assert [job.job_id for job in release(store)] == [third], "who follows it in turn"
    assert attempts_of(store, third)[0].follows_job == second.job_id


def test_a_call_whose_follower_gave_up_gets_no_other(store: Store) -> None:
    _, second = open_call_and_follower(store)

    store.workers.hand_back(second, after=timedelta(0), outcome="no place")

    assert row_of(store, second.job_id).attempt == 0
    assert release(store) == []


def test_a_dead_call_and_its_follower_are_one_place(store: Store) -> None:
    first, second = open_call_and_follower(store)
    submit(store)
    store.database.execute(update(workers).values(seen_until=database_now(-LEASE)))
    store.heartbeats.beat("another", queue=Queue.IO, size=8, until=LEASE)

    assert store.slots.turn(second) is Turn.LATER, "it may still be open at the downstream"
    assert (store.lanes.held(), release(store)) == ({LANE: 1}, [])

    change_attempts(store, first.job_id, place_until=database_now(-timedelta(seconds=1)))
    assert store.upkeep.free_places(10, until=time_at(store)) == 1
    assert store.slots.turn(second) is Turn.NOW
    assert store.lanes.held() == {LANE: 1}


@pytest.mark.parametrize("why", ["slow", "lowered", "troubled", "busy", "cpu", "a free place"])
def test_nobody_follows(store: Store, why: str) -> None:
    quick_lane(store, jobs=2, concurrency=3 if why == "a free place" else 2, size=2 if why == "busy" else 8)
    assert len(release(store)) == 2
    if why == "slow":
        know_call_seconds(store, 0.6)
    elif why == "lowered":
        store.limits.change(LANE, {"concurrency": 1}, paused=None)
    elif why == "troubled":
        change_lane(store, failures=1)
    elif why == "cpu":
        store.database.execute(update(attempts).values(queue=Queue.CPU))
    last = submit(store)

    released = release(store)

    if why == "a free place":
        assert [job.job_id for job in released] == [last]
        assert attempts_of(store, last)[0].follows_job is None
    else:
        assert released == []


def test_a_lane_whose_calls_are_not_known_yet_is_tried(store: Store) -> None:
    quick_lane(store, jobs=2)
    store.database.execute(delete(samples))

    assert len(release(store)) == 2


def test_followers_leave_half_of_the_threads_to_another_lane_with_due_jobs(store: Store) -> None:
    open_lane(store, "other", concurrency=1)
    quick_lane(store, jobs=10, concurrency=3, size=8)
    for _ in range(3):
        submit(store, lane="other")

    release(store)

    out = required(store.database.fetch_one(select(func.count()).where(attempts.c.downstream == LANE)))[0]
    assert out == 4


@pytest.mark.parametrize("why", ["paused", "rests", "cancelled", "late"])
def test_a_follower_that_may_not_call_any_more_is_told_so(store: Store, why: str) -> None:
    _, second = open_call_and_follower(store)
    if why == "paused":
        change_lane(store, paused=True)
    elif why == "rests":
        change_lane(store, paused_until=database_now(timedelta(seconds=30)))
    elif why == "cancelled":
        change_job(store, second.job_id, cancel_requested=True)
    else:
        pass_deadline(store, second.job_id)

    assert store.slots.turn(second) is Turn.NEVER


class Calls:
    """What an operation did: how many of its calls are open, how many were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.open = 0
        self.most = 0
        self.answers: list[str] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            yield
        finally:
            with self._lock:
                self.open -= 1


def runner_of(store: Store, calls: Calls, handoff: Handoff, *, call_seconds: float = 0.05) -> Runner:
    @operation(name="echo", downstream=LANE, queue=Queue.IO)
    def call(params: JsonValue) -> JsonValue:
        with calls.one():
            time.sleep(call_seconds)
        return params

    return Runner(
        store,
        Registry.of([call]),
        worker=WORKER,
        lease=LEASE,
        max_result=1000,
        notifier=SilentNotifier(),
        handoff=handoff,
    )


def run_all(store: Store, runners: list[Runner], *, threads: int) -> None:
    """Gates and runners side by side until every job is final."""
    gates = [Gate(store.lanes), Gate(store.lanes)]
    with ThreadPoolExecutor(threads) as pool:
        running = []

        def is_done() -> bool:
            for gate in gates:
                for number, job in enumerate(gate.run_once().released):
                    running.append(pool.submit(runners[number % len(runners)].run, job.job_id, job.fence))
            return not store.database.fetch_all(select(jobs.c.id).where(jobs.c.state.not_in(FINAL_STATES)).limit(1))

        wait_until(is_done, description="every job is final", timeout_seconds=60)
        for each in running:
            each.result()


@pytest.mark.parametrize("is_told", [True, False])
def test_no_more_calls_are_open_than_the_concurrency_whoever_follows(
    store: Store, broker: Valkey, is_told: bool
) -> None:
    quick_lane(store, jobs=40, concurrency=3, size=16)
    calls = Calls()
    handovers = [RedisHandoff(broker.url) if is_told else SilentHandoff() for _ in range(2)]

    run_all(store, [runner_of(store, calls, handoff) for handoff in handovers], threads=16)

    assert calls.most == 3
    followed = required(
        store.database.fetch_one(
            select(func.count()).where(attempts.c.follows_job.is_not(None), attempts.c.outcome == "succeeded")
        )
    )[0]
    assert followed > 10, "most of them were followers"


def test_a_follower_is_told_by_another_process_and_goes_before_the_outcome_is_recorded(
    store: Store, broker: Valkey
) -> None:
    first, second = open_call_and_follower(store)
    told, teller = RedisHandoff(broker.url), RedisHandoff(broker.url)
    calls = Calls()
    with ThreadPoolExecutor(1) as pool:
        # As a message that waits for a thread would: the claim is made, what follows is the rest of the attempt.
        running = pool.submit(runner_of(store, calls, told)._attempt, second)
        wait_until(lambda: not told.is_alarmed(), description="it listens")
        assert calls.most == 0

        teller.notify_call_ended((first.job_id, first.fence))

        outcome, _ = running.result(timeout=10)
    assert isinstance(outcome, Succeeded)
    assert calls.most == 1
    assert outcomes_of(store, first.job_id) == [None]
    assert store.lanes.held() == {LANE: 1}


def test_after_an_alarm_a_follower_that_was_told_looks_whether_its_lane_rests(store: Store, broker: Valkey) -> None:
    first, second = open_call_and_follower(store)
    handoff = RedisHandoff(broker.url)
    handoff.wait(("nobody", 1), 0)
    wait_until(lambda: not handoff.is_alarmed(), description="it listens")
    handoff.alarm()
    wait_until(handoff.is_alarmed, description="the alarm was heard")
    change_lane(store, paused_until=database_now(timedelta(seconds=30)))
    handoff.notify_call_ended((first.job_id, first.fence))
    calls = Calls()

    outcome, _ = runner_of(store, calls, handoff)._attempt(second)

    assert calls.most == 0
    assert "no place" in str(outcome)


def test_a_follower_does_not_wait_for_long(store: Store) -> None:
    _, second = open_call_and_follower(store)

    outcome, _ = runner_of(store, Calls(), SilentHandoff())._attempt(second)

    assert "no place" in str(outcome)


def test_without_redis_a_follower_finds_its_turn_in_the_rows(store: Store, broker: Valkey) -> None:
    first, second = open_call_and_follower(store)
    broker.kill()
    calls = Calls()
    store.workers.succeed(first, RESULT, call_seconds=0.1)

    outcome, _ = runner_of(store, calls, RedisHandoff(broker.url))._attempt(second)

    assert isinstance(outcome, Succeeded)


def test_a_follower_of_a_lane_with_a_rate_takes_its_slot_at_its_turn(store: Store) -> None:
    first, second = open_call_and_follower(store, rate="1/s")
    assert second.is_paced
    store.workers.succeed(first, RESULT, call_seconds=0.1)
    pace = lane_row(store).pace

    outcome, _ = runner_of(store, Calls(), SilentHandoff())._attempt(second)

    assert isinstance(outcome, Succeeded)
    assert lane_row(store).pace != pace
    slots = [attempts_of(store, claimed.job_id)[0].slot_at for claimed in (first, second)]
    assert slots[1] - slots[0] >= timedelta(seconds=1)
