"""A job that did not succeed, submitted again; and the erasure of one that has ended."""

from datetime import timedelta

import pytest
from sqlalchemy import Table, func, select, update

from tests.support.web import Web, assert_is_problem
from tidegate.database.schema import attempts, bodies, jobs
from tidegate.database.statement import required
from tidegate.operations.operation import Body
from tidegate.states import FINAL_STATES, State

on_both = pytest.mark.both_databases("what belongs to a job goes with it by the tables' constraints")

UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
AGAIN = [State.FAILED, State.EXPIRED, State.CANCELLED]


def count(web: Web, table: Table) -> int:
    """Rows of the table."""
    return required(web.database.fetch_one(select(func.count()).select_from(table)))[0]


@pytest.mark.parametrize("state", AGAIN)
def test_a_job_that_did_not_succeed_is_submitted_again_as_a_new_one(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    before = web.row(job_id)

    answer = web.client.post(f"/v1/jobs/{job_id}/retry")

    assert answer.status_code == 202
    document = answer.get_json()
    assert document["id"] != job_id
    assert document["retry_of"] == job_id
    assert (document["state"], document["attempt"], document["error"]) == ("queued", 0, None)
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{document['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    row = web.row(document["id"])
    assert (row.state, row.operation, row.downstream, row.retry_of) == ("queued", "echo", "echo", job_id)
    assert row.created_at > before.created_at
    assert row.deadline > web.store.callers.now()
    assert web.input_of(document["id"]) == web.input_of(job_id) == Body(content=b"1")
    assert web.row(job_id) == before
    assert web.read(job_id).get_json()["retry_of"] is None


def test_a_retry_keeps_the_timeout_and_the_trace(web: Web) -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    job_id = web.accepted(Job_Timeout="77", traceparent=trace)
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    row = web.row(web.client.post(f"/v1/jobs/{job_id}/retry").get_json()["id"])
    assert row.deadline - row.created_at == timedelta(seconds=77)
    assert row.traceparent == trace


def test_a_retry_has_at_most_the_timeout_that_the_operation_has_now(web: Web) -> None:
    job_id = web.job_in(State.CANCELLED)
    web.database.execute(update(jobs).values(deadline=web.row(job_id).created_at + timedelta(hours=9)))
    row = web.row(web.client.post(f"/v1/jobs/{job_id}/retry").get_json()["id"])
    assert row.deadline - row.created_at == timedelta(minutes=10)


def test_a_retry_can_be_retried_and_each_names_the_one_before(web: Web) -> None:
    ids = [web.job_in(State.CANCELLED)]
    for _ in range(3):
        document = web.client.post(f"/v1/jobs/{ids[-1]}/retry").get_json()
        assert document["retry_of"] == ids[-1]
        ids.append(document["id"])
        web.client.post(f"/v1/jobs/{ids[-1]}/cancel")
    assert len(set(ids)) == 4


def test_under_a_key_a_retry_happens_once(web: Web) -> None:
    job_id, other = web.job_in(State.CANCELLED), web.job_in(State.CANCELLED)
    key = {"Idempotency-Key": "again"}
    ids = {web.client.post(f"/v1/jobs/{job_id}/retry", headers=key).get_json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert_is_problem(web.client.post(f"/v1/jobs/{other}/retry", headers=key), 422, "idempotency-conflict")
    assert_is_problem(web.submit(headers=key), 422, "idempotency-conflict")
    assert web.count() == 3


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (State.QUEUED, "job-not-final"),
        (State.RUNNING, "job-not-final"),
        (State.SUCCEEDED, "job-already-final"),
    ],
)
def test_what_goes_on_or_succeeded_is_not_submitted_again(web: Web, state: State, problem: str) -> None:
    job_id = web.job_in(state)
    assert_is_problem(web.client.post(f"/v1/jobs/{job_id}/retry"), 409, problem)
    assert web.count() == 1


def test_past_its_deadline_a_job_can_be_retried_before_anybody_saw_it(web: Web) -> None:
    job_id = web.accepted()
    web.pass_deadline(job_id)
    assert web.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202


def test_a_retry_of_an_operation_that_is_gone_is_a_404(web: Web) -> None:
    job_id = web.job_in(State.CANCELLED)
    web.database.execute(update(jobs).values(operation="gone"))
    assert_is_problem(web.client.post(f"/v1/jobs/{job_id}/retry"), 404, "unknown-operation")


def test_neither_works_on_a_job_that_is_not_there(web: Web) -> None:
    assert_is_problem(web.client.post(f"/v1/jobs/{UNKNOWN}/retry"), 404, "unknown-job")
    assert_is_problem(web.client.delete(f"/v1/jobs/{UNKNOWN}"), 404, "unknown-job")


@on_both
@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_a_final_job_is_erased_with_all_that_belongs_to_it(web: Web, state: State) -> None:
    job_id, other = web.job_in(state), web.accepted()

    answer = web.client.delete(f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.data) == (204, b"")
    assert (web.count(), count(web, bodies), count(web, attempts)) == (1, 1, 0)
    for gone in (
        web.read(job_id),
        web.client.get(f"/v1/jobs/{job_id}/result"),
        web.client.delete(f"/v1/jobs/{job_id}"),
        web.client.post(f"/v1/jobs/{job_id}/cancel"),
        web.client.post(f"/v1/jobs/{job_id}/retry"),
    ):
        assert_is_problem(gone, 404, "unknown-job")
    assert [job["id"] for job in web.client.get("/v1/jobs").get_json()["jobs"]] == [other]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_job_that_goes_on_is_not_erased(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    before = web.row(job_id)
    assert_is_problem(web.client.delete(f"/v1/jobs/{job_id}"), 409, "job-not-final")
    assert web.row(job_id) == before


def test_past_its_deadline_a_job_can_be_erased_before_anybody_saw_it(web: Web) -> None:
    job_id = web.accepted()
    web.pass_deadline(job_id)
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert web.count() == 0


def test_erasing_the_first_leaves_its_retry(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    again = web.client.post(f"/v1/jobs/{job_id}/retry").get_json()["id"]
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert web.read(again).get_json()["retry_of"] == job_id


def test_erasing_an_expired_job_does_not_free_the_place_of_its_open_call(web: Web) -> None:
    job_id = web.job_in(State.RUNNING)
    web.pass_deadline(job_id)
    assert web.store.lanes.held() == {"echo": 1}
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert web.store.lanes.held() == {"echo": 1}


@on_both
def test_the_attempt_of_an_erased_job_goes_when_its_call_has_ended(web: Web) -> None:
    job_id = web.accepted()
    claim = web.claim(job_id)
    web.pass_deadline(job_id)
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204

    assert not web.store.workers.fail(claim, {"code": "operation_error", "message": ""}, call_seconds=None)

    assert web.database.fetch_all(select(attempts)) == []
