"""Cancel and retry of many jobs by what they are, for operators. (That it is only for them: test_keys.)"""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.support.web import Web, assert_is_problem
from tidegate.database_time import database_now
from tidegate.models import clients, jobs
from tidegate.states import State


def act(web: Web, action: str, **selection: Any) -> dict[str, int]:
    """The counts of what was done."""
    answer = web.client.post(f"/v1/jobs/{action}", json=selection)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    counts: dict[str, int] = answer.get_json()
    return counts


def test_cancel_ends_what_is_queued_asks_what_runs_and_leaves_what_has_ended(web: Web) -> None:
    ids = {state: web.job_in(state) for state in State}

    counts = act(web, "cancel")

    assert counts == {"matched": 2, "cancelled": 1, "asked_to_stop": 1, "already_final": 0}
    assert web.row(ids[State.QUEUED]).state == "cancelled"
    assert (web.row(ids[State.RUNNING]).state, web.row(ids[State.RUNNING]).cancel_requested) == ("running", True)
    for state in (State.SUCCEEDED, State.FAILED, State.EXPIRED):
        assert web.row(ids[state]).state == state


def test_a_selection_of_final_jobs_cancels_none(web: Web) -> None:
    web.job_in(State.SUCCEEDED)
    assert act(web, "cancel", state="succeeded")["already_final"] == 1


def test_called_again_while_the_limit_is_matched_cancel_reaches_all(web: Web) -> None:
    for _ in range(7):
        web.accepted()
    matched = [act(web, "cancel", limit=3)["matched"] for _ in range(4)]
    assert matched == [3, 3, 1, 0]
    assert web.client.get("/v1/jobs?state=queued").get_json()["jobs"] == []


def test_every_filter_picks(web: Web) -> None:
    with web.database.writing() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))

    def change(job_id: str, **values: Any) -> None:
        with web.database.single_write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

    by_operation, by_downstream, by_client, by_age, last = (
        web.accepted("raw_echo"),
        web.accepted("quote"),
        web.accepted(),
        web.accepted(),
        web.accepted(),
    )
    change(by_client, client_id="other")
    change(by_age, created_at=database_now(-timedelta(hours=1)))
    hour_ago = (web.store.callers.now() - timedelta(minutes=30)).isoformat()
    for selection, job_id in (
        ({"operation": "raw_echo"}, by_operation),
        ({"downstream": "sample"}, by_downstream),
        ({"client_id": "other"}, by_client),
        ({"created_before": hour_ago}, by_age),
    ):
        assert act(web, "cancel", **selection)["matched"] == 1
        assert web.row(job_id).state == "cancelled"
    assert web.row(last).state == "queued"
    assert act(web, "cancel", operation="nothing")["matched"] == 0


def test_retry_submits_again_what_ended_without_a_result_and_each_once(web: Web) -> None:
    ids = {state: web.job_in(state) for state in State}
    before = web.count()

    first, again = (act(web, "retry", created_before="2999-01-01T00:00:00Z") for _ in range(2))

    assert first == {"matched": 3, "retried": 3, "refused": 0}
    assert again == {"matched": 0, "retried": 0, "refused": 0}
    assert web.count() == before + 3
    retried = {job["retry_of"] for job in web.client.get("/v1/jobs?state=queued").get_json()["jobs"]} - {None}
    assert retried == {ids[state] for state in (State.FAILED, State.EXPIRED, State.CANCELLED)}


def test_called_again_while_the_limit_is_matched_retry_reaches_all(web: Web) -> None:
    """After a day's outage there are more than one call takes."""
    for _ in range(7):
        web.job_in(State.FAILED)
    matched = [act(web, "retry", limit=3)["matched"] for _ in range(4)]
    assert matched == [3, 3, 1, 0]
    assert len(web.client.get("/v1/jobs?state=queued").get_json()["jobs"]) == 7


def test_a_job_that_its_owner_submitted_again_is_not_retried_a_second_time(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    assert web.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert act(web, "retry")["matched"] == 0


def test_a_retry_that_failed_too_is_retried_in_its_turn(web: Web) -> None:
    web.job_in(State.FAILED)
    assert act(web, "retry")["retried"] == 1
    (queued,) = web.client.get("/v1/jobs?state=queued").get_json()["jobs"]
    web.pass_deadline(queued["id"])
    assert act(web, "retry") == {"matched": 1, "retried": 1, "refused": 0}


def test_what_can_not_be_submitted_again_is_counted_as_refused(web: Web) -> None:
    web.job_in(State.SUCCEEDED)
    web.job_in(State.RUNNING)
    assert act(web, "retry", state="succeeded") == {"matched": 1, "retried": 0, "refused": 1}
    assert act(web, "retry", state="running") == {"matched": 1, "retried": 0, "refused": 1}


def test_retry_finds_jobs_past_their_deadline_that_nobody_saw(web: Web) -> None:
    job_id = web.accepted()
    web.pass_deadline(job_id)
    assert act(web, "retry", state="expired")["retried"] == 1


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("selection", "pointer"),
    [
        ({"state": "done"}, "/state"),
        ({"limit": 0}, "/limit"),
        ({"limit": 1001}, "/limit"),
        ({"limit": "5"}, "/limit"),
        ({"operation": 1}, "/operation"),
        ({"operation": "a\0b"}, "/operation"),
        ({"client_id": "\0"}, "/client_id"),
        ({"downstream": "\0"}, "/downstream"),
        ({"created_before": "yesterday"}, "/created_before"),
        ({"created_before": "2026-11-23T10:00:00"}, "/created_before"),
        ({"all": True}, "/all"),
        ([], ""),
    ],
)
def test_a_selection_that_can_not_be_read_is_a_422_and_touches_nothing(
    web: Web, action: str, selection: Any, pointer: str
) -> None:
    job_id = web.accepted()
    before = web.row(job_id)
    answer = web.client.post(f"/v1/jobs/{action}", json=selection)
    document = assert_is_problem(answer, 422, "invalid-input")
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert web.row(job_id) == before


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_without_a_selection_nothing_is_done(web: Web, action: str) -> None:
    job_id = web.accepted()
    assert web.client.post(f"/v1/jobs/{action}").status_code == 415
    assert web.client.post(f"/v1/jobs/{action}", data=b"", content_type="application/json").status_code == 400
    assert web.row(job_id).state == "queued"
