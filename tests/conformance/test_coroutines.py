"""Operations that are `async def` from their message to their record: how they are stopped, and what pace they keep."""

import asyncio
import json
import logging
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from tests.support.jobs import (
    LANE,
    attempts_of,
    lane_row,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    result_of,
    row_of,
    submit,
)
from tests.support.running import run_one, runner_of
from tests.support.waiting import wait_until
from tidegate import errors
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.errors import AttemptStopped, DatabaseUnreachableError
from tidegate.execution.progress import ProgressReporter
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.operations.retry import RetryPolicy
from tidegate.stores import Store

ONCE = RetryPolicy(attempts=1)


def test_a_coroutine_s_result_and_reports_are_recorded(store: Store) -> None:
    async def made(params: JsonValue, attempt: Attempt) -> JsonValue:
        attempt.progress(1, 4, "begun")
        await asyncio.sleep(0.1)
        return [params, attempt.number, attempt.job_id]

    job_id = run_one(store, made, queue="io")

    row = row_of(store, job_id)
    assert (row.state, row.done, row.total, row.note) == ("succeeded", 1, 4, "begun")
    assert json.loads(result_of(store, job_id) or b"") == [{}, 1, job_id]
    assert outcomes_of(store, job_id) == ["succeeded"]


def test_one_that_takes_longer_than_it_may_is_cancelled_and_has_failed(store: Store) -> None:
    ends = []

    async def made(params: JsonValue) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ends.append("closed")

    job_id = run_one(store, made, queue="io", attempt_timeout="300ms", timeout="1m", retry=ONCE)

    assert ends == ["closed"]
    assert row_of(store, job_id).state == "failed"
    assert json.loads(row_of(store, job_id).error) == {
        "code": "operation_error",
        "message": "the attempt took longer than its timeout",
    }
    (attempt,) = attempts_of(store, job_id)
    assert attempt.outcome == "error"
    assert timedelta(seconds=0.25) < attempt.ended_at - attempt.claimed_at < timedelta(seconds=20)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_one_that_reports_nothing_is_stopped_when_its_job_no_longer_counts(store: Store, how: str) -> None:
    is_waiting, ends = threading.Event(), []

    async def made(params: JsonValue) -> None:
        is_waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    made_operation = operation(name="made", downstream=LANE, queue="io")(made)
    open_lane(store)
    job_id = submit(store, operation="made")
    released = release_one(store)
    thread = threading.Thread(target=runner_of(store, made_operation).run, args=(job_id, released.fence), daemon=True)
    thread.start()
    assert is_waiting.wait(10)
    version = row_of(store, job_id).version

    if how == "cancel":
        store.callers.cancel(job_id, IMPLICIT_CLIENT)
    else:
        pass_deadline(store, job_id)

    thread.join(timeout=20)
    assert not thread.is_alive()
    assert ends == ["cancelled"]
    row = row_of(store, job_id)
    assert row.state == ("cancelled" if how == "cancel" else "expired")
    assert outcomes_of(store, job_id) == ["stopped"]
    assert row.version <= version + 2, "looking writes nothing"


def test_the_calls_of_coroutines_keep_the_lane_s_pace_together(store: Store) -> None:
    open_lane(store, rates=("20/s",), burst=1)
    called_at: list[float] = []

    async def made(params: JsonValue, attempt: Attempt) -> None:
        async def call() -> None:
            await attempt.aslot()
            called_at.append(time.monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(call())

    crawl = operation(name="made", downstream=LANE, queue="io", paced="calls")(made)
    for _ in range(2):
        submit(store, operation="made", paced_by_calls=True)
    both = release(store)
    began = time.monotonic()
    threads = [
        threading.Thread(target=runner_of(store, crawl).run, args=(job.job_id, job.fence), daemon=True) for job in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert [row_of(store, job.job_id).state for job in both] == ["succeeded"] * 2
    assert len(called_at) == 8
    # Counted from the beginning: a busy machine makes calls late, and never early.
    assert all(at >= began + number * 0.05 for number, at in enumerate(sorted(called_at)))


@pytest.mark.parametrize("is_in_group", [False, True])
def test_a_coroutine_that_says_refused_makes_the_lane_rest(store: Store, is_in_group: bool) -> None:
    async def call() -> None:
        raise errors.Refused("the CRM is full", after=30)

    async def made(params: JsonValue) -> None:
        if not is_in_group:
            await call()
        async with asyncio.TaskGroup() as group:
            group.create_task(call())

    job_id = run_one(store, made, queue="io", retry=ONCE)

    row, lane = row_of(store, job_id), lane_row(store)
    assert (row.state, row.attempt, outcomes_of(store, job_id), lane.refusals) == ("queued", 0, ["refused"], 1)


def test_a_cancel_is_seen_by_one_that_waits_for_a_slot_far_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine that stands still for 20 ms the first slot would be missed, and the next is an hour away.
    monkeypatch.setattr("tidegate.rate_limit.LATE", 10_000_000)
    open_lane(store, rates=("1/h",), burst=1)
    called = threading.Event()

    async def made(params: JsonValue, attempt: Attempt) -> None:
        for _ in range(2):
            await attempt.aslot()
            called.set()

    crawl = operation(name="made", downstream=LANE, queue="io", paced="calls")(made)
    job_id = submit(store, operation="made", paced_by_calls=True)
    released = release_one(store)
    thread = threading.Thread(target=runner_of(store, crawl).run, args=(job_id, released.fence), daemon=True)
    thread.start()
    assert called.wait(10)

    store.callers.cancel(job_id, IMPLICIT_CLIENT)

    thread.join(timeout=20)
    assert not thread.is_alive()
    assert (row_of(store, job_id).state, outcomes_of(store, job_id)) == ("cancelled", ["stopped"])
    wait_until(
        lambda: all(each.name != "slot" for each in threading.enumerate()), description="nobody waits for the slot"
    )


def test_an_attempt_of_which_nothing_is_known_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> bool:
        raise DatabaseUnreachableError("no")

    def reporter(read: Any, ends: float) -> ProgressReporter:
        return ProgressReporter(lambda _: True, read, lambda: ends)

    caplog.set_level(logging.WARNING)
    later = time.monotonic() + 60
    reporter(lambda: True, later).check()
    assert caplog.text == ""
    reporter(away, later).check()
    assert "not known whether the attempt still counts, the database can't be reached" in caplog.text
    with pytest.raises(AttemptStopped, match="stopped"):
        reporter(lambda: False, later).check()
    with pytest.raises(AttemptStopped, match="timed out"):
        reporter(lambda: True, time.monotonic()).check()
