"""The headers of a job: how long it may take, when it may start, its trace, and how its answers may be kept."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support.http_server import HttpServer
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.dispatch.gate import Gate
from tidegate.operations.operation import Progress
from tidegate.states import FINAL_STATES, State

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def calling(tmp_path: Path, sqlite_url: str, downstream: HttpServer) -> Iterator[Web]:
    """A face with the HTTP operation `call`."""
    face = Web(tmp_path, sqlite_url, operations_toml=f'[operations.call]\nurl = "{downstream.url}/x"\n')
    yield face
    face.close()


def released(web: Web) -> set[str]:
    """Ids of what the gate lets go now."""
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
    web.store.heartbeats.beat("io-1", queue="io", size=100, until=LEASE)
    return {job.job_id for job in Gate(web.store.lanes).run_once().released}


# Job-Timeout


@pytest.mark.parametrize("seconds", [1, 600])
def test_a_timeout_may_be_a_second_and_the_operations_own(web: Web, seconds: int) -> None:
    row = web.row(web.accepted(Job_Timeout=str(seconds)))
    assert row.deadline - row.created_at == timedelta(seconds=seconds)


def test_a_timeout_beyond_the_operations_own_says_what_is_allowed(web: Web) -> None:
    document = assert_is_problem(web.submit(headers={"Job-Timeout": "601"}), 400, "invalid-header")
    assert "600 seconds" in document["detail"]
    assert web.count() == 0


# Job-Not-Before


def test_a_job_is_not_released_before_its_time(web: Web) -> None:
    at = web.store.callers.now() + timedelta(seconds=100)
    job_id = web.accepted(Job_Not_Before=at.isoformat())
    other = web.accepted()

    assert web.row(job_id).run_at == at
    assert released(web) == {other}

    with web.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET run_at = created_at")
    assert released(web) == {job_id}


def writings(at: datetime) -> list[str]:
    """The same second in every way that is allowed."""
    at = at.replace(microsecond=0)
    east = at + timedelta(hours=5, minutes=30)
    west = at - timedelta(hours=8)
    return [
        format_datetime(at, usegmt=True),
        f"{at:%A, %d-%b-%y %H:%M:%S} GMT",
        at.isoformat().replace("+00:00", "Z"),
        at.isoformat().replace("+00:00", "z").replace("T", "t"),
        at.isoformat().replace("+00:00", ".000Z"),
        f"{east:%Y-%m-%dT%H:%M:%S}+05:30",
        f"{west:%Y-%m-%dT%H:%M:%S}-08:00",
    ]


def test_every_writing_of_an_instant_is_the_same_instant(web: Web) -> None:
    at = (web.store.callers.now() + timedelta(minutes=5)).replace(microsecond=0)
    run_at = [web.row(web.accepted(Job_Not_Before=writing)).run_at for writing in writings(at)]
    # Each behind the one before, so that each has a place of its own in the lane's order.
    assert run_at == [at + timedelta(microseconds=number) for number in range(len(run_at))]


@pytest.mark.parametrize("value", ["2020-01-01T00:00:00Z", "Wed, 01 Jan 2020 00:00:00 GMT", "0001-01-01T00:00:00Z"])
def test_an_instant_that_is_over_holds_nothing_back(web: Web, value: str) -> None:
    job_id = web.accepted(Job_Not_Before=value)
    row = web.row(job_id)
    assert row.run_at == row.created_at
    assert released(web) == {job_id}


@pytest.mark.parametrize(("later", "headers"), [(601, {}), (6, {"Job-Timeout": "5"}), (10**9, {})])
def test_an_instant_beyond_the_deadline_is_a_400(web: Web, later: int, headers: dict[str, str]) -> None:
    at = web.store.callers.now() + timedelta(seconds=later)
    answer = web.submit(headers={**headers, "Job-Not-Before": at.isoformat()})
    assert "deadline" in assert_is_problem(answer, 400, "invalid-header")["detail"]
    assert web.count() == 0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "0",
        "-1",
        "60",
        "1700000000",
        "1900000000000",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "2026-11-23T10:00Z",
        "2026-11-23T25:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-11-23T10:00:00+99:00",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "Mon, 99 Nov 2026 10:00:00 GMT",
        "23 Nov 2026 10:00",
        "PT5M",
        "\u0662\u0660\u0662\u0666-11-23T10:00:00Z",
        "2026-11-23T10:00:00Z, 2026-11-23T10:00:00Z",
        "9" * 10_000,
    ],
)
def test_what_is_no_instant_is_a_400(web: Web, value: str) -> None:
    document = assert_is_problem(web.submit(headers={"Job-Not-Before": value}), 400, "invalid-header")
    assert len(document["detail"]) < 200
    assert web.count() == 0


# traceparent


def test_a_trace_goes_through_to_the_downstream(calling: Web, downstream: HttpServer) -> None:
    job_id = calling.accepted("call", traceparent=TRACE)
    calling.declare()
    assert calling.run_released() == 1

    assert [each.headers["traceparent"] for each in downstream.received] == [TRACE]
    assert downstream.received[0].headers["idempotency-key"] == job_id
    assert calling.read(job_id).get_json()["state"] == "succeeded"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        TRACE.upper(),
        TRACE[:-1],
        TRACE + "0",
        TRACE + "-x",
        "ff" + TRACE[2:],
        TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        TRACE.replace("b7ad6b7169203331", "0" * 16),
        f"{TRACE},{TRACE}",
        "\u00fc" * 55,
    ],
)
def test_a_trace_that_can_not_be_read_is_dropped_and_the_job_taken(web: Web, value: str) -> None:
    assert web.row(web.accepted(traceparent=value)).traceparent is None


def test_without_a_trace_none_is_sent(calling: Web, downstream: HttpServer) -> None:
    calling.accepted("call", traceparent="nonsense")
    calling.declare()
    assert calling.run_released() == 1
    assert "traceparent" not in downstream.received[0].headers


# ETag


def conditional(web: Web, job_id: str, tag: str) -> int:
    """Status of a GET that asks for something newer than the tag."""
    return web.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}).status_code


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_a_tag_that_still_holds_is_a_304_with_all_that_a_poll_needs(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    full = web.read(job_id)
    tag = full.headers["ETag"]
    assert tag.startswith('W/"')

    answer = web.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.data) == (304, b"")
    for name in ("ETag", "Cache-Control", "Tidegate-Job-State"):
        assert answer.headers[name] == full.headers[name]
    assert ("Retry-After" in answer.headers) is (state not in FINAL_STATES)
    assert "Content-Type" not in answer.headers


def test_tags_are_compared_weakly_and_in_lists(web: Web) -> None:
    job_id = web.accepted()
    tag = web.read(job_id).headers["ETag"]
    for same in (tag, tag.removeprefix("W/"), f'"x", {tag}', f'{tag}, W/"y"', "*"):
        assert conditional(web, job_id, same) == 304, same
    for other in ('"x"', 'W/"1-running"', "", '"*"', tag[:-2] + '"', "nonsense"):
        assert conditional(web, job_id, other) == 202, other


def test_each_change_that_a_caller_can_see_changes_the_tag(web: Web) -> None:
    job_id = web.accepted()
    tags = [web.read(job_id).headers["ETag"]]
    claim = web.claim(job_id)
    tags.append(web.read(job_id).headers["ETag"])
    web.store.workers.progress(claim, Progress(done=1, total=2), lease=LEASE)
    tags.append(web.read(job_id).headers["ETag"])
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    tags.append(web.read(job_id).headers["ETag"])
    assert len(set(tags)) == 4


def test_what_a_job_waits_for_is_no_change(web: Web) -> None:
    job_id = web.accepted()
    before = web.read(job_id)
    released(web)
    after = web.read(job_id)
    assert after.headers["ETag"] == before.headers["ETag"]
    assert conditional(web, job_id, before.headers["ETag"]) == 304


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_expiry_changes_the_tag_at_once_with_nobody_there(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    tag = web.read(job_id).headers["ETag"]
    web.pass_deadline(job_id)
    answer = web.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})
    assert_is_problem(answer, 504, "job-expired")
    assert "ETag" not in answer.headers
    assert conditional(web, job_id, "*") == 504


# On every answer


@pytest.mark.parametrize("state", State)
def test_every_answer_about_a_job_tells_its_state_and_is_not_to_be_kept(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    path = f"/v1/jobs/{job_id}"
    answers = [web.read(job_id), web.client.get(f"{path}/result"), web.client.head(path)]
    if state not in FINAL_STATES:
        answers.append(web.client.post(f"{path}/cancel"))
    elif state is not State.SUCCEEDED:
        answers.append(web.client.post(f"{path}/retry"))
    for answer in answers:
        assert answer.headers["Tidegate-Job-State"]
        assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answers[0].headers["Tidegate-Job-State"] == state
    assert web.client.get("/v1/jobs").headers["Cache-Control"] == "private, no-cache"
