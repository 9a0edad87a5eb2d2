"""The list of jobs: what is in it, a page at a time, each job in the state that a read would tell."""

from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import insert

from tests.support.web import Web, assert_is_problem
from tidegate.database_time import database_now
from tidegate.models import clients, jobs
from tidegate.states import State


def listed(web: Web, query: str = "") -> list[str]:
    """Ids of one page."""
    answer = web.client.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [job["id"] for job in answer.get_json()["jobs"]]


def test_without_jobs_it_is_empty(web: Web) -> None:
    answer = web.client.get("/v1/jobs")
    assert (answer.status_code, answer.get_json()) == (200, {"jobs": [], "next": None})


def test_jobs_come_newest_first_as_documents_without_their_results(web: Web) -> None:
    first = web.accepted()
    web.succeed(first, b'{"sum":3}', is_json=True)
    second = web.accepted("raw_echo")

    documents = web.client.get("/v1/jobs").get_json()["jobs"]

    assert [job["id"] for job in documents] == [second, first]
    assert documents[1]["state"] == "succeeded"
    assert documents[1]["result"] is None
    alone = {job_id: web.read(job_id).get_json() for job_id in (first, second)}
    # The estimates are told anew each time.
    assert {**documents[0], "waiting": None} == {**alone[second], "waiting": None}
    assert documents[1] == {**alone[first], "result": None, "result_content_type": None}


def test_filters_pick_states_and_operations(web: Web) -> None:
    by_state = {state: web.job_in(state) for state in State}
    other = web.accepted("raw_echo")
    for state, job_id in by_state.items():
        expected = [other, job_id] if state is State.QUEUED else [job_id]
        assert listed(web, f"?state={state}") == expected, state
    assert listed(web, "?operation=raw_echo") == [other]
    assert listed(web, "?operation=raw_echo&state=running") == []
    assert listed(web, "?operation=nothing") == []
    assert len(listed(web)) == len(State) + 1


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_job_past_its_deadline_is_listed_and_filtered_as_expired_before_anybody_saw_it(
    web: Web, state: State
) -> None:
    job_id = web.job_in(state)
    web.pass_deadline(job_id)

    assert listed(web, "?state=expired") == [job_id]
    assert listed(web, f"?state={state}") == []
    (document,) = web.client.get("/v1/jobs").get_json()["jobs"]
    assert (document["state"], document["waiting"], document["error"]["code"]) == (
        "expired",
        None,
        "deadline_exceeded",
    )
    assert document["finished_at"] == document["deadline"]
    assert web.row(job_id).state == state, "a list writes nothing"


def test_pages_have_every_job_once_although_others_are_submitted_meanwhile(web: Web) -> None:
    before = [web.accepted() for _ in range(23)]
    seen: list[str] = []
    pages = 0
    url: str | None = "/v1/jobs?limit=5&operation=echo"
    while url:
        answer = web.client.get(url).get_json()
        seen += [job["id"] for job in answer["jobs"]]
        pages += 1
        for _ in range(3):
            web.accepted()
        url = answer["next"]
        if url:
            assert url.startswith("http://localhost/v1/jobs?")
            query = parse_qs(urlsplit(url).query)
            assert (query["limit"], query["operation"]) == (["5"], ["echo"])
    assert seen == before[::-1]
    assert pages == 5


@pytest.mark.parametrize(
    ("jobs_there", "limit", "has_next"), [(5, 4, True), (5, 5, False), (5, 6, False), (1, 1, False)]
)
def test_there_is_a_next_page_only_when_it_has_something(web: Web, jobs_there: int, limit: int, has_next: bool) -> None:
    for _ in range(jobs_there):
        web.accepted()
    answer = web.client.get(f"/v1/jobs?limit={limit}").get_json()
    assert len(answer["jobs"]) == min(jobs_there, limit)
    assert (answer["next"] is not None) is has_next


def test_a_page_has_50_jobs_unless_asked_and_200_at_the_most(web: Web) -> None:
    web.client.post("/v1/operations/echo/jobs/batch", json=[{"input": number} for number in range(202)])
    assert len(listed(web)) == 50
    assert len(listed(web, "?limit=200")) == 200


def test_a_cursor_of_a_job_that_is_gone_still_works(web: Web) -> None:
    ids = [web.accepted() for _ in range(3)]
    web.client.post(f"/v1/jobs/{ids[1]}/cancel")
    assert web.client.delete(f"/v1/jobs/{ids[1]}").status_code == 204
    assert listed(web, f"?cursor={ids[1]}") == [ids[0]]


@pytest.mark.parametrize(
    "query",
    [
        "?state=done",
        "?state=",
        "?state=QUEUED",
        "?limit=0",
        "?limit=-1",
        "?limit=201",
        "?limit=x",
        "?limit=",
        "?limit=1.5",
        "?limit=99999999999999999999",
        "?cursor=",
        "?cursor=x",
        "?cursor=1",
        "?operation=%00",
        "?operation=a%00b",
        "?status=queued",
        "?client_id=local",
        "?state=queued&state=failed",
    ],
)
def test_a_query_that_can_not_be_read_is_a_400(web: Web, query: str) -> None:
    assert_is_problem(web.client.get(f"/v1/jobs{query}"), 400, "invalid-query")


@pytest.mark.parametrize("operation", ["%ff", "\u00fc", "'", "%25", "a" * 3000, "\U0001f30a"])
def test_an_odd_operation_is_just_none(web: Web, operation: str) -> None:
    web.accepted()
    assert listed(web, f"?operation={operation}") == []


def test_everybody_is_operator_while_authentication_is_off_and_sees_all(web: Web) -> None:
    own = web.accepted()
    with web.database.writing() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))
        connection.execute(jobs.update().values(client_id="other"))
    assert listed(web) == [own]
    assert web.read(own).status_code == 202


def test_ids_that_follow_each_other_sort_by_time(web: Web) -> None:
    ids = [web.accepted() for _ in range(50)]
    assert all(earlier < later for earlier, later in pairwise(ids))
