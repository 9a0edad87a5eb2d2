"""The list of jobs: what is in it, a page at a time, each job in the state that a read would tell."""

from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import insert

from benchmarks.backlog.rows import fill
from tests.support.web import Web, assert_is_problem
from tidegate.database.connection import Database
from tidegate.database.schema import clients, jobs
from tidegate.database.time import database_now
from tidegate.jobs import listing
from tidegate.states import State

on_both = pytest.mark.both_databases("a page is found by SQL: filters, order, cursor")


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


@on_both
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


@on_both
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


@on_both
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
    web.client.post("/v1/operations/echo/jobs/bulk", json=[{"input": number} for number in range(202)])
    assert len(listed(web)) == 50
    assert len(listed(web, "?limit=200")) == 200


@on_both
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
    with web.database.transaction() as connection:
        connection.execute(insert(clients).values(id="other", name="other", created_at=database_now()))
        connection.execute(jobs.update().values(client_id="other"))
    assert listed(web) == [own]
    assert web.read(own).status_code == 202


def test_ids_that_follow_each_other_sort_by_time(web: Web) -> None:
    ids = [web.accepted() for _ in range(50)]
    assert all(earlier < later for earlier, later in pairwise(ids))


# A list looks at so many rows and no more


@pytest.fixture
def short_sighted(web: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """Its lists look at four rows."""
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 4)
    return web


def all_pages(web: Web, query: str) -> list[list[str]]:
    """Ids, page by page."""
    pages = []
    url: str | None = f"/v1/jobs?{query}"
    while url:
        answer = web.client.get(url).get_json()
        pages.append([job["id"] for job in answer["jobs"]])
        url = answer["next"]
    return pages


def test_a_page_may_be_short_or_empty_and_still_have_a_next_one(short_sighted: Web) -> None:
    web = short_sighted
    wanted = [web.accepted("raw_echo"), web.accepted("raw_echo")]
    for _ in range(9):
        web.accepted()
    wanted.append(web.accepted("raw_echo"))

    pages = all_pages(web, "operation=raw_echo&limit=3")

    assert [job_id for page in pages for job_id in page] == wanted[::-1]
    assert [len(page) for page in pages] == [1, 0, 2, 0]


@on_both
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_however_short_the_pages_every_job_of_a_state_comes_once(short_sighted: Web, state: State, limit: int) -> None:
    web = short_sighted
    expected = []
    for each in [*State, *State, *State]:
        job_id = web.job_in(each)
        if each is state:
            expected.append(job_id)
    if state is State.EXPIRED:  # by its deadline, and nobody has seen it
        late = web.accepted()
        web.pass_deadline(late)
        expected.append(late)

    found = [job_id for page in all_pages(web, f"state={state}&limit={limit}") for job_id in page]

    assert found == expected[::-1]


@on_both
def test_an_operator_reaches_all_that_he_means_however_far_back(short_sighted: Web) -> None:
    web = short_sighted
    meant = [web.accepted("raw_echo") for _ in range(5)]
    for _ in range(12):
        web.accepted()
    for left in (3, 2, 0):
        answer = web.client.post("/v1/jobs/cancel", json={"operation": "raw_echo", "limit": 3})
        assert answer.get_json()["cancelled"] == left
    assert {web.row(job_id).state for job_id in meant} == {"cancelled"}

    again = web.client.post("/v1/jobs/retry", json={"operation": "raw_echo"}).get_json()
    assert (again["matched"], again["retried"], again["refused"]) == (5, 5, 0)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("state=failed", 50),
        ("state=expired", 50),
        ("state=cancelled&operation=echo", 50),
        ("", 150),
        ("state=running", 2 * 10_000),
        ("operation=nothing", 2 * 10_000),
    ],
)
def test_what_a_list_reads_does_not_grow_with_what_is_kept(
    tmp_path: Path, postgresql_url: str, query: str, most: int
) -> None:
    web = Web(tmp_path, postgresql_url)
    fill(web.database, queued=0, final=30_000)
    before = rows_read(web)

    answer = web.client.get(f"/v1/jobs?{query}")

    assert answer.status_code == 200
    assert rows_read(web) - before <= most + 50
    web.close()


def rows_read(web: Web) -> int:
    """By all connections: rows by whole tables, and rows of jobs by their indexes."""
    with web.database.transaction() as connection:
        for statement in ("SELECT pg_stat_force_next_flush()", "SELECT 1"):
            connection.exec_driver_sql(statement)
        return int(
            connection.exec_driver_sql(
                "SELECT coalesce(sum(seq_tup_read), 0) + coalesce(sum(idx_tup_fetch), 0) FROM pg_stat_user_tables"
            ).scalar_one()
        )


@pytest.mark.postgresql
def test_a_list_that_takes_too_long_says_so_and_nobody_else_notices(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it waits for a lock; the database is as it was."""
    monkeypatch.setattr(listing, "LIMIT", timedelta(milliseconds=200))
    web = Web(tmp_path, postgresql_url)
    with closing(Database(postgresql_url)) as other, other.transaction() as holder:
        holder.exec_driver_sql("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        answer = web.client.get("/v1/jobs?state=failed")
        document = assert_is_problem(answer, 503, "too-slow")
        assert "narrower" in document["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert web.client.get("/?state=failed").status_code == 503
        assert_is_problem(web.client.post("/v1/jobs/cancel", json={"operation": "echo"}), 503, "too-slow")
        assert web.client.get("/health/ready").status_code == 200
    assert web.client.get("/v1/jobs?state=failed").status_code == 200
    web.close()
