"""What callers do: record, read, cancel. Every answer is asked twice: of the store and of the row."""

from datetime import timedelta

import pytest

from tests.support.jobs import (
    attempts_of,
    change_job,
    claim,
    input_of,
    lane_row,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    release_one,
    row_of,
    running,
    submit,
)
from tests.support.present import present
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def test_a_submitted_job_is_queued_and_due_at_once(store: Store) -> None:
    job_id = submit(store, timeout=timedelta(seconds=90))

    job = store.callers.get(job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert (job.state, job.version, job.attempt, job.percent) == (State.QUEUED, 1, 0, 0)
    assert job.created_at <= job.run_at <= job.seen_at
    assert timedelta(seconds=90) <= job.deadline - job.created_at < timedelta(seconds=91)
    assert (job.started_at, job.finished_at, job.slot_at, job.error) == (None, None, None, None)
    row = row_of(store, job_id)
    assert (row.state, row.fence, row.lease_until) == ("queued", 0, None)


def test_the_input_is_kept_byte_for_byte(store: Store) -> None:
    body = Body(content=bytes(range(256)), content_type="application/octet-stream; x=é")

    assert input_of(store, submit(store, body=body)) == body


def test_an_empty_input_is_kept_too(store: Store) -> None:
    body = Body(content=b"", content_type="")

    assert input_of(store, submit(store, body=body)) == body


def test_another_clients_job_is_not_there(store: Store) -> None:
    job_id = submit(store)

    assert store.callers.get(job_id, "somebody-else") is None
    assert store.callers.cancel(job_id, "somebody-else") is None
    assert row_of(store, job_id).state == "queued"


def test_an_unknown_job_is_not_there(store: Store) -> None:
    unknown = "01890000-0000-7000-8000-000000000000"

    assert store.callers.get(unknown, IMPLICIT_CLIENT) is None
    assert store.callers.cancel(unknown, IMPLICIT_CLIENT) is None
    assert store.callers.body(unknown, "result") is None
    assert input_of(store, unknown) is None


@pytest.mark.parametrize("is_running", [False, True])
def test_a_read_past_the_deadline_expires_the_job_without_any_sweep(store: Store, is_running: bool) -> None:
    open_lane(store)
    job_id = running(store).job_id if is_running else submit(store)
    pass_deadline(store, job_id)

    job = store.callers.get(job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert (job.state, job.version) == (State.EXPIRED, 3 if is_running else 2)
    assert job.finished_at is not None
    assert row_of(store, job_id).lease_until is None
    again = store.callers.get(job_id, IMPLICIT_CLIENT)
    assert again is not None
    assert (again.version, again.finished_at) == (job.version, job.finished_at)


def test_a_final_job_past_its_deadline_stays_what_it_was(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    assert store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    pass_deadline(store, claimed.job_id)

    job = store.callers.get(claimed.job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert job.state is State.SUCCEEDED
    assert store.callers.body(claimed.job_id, "result") is not None


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    job_id = submit(store)

    job = store.callers.cancel(job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert (job.state, job.version, job.waits_for) == (State.CANCELLED, 2, None)
    assert job.finished_at is not None


def test_a_released_job_is_cancelled_and_its_message_finds_nothing(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    released = release_one(store)

    assert present(store.callers.cancel(job_id, IMPLICIT_CLIENT)).state is State.CANCELLED

    assert row_of(store, job_id).slot_at is None
    assert claim(store, released) is None
    assert outcomes_of(store, job_id) == ["dropped"]
    assert attempts_of(store, job_id)[0].ended_at is not None, "its place is free"


def test_a_running_job_is_only_asked_to_stop(store: Store) -> None:
    open_lane(store)
    claimed = running(store)

    job = store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert (job.state, job.cancel_requested, job.finished_at) == (State.RUNNING, True, None)
    assert row_of(store, claimed.job_id).lease_until is not None


def test_asking_twice_to_cancel_changes_nothing_more(store: Store) -> None:
    open_lane(store)
    claimed = running(store)

    first = store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)
    second = store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)

    assert first is not None
    assert second is not None
    assert first.version == second.version


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.EXPIRED])
def test_a_final_job_is_not_cancelled(store: Store, state: State) -> None:
    open_lane(store)
    claimed = running(store)
    if state is State.SUCCEEDED:
        assert store.workers.succeed(claimed, RESULT, call_seconds=None)
    elif state is State.FAILED:
        assert store.workers.fail(claimed, {"code": "operation_error", "message": "no"}, call_seconds=None)
    else:
        pass_deadline(store, claimed.job_id)
        store.upkeep.expire(10)
    before = row_of(store, claimed.job_id)

    job = store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)

    assert job is not None
    assert job.state is state
    assert row_of(store, claimed.job_id) == before


def test_past_its_deadline_a_job_expires_and_is_not_cancelled(store: Store) -> None:
    job_id = submit(store)
    pass_deadline(store, job_id)

    assert present(store.callers.cancel(job_id, IMPLICIT_CLIENT)).state is State.EXPIRED
    assert not row_of(store, job_id).cancel_requested


def test_a_job_that_waits_for_a_retry_is_cancelled_at_once(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    store.workers.try_again(
        claimed, {"message": "no"}, after=timedelta(hours=1), is_spent=False, blames_downstream=False, call_seconds=None
    )

    assert present(store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)).state is State.CANCELLED
    assert release(store) == []


def test_a_result_is_read_back_as_it_was_stored(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    content = b"\x00\xff" * 1000
    result = Succeeded(content=content, content_type="image/png", is_json=False)

    assert store.workers.succeed(claimed, result, call_seconds=0.5)

    stored = store.callers.body(claimed.job_id, "result")
    assert stored is not None
    assert (stored.content, stored.content_type, stored.is_json) == (content, "image/png", False)


def test_an_error_is_read_back_whatever_stands_in_it(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    error = {"code": "operation_error", "message": "\ud800 \x00 é \U0001f600", "detail": {1: object}}

    assert store.workers.fail(claimed, error, call_seconds=None)

    job = store.callers.get(claimed.job_id, IMPLICIT_CLIENT)
    assert job is not None
    assert job.error is not None
    assert job.error["message"] == "? \x00 é \U0001f600"


def test_instants_are_exact_to_the_microsecond(store: Store) -> None:
    job_id = submit(store)
    exact = row_of(store, job_id).created_at + timedelta(days=36500, microseconds=1)
    change_job(store, job_id, deadline=exact)

    assert present(store.callers.get(job_id, IMPLICIT_CLIENT)).deadline == exact


def test_a_new_lane_grants_without_a_past(store: Store) -> None:
    open_lane(store, rates=("5/s", "100/d"), burst=2, concurrency=3)

    row = lane_row(store)

    assert (row.rates, row.burst, row.concurrency, row.pace) == ('["5/s","100/d"]', 2, 3, "{}")
