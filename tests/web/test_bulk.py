"""Cancel and retry of many jobs by what they are, for operators. (That it is only for them: test_keys.)"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.support.present import present
from tests.support.web import Web, assert_is_problem
from tidegate.database.schema import IMPLICIT_CLIENT, clients, jobs
from tidegate.database.time import database_now
from tidegate.jobs.filter import Filter
from tidegate.jobs.job import Job
from tidegate.jobs.store import JobStore
from tidegate.states import State

on_both = pytest.mark.both_databases("jobs are selected by SQL: filters, order, cursor")


def act(web: Web, action: str, **selection: Any) -> dict[str, Any]:
    """The counts of what was done."""
    answer = web.client.post(f"/v1/jobs/{action}", json=selection)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    counts: dict[str, Any] = answer.get_json()
    assert counts.pop("dry_run") is False
    return counts


def test_cancel_ends_what_is_queued_asks_what_runs_and_leaves_what_has_ended(web: Web) -> None:
    ids = {state: web.job_in(state) for state in State}

    counts = act(web, "cancel", all=True)

    done = {"matched": 2, "cancelled": 1, "asked_to_stop": 1, "already_final": 0}
    assert counts == {**done, "refusals": {}, "next": None}
    assert web.row(ids[State.QUEUED]).state == "cancelled"
    assert (web.row(ids[State.RUNNING]).state, web.row(ids[State.RUNNING]).cancel_requested) == ("running", True)
    for state in (State.SUCCEEDED, State.FAILED, State.EXPIRED):
        assert web.row(ids[state]).state == state


def test_a_selection_of_final_jobs_cancels_none(web: Web) -> None:
    web.job_in(State.SUCCEEDED)
    counts = act(web, "cancel", state="succeeded")
    assert (counts["already_final"], counts["refusals"]) == (1, {"job-already-final": 1})


def test_called_again_while_the_limit_is_matched_cancel_reaches_all(web: Web) -> None:
    for _ in range(7):
        web.accepted()
    matched = [act(web, "cancel", all=True, limit=3)["matched"] for _ in range(4)]
    assert matched == [3, 3, 1, 0]
    assert web.client.get("/v1/jobs?state=queued").get_json()["jobs"] == []


@on_both
def test_every_filter_picks(web: Web) -> None:
    with web.database.transaction() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))

    def change(job_id: str, **values: Any) -> None:
        web.database.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

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
        ({"client": "other"}, by_client),
        ({"created_before": hour_ago}, by_age),
    ):
        assert act(web, "cancel", **selection)["matched"] == 1
        assert web.row(job_id).state == "cancelled"
    assert web.row(last).state == "queued"
    assert act(web, "cancel", operation="nothing")["matched"] == 0


@on_both
@pytest.mark.parametrize("code", ["downstream_error", "deadline_exceeded", "cancelled"])
def test_retry_picks_by_how_a_job_ended(web: Web, code: str) -> None:
    ids = {state: web.job_in(state) for state in State}
    state = {"downstream_error": State.FAILED, "deadline_exceeded": State.EXPIRED, "cancelled": State.CANCELLED}[code]
    dry = web.client.post("/v1/jobs/retry", json={"error_code": code, "dry_run": True}).get_json()
    assert (dry["matched"], dry["retried"]) == (1, 0)
    assert act(web, "retry", error_code=code)["retried"] == 1
    retried = [job["retry_of"] for job in web.client.get("/v1/jobs?state=queued").get_json()["jobs"]]
    assert [each for each in retried if each] == [ids[state]]
    assert act(web, "cancel", error_code=code)["matched"] == 0, "what has an error goes on no more"


@on_both
def test_retry_submits_again_what_ended_without_a_result_and_each_once(web: Web) -> None:
    ids = {state: web.job_in(state) for state in State}
    before = web.count()

    first, again = (act(web, "retry", created_before="2999-01-01T00:00:00Z") for _ in range(2))

    assert first == {"matched": 3, "retried": 3, "refused": 0, "refusals": {}, "next": None}
    assert again == {"matched": 0, "retried": 0, "refused": 0, "refusals": {}, "next": None}
    assert web.count() == before + 3
    retried = {job["retry_of"] for job in web.client.get("/v1/jobs?state=queued").get_json()["jobs"]} - {None}
    assert retried == {ids[state] for state in (State.FAILED, State.EXPIRED, State.CANCELLED)}


@on_both
def test_called_again_while_the_limit_is_matched_retry_reaches_all(web: Web) -> None:
    """After a day's outage there are more than one call takes."""
    for _ in range(7):
        web.job_in(State.FAILED)
    matched = [act(web, "retry", all=True, limit=3)["matched"] for _ in range(4)]
    assert matched == [3, 3, 1, 0]
    assert len(web.client.get("/v1/jobs?state=queued").get_json()["jobs"]) == 7


def test_a_job_that_its_owner_submitted_again_is_not_retried_a_second_time(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    assert web.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert act(web, "retry", all=True)["matched"] == 0


def test_a_retry_that_failed_too_is_retried_in_its_turn(web: Web) -> None:
    web.job_in(State.FAILED)
    assert act(web, "retry", all=True)["retried"] == 1
    (queued,) = web.client.get("/v1/jobs?state=queued").get_json()["jobs"]
    web.pass_deadline(queued["id"])
    assert act(web, "retry", all=True)["retried"] == 1


@on_both
def test_what_can_not_be_submitted_again_is_counted_as_refused(web: Web) -> None:
    web.job_in(State.SUCCEEDED)
    web.job_in(State.RUNNING)
    for state, reason in (("succeeded", "job-already-final"), ("running", "job-not-final")):
        counts = act(web, "retry", state=state)
        assert (counts["matched"], counts["retried"], counts["refused"]) == (1, 0, 1)
        assert counts["refusals"] == {reason: 1}


@on_both
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
        ({"all": "yes"}, "/all"),
        ({"dry_run": 1, "all": True}, "/dry_run"),
        ({"created_after": "2026-11-23"}, "/created_after"),
        ({"created_after": "1795435200"}, "/created_after"),
        ({"created_after": 1795435200}, "/created_after"),
        ({"created_after": "2026-11-23T12:00:00Z", "created_before": "2026-11-23T12:00:00Z"}, "/created_before"),
        ({"error_code": "nothing"}, "/error_code"),
        ({"error_code": None}, ""),
        ({"cursor": "x", "all": True}, "/cursor"),
        ({"stat": "queued"}, "/stat"),
        ({"client": "a", "client_id": "a"}, ""),
        ({}, ""),
        ({"all": False}, ""),
        ({"limit": 5, "dry_run": True}, ""),
        ({"state": None, "operation": None}, ""),
        ({"client": None}, ""),
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


def test_the_older_name_of_the_client_goes_on(web: Web) -> None:
    web.accepted()
    assert act(web, "cancel", client_id="nobody")["matched"] == 0
    assert act(web, "cancel", client_id=IMPLICIT_CLIENT)["matched"] == 1


def test_without_a_filter_it_says_what_would_do(web: Web) -> None:
    job_id = web.accepted()
    document = assert_is_problem(web.client.post("/v1/jobs/cancel", json={}), 422, "invalid-input")
    assert document["errors"][0]["detail"] == 'name a filter, or say "all": true'
    assert web.row(job_id).state == "queued"


@on_both
@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_dry_run_counts_all_and_touches_none(web: Web, action: str) -> None:
    ids = {state: web.job_in(state) for state in State}
    for _ in range(3):
        web.job_in(State.FAILED if action == "retry" else State.QUEUED)
    before = {state: web.row(job_id) for state, job_id in ids.items()}
    number, matched = web.count(), {"cancel": 5, "retry": 6}[action]
    answer = web.client.post(f"/v1/jobs/{action}", json={"all": True, "dry_run": True, "limit": 1}).get_json()
    assert (answer["dry_run"], answer["matched"]) == (True, matched), "whatever its limit"
    assert not any(value for name, value in answer.items() if name not in {"dry_run", "matched"})
    assert {state: web.row(job_id) for state, job_id in ids.items()} == before
    assert web.count() == number


@on_both
def test_jobs_after_an_instant_are_meant_and_those_before_are_not(web: Web) -> None:
    before = web.accepted()
    web.database.execute(update(jobs).values(created_at=database_now(-timedelta(hours=1))))
    after = web.accepted()
    instant = (web.store.callers.now() - timedelta(minutes=30)).isoformat()
    assert act(web, "cancel", created_after=instant)["matched"] == 1
    assert [web.row(job_id).state for job_id in (before, after)] == ["queued", "cancelled"]


@on_both
def test_a_cursor_leads_through_those_that_stay_as_they_are(web: Web) -> None:
    """Jobs that run and do not stop, or that are refused, would be found again and again."""
    running = [web.job_in(State.RUNNING) for _ in range(3)]
    later = web.job_in(State.RUNNING)
    seen, cursor = [], None
    for _ in range(5):
        counts = act(web, "cancel", all=True, limit=2, **({"cursor": cursor} if cursor else {}))
        seen.append(counts["asked_to_stop"])
        cursor = counts["next"]
        if cursor is None:
            break
    assert (sum(seen), cursor) == (4, None)
    assert all(web.row(job_id).cancel_requested for job_id in (*running, later))


def test_jobs_that_are_refused_are_told_by_their_reasons(web: Web) -> None:
    """One lane is paused and takes what is retried; an operation that is gone takes nothing."""
    gone, failed = web.job_in(State.FAILED), web.job_in(State.FAILED)
    web.database.execute(update(jobs).where(jobs.c.id == gone).values(operation="renamed"))
    counts = act(web, "retry", state="failed")
    assert (counts["matched"], counts["retried"], counts["refused"]) == (2, 1, 1)
    assert counts["refusals"] == {"unknown-operation": 1}
    assert present(web.store.callers.get(failed, None)).state is State.FAILED


def test_a_job_that_is_erased_meanwhile_does_not_stop_the_others(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    erased, kept = web.job_in(State.CANCELLED), web.accepted()
    listed = JobStore.list_all

    def then_erase(store: JobStore, wanted: Filter) -> Sequence[Job]:
        found = listed(store, wanted)
        web.client.delete(f"/v1/jobs/{erased}")
        return found

    monkeypatch.setattr(JobStore, "list_all", then_erase)
    counts = act(web, "cancel", state="cancelled", operation="echo")
    assert counts["refusals"] == {"unknown-job": 1}
    assert web.row(kept).state == "queued"
