"""A job over HTTP: submitted, read in every state, its raw result, called off."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Response

from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import Succeeded
from tidegate.states import FINAL_STATES, State

STATUS = {
    State.QUEUED: 202,
    State.RUNNING: 202,
    State.SUCCEEDED: 200,
    State.EXPIRED: 504,
    State.FAILED: 502,
    State.CANCELLED: 410,
}
"""The contract's table, written a second time: here it is the judge."""
BIG = b'{"big":123456789012345678901234567890,"text":"\xc3\xbc \xf0\x9f\x8c\x8a \\u0000","float":1.10,"none":null}'


def is_instant(text: str) -> bool:
    """RFC 3339 in UTC with milliseconds."""
    return text.endswith("Z") and datetime.fromisoformat(text).utcoffset() == timedelta(0) and text[-5] == "."


def assert_has_retry_after(answer: TestResponse) -> None:
    """Whole seconds, at least 1."""
    assert answer.headers["Retry-After"].isdecimal()
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_submit_is_answered_with_202_and_one_url_that_the_next_get_finds(web: Web) -> None:
    answer = web.submit("echo", b'{"a": 1}')

    assert answer.status_code == 202
    assert answer.content_type == "application/json"
    document = answer.get_json()
    assert UUID(document["id"]).version == 7
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{document['id']}" == document["links"]["self"]
    assert_has_retry_after(answer)
    assert answer.headers["Tidegate-Job-State"] == document["state"] == "queued"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert document["progress"] == {"percent": 0, "done": None, "total": None, "note": None}
    assert (document["operation"], document["attempt"], document["max_attempts"]) == ("echo", 0, 3)
    assert (document["started_at"], document["finished_at"]) == (None, None)
    assert (document["result"], document["error"]) == (None, None)
    assert is_instant(document["created_at"])
    assert is_instant(document["deadline"])

    read = web.client.get(answer.headers["Location"])
    assert (read.status_code, read.get_json()["id"]) == (202, document["id"])
    row = web.row(document["id"])
    assert (row.state, row.operation, row.queue, row.attempt) == ("queued", "echo", "io", 0)


def test_the_body_is_kept_byte_for_byte_with_its_content_type(web: Web) -> None:
    content = bytes(range(256))
    job_id = web.submit("raw_echo", content, 'application/x-odd; q="ü"').get_json()["id"]
    body = web.input_of(job_id)
    assert body is not None
    assert (body.content, body.content_type) == (content, 'application/x-odd; q="ü"')


@pytest.mark.parametrize("host", ["xn--bcher-kva.example", "xn--bcher-kva.example:8443", "xn--zz--", "TIDE.example"])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_links_under_any_host_are_uris(tmp_path: Path, database_url: str, host: str, accept: str) -> None:
    """On the short way and on Flask's; with keys, for without them other names are refused. Of the third name no other
    spelling can be made."""
    web = Web(tmp_path, database_url, auth="keys")
    _, secret = KeyStore(web.database).create("one", name="k", role=Role.CLIENT)

    def answered(path: str, **asked: Any) -> Response:
        """Past Werkzeug's client, which can't say the third one."""
        headers = {"HTTP_HOST": host, "HTTP_ACCEPT": accept, "HTTP_AUTHORIZATION": f"Bearer {secret}"}
        return Response(*run_wsgi_app(web.app, {**EnvironBuilder(path, **asked).get_environ(), **headers}))

    location = answered("/v1/operations/echo/jobs", method="POST", json=1).headers["Location"]
    assert location.startswith(f"http://{host}/v1/jobs/")
    links = json.loads(answered(location.removeprefix(f"http://{host}")).get_data())["links"]
    assert all(link.isascii() and link.startswith(f"http://{host}/") for link in links.values() if link)
    web.close()


def test_a_prefix_that_is_not_ascii_is_percent_encoded(web: Web) -> None:
    answer = web.client.post("/v1/operations/echo/jobs", json=1, environ_overrides={"SCRIPT_NAME": "/f\xc3\xbcr"})
    assert answer.headers["Location"].startswith("http://localhost/f%C3%BCr/v1/jobs/")


def test_links_stand_under_the_public_url_when_there_is_one(tmp_path: Path, database_url: str) -> None:
    web = Web(tmp_path, database_url, public_url="https://api.example.com/jobs/")
    answer = web.submit(headers={"Host": "127.0.0.1:8000"})
    assert answer.headers["Location"].startswith("https://api.example.com/jobs/v1/jobs/")
    assert answer.get_json()["links"]["cancel"].startswith("https://api.example.com/jobs/v1/jobs/")
    web.close()


def test_forwarded_headers_of_anybody_do_not_change_the_links(web: Web) -> None:
    spoofed = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    assert web.submit(headers=spoofed).headers["Location"].startswith("http://localhost/v1/jobs/")


@pytest.mark.parametrize("state", State)
def test_every_state_is_told_by_the_one_table(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    answer = web.read(job_id)

    assert answer.status_code == STATUS[state]
    assert answer.headers["Tidegate-Job-State"] == state
    assert answer.headers["Cache-Control"] == "private, no-cache"
    document = answer.get_json()
    assert (document["id"], document["state"]) == (job_id, state)
    assert (document["finished_at"] is not None) is (state in FINAL_STATES)
    assert document["progress"]["percent"] == (100 if state is State.SUCCEEDED else 0)
    if state in FINAL_STATES:
        assert "Retry-After" not in answer.headers
    else:
        assert_has_retry_after(answer)
    if STATUS[state] < 400:
        assert (answer.content_type, document["error"]) == ("application/json", None)
    else:
        assert_is_problem(answer, STATUS[state], f"job-{state}")
        assert document["instance"] == f"/v1/jobs/{job_id}"
        assert document["result"] is None
        code = {State.EXPIRED: "deadline_exceeded", State.FAILED: "downstream_error", State.CANCELLED: "cancelled"}
        assert document["error"]["code"] == code[state]
        assert document["error"]["message"]
    assert web.row(job_id).state == state


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_past_its_deadline_a_job_answers_504_without_sweep_or_worker(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    web.pass_deadline(job_id)
    assert web.row(job_id).state == state

    answer = web.read(job_id)

    assert_is_problem(answer, 504, "job-expired")
    assert answer.headers["Tidegate-Job-State"] == "expired"
    assert web.row(job_id).state == "expired"
    assert web.client.get(f"/v1/jobs/{job_id}/result").status_code == 504
    assert web.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 409


def test_202_turns_to_504_at_the_deadline_and_not_before(web: Web) -> None:
    job_id = web.accepted(Job_Timeout="1")
    deadline = web.row(job_id).deadline
    answers: list[tuple[float, int]] = []

    def is_over() -> bool:
        before = web.store.upkeep.read_outlook().now.timestamp()
        answers.append((before, web.read(job_id).status_code))
        return answers[-1][1] != 202

    wait_until(is_over, description="the job has expired", timeout_seconds=5)
    after = web.store.upkeep.read_outlook().now.timestamp()
    assert answers[-1][1] == 504
    assert all(asked_at < deadline.timestamp() for asked_at, status in answers if status == 202)
    assert after >= deadline.timestamp()
    assert after - deadline.timestamp() < 1


def test_a_result_after_the_deadline_never_turns_504_into_200(web: Web) -> None:
    job_id = web.accepted()
    claim = web.claim(job_id)
    web.pass_deadline(job_id)
    assert web.read(job_id).status_code == 504

    late = Succeeded(content=b"1", content_type="application/json", is_json=True)
    assert not web.store.workers.succeed(claim, late, call_seconds=None)
    assert web.read(job_id).status_code == 504
    assert web.client.get(f"/v1/jobs/{job_id}/result").status_code == 504


def test_progress_shows_while_it_runs_and_percent_never_goes_down(web: Web) -> None:
    job_id = web.accepted()
    claim = web.claim(job_id)
    for done, percent in ((2, 40), (1, 40), (5, 99)):
        assert web.store.workers.progress(claim, Progress(done=done, total=5, note="ü"), lease=timedelta(seconds=60))
        document = web.read(job_id).get_json()
        assert document["progress"] == {"percent": percent, "done": done, "total": 5, "note": "ü"}
        assert (document["state"], document["attempt"]) == ("running", 1)
        assert is_instant(document["started_at"])


@pytest.mark.parametrize(("done", "total", "told"), [(99, 100, 100), (0, 5, 5), (7, None, 7)])
def test_of_a_job_that_succeeded_all_is_done(web: Web, done: int, total: int | None, told: int) -> None:
    job_id = web.accepted()
    claim = web.claim(job_id)
    assert web.store.workers.progress(claim, Progress(done=done, total=total), lease=timedelta(seconds=60))
    assert web.read(job_id).get_json()["progress"]["done"] == done
    success = Succeeded(content=b"1", content_type="application/json", is_json=True)
    assert web.store.workers.succeed(claim, success, call_seconds=None)
    progress = web.read(job_id).get_json()["progress"]
    assert (progress["percent"], progress["done"], progress["total"]) == (100, told, total)
    (listed,) = web.client.get("/v1/jobs").get_json()["jobs"]
    assert listed["progress"] == progress


def test_a_json_result_stands_in_the_document_byte_for_byte(web: Web) -> None:
    job_id = web.accepted()
    web.succeed(job_id, BIG, is_json=True)

    answer = web.read(job_id)

    assert b'"result":' + BIG + b"," in answer.data
    assert answer.get_json()["result_content_type"] == "application/json"
    raw = web.client.get(f"/v1/jobs/{job_id}/result")
    assert (raw.status_code, raw.data, raw.content_type) == (200, BIG, "application/json")
    assert raw.headers["Tidegate-Job-State"] == "succeeded"
    assert raw.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"\x00\xff\xfe%PDF", "application/pdf"),
        (b"", "text/plain"),
        (b"{broken", "application/json"),
        (b"<script>alert(1)</script>", "text/html; charset=utf-8"),
    ],
)
def test_a_result_that_is_not_json_is_null_in_the_document_and_raw_behind_its_link(
    web: Web, content: bytes, content_type: str
) -> None:
    job_id = web.accepted()
    web.succeed(job_id, content, content_type, is_json=False)

    document = web.read(job_id).get_json()
    assert (document["result"], document["result_content_type"]) == (None, content_type)
    # A null must not look like one that the downstream sent.
    assert ("says JSON, and it is none" in document.get("result_problem", "")) is (content_type == "application/json")
    raw = web.client.get(document["links"]["result"])
    assert (raw.status_code, raw.data, raw.headers["Content-Type"]) == (200, content, content_type)
    # Somebody's bytes: no browser may guess their type or run them.
    assert raw.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in raw.headers["Content-Security-Policy"]


@pytest.mark.parametrize("delimiter", ['";"', "semicolon"])
def test_parameters_of_a_content_type_reach_the_operation(web: Web, delimiter: str) -> None:
    answer = web.submit(
        "csv_profile", "a,b;c\n1,5;2\n".encode("cp1252"), f"text/csv; charset=cp1252; delimiter={delimiter}"
    )
    web.declare()
    assert web.run_released() == 1

    profile = web.read(answer.get_json()["id"]).get_json()["result"]
    assert (profile["delimiter"], [column["name"] for column in profile["columns"]]) == (";", ["a,b", "c"])


def test_a_result_without_a_content_type_is_bytes_and_no_page(web: Web) -> None:
    job_id = web.accepted()
    web.succeed(job_id, b"<html>", "", is_json=False)
    raw = web.client.get(f"/v1/jobs/{job_id}/result")
    assert (raw.status_code, raw.data) == (200, b"<html>")
    assert "html" not in raw.headers.get("Content-Type", "")


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUCCEEDED])
def test_without_a_result_its_link_answers_as_the_job_does(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    raw, job = web.client.get(f"/v1/jobs/{job_id}/result"), web.read(job_id)
    assert raw.status_code == job.status_code == STATUS[state]
    assert raw.headers["Tidegate-Job-State"] == state
    assert ("Retry-After" in raw.headers) is (state not in FINAL_STATES)
    assert raw.get_json()["id"] == job_id


def test_cancelling_a_queued_job_ends_it_at_once_and_again_changes_nothing(web: Web) -> None:
    job_id = web.accepted()
    for _ in range(2):
        answer = web.client.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert answer.get_json()["state"] == answer.headers["Tidegate-Job-State"] == "cancelled"
    row = web.row(job_id)
    assert (row.state, row.version) == ("cancelled", 2)
    assert web.read(job_id).status_code == 410


def test_cancelling_a_running_job_asks_its_attempt_to_stop(web: Web) -> None:
    job_id = web.accepted()
    claim = web.claim(job_id)

    for _ in range(2):
        answer = web.client.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.get_json()["state"]) == (202, "running")
        assert_has_retry_after(answer)
    assert web.row(job_id).cancel_requested

    assert not web.store.workers.progress(claim, Progress(done=1), lease=timedelta(seconds=60))
    assert web.store.workers.hand_back(claim, after=timedelta(0), outcome="stopped")
    assert web.read(job_id).status_code == 410


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.EXPIRED])
def test_cancelling_a_final_job_is_a_conflict_and_changes_nothing(web: Web, state: State) -> None:
    job_id = web.job_in(state)
    before = web.row(job_id)
    assert_is_problem(web.client.post(f"/v1/jobs/{job_id}/cancel"), 409, "job-already-final")
    assert web.row(job_id) == before


def test_a_job_timeout_shortens_the_deadline(web: Web) -> None:
    row = web.row(web.accepted(Job_Timeout="7"))
    assert row.deadline - row.created_at == pytest.approx(timedelta(seconds=7), abs=timedelta(milliseconds=50))


def test_an_id_may_be_written_in_capitals(web: Web) -> None:
    assert web.read(web.accepted().upper()).status_code == 202


@pytest.mark.parametrize("what", ["", "/result"])
def test_head_is_get_without_the_body(web: Web, what: str) -> None:
    job_id = web.job_in(State.SUCCEEDED)
    path = f"/v1/jobs/{job_id}{what}"
    head, get = web.client.head(path), web.client.get(path)
    assert head.data == b""
    assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))
