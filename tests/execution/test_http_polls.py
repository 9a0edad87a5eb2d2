"""HTTP operations that poll, against real sockets: a partner answers 202 with a Location and is asked there."""

from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.execution.test_http_operation import call, make_operation
from tests.support.http_server import HttpServer, in_turn, respond, serving
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, serving_oauth
from tests.support.web import Web
from tidegate import clock
from tidegate.database.schema import jobs
from tidegate.database.time import database_now
from tidegate.operations.oauth import OAuth
from tidegate.operations.operation import Body
from tidegate.operations.outcome import ErrorCode, Failed, Outcome, Polls, Refused, Succeeded, TryAgain


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        yield running


def polled(server: HttpServer, **values: object) -> Outcome:
    """What a poll at /status/1 comes to."""
    return call(make_operation(server.url + "/orders", poll=True, **values), poll_url=server.url + "/status/1")


def test_a_202_says_where_to_ask_and_when(server: HttpServer) -> None:
    made = make_operation(server.url + "/orders", poll=True)
    server.answer = respond(202, location="/status/1", retry_after="7")
    assert call(made) == Polls(url=server.url + "/status/1", after=timedelta(seconds=7))
    now = clock.now()
    then = format_datetime(now + timedelta(seconds=90), usegmt=True)
    server.answer = respond(
        202, location=server.url + "/status/2", date=format_datetime(now, usegmt=True), retry_after=then
    )
    assert call(made) == Polls(url=server.url + "/status/2", after=timedelta(seconds=90))


def test_another_origin_is_told_and_never_called(server: HttpServer) -> None:
    with serving() as other:
        server.answer = respond(202, location=other.url + "/status/1")
        outcome = call(make_operation(server.url, poll=True))
        assert isinstance(outcome, Failed)
        assert outcome.message == (
            f"the downstream answered 202 with a Location at {other.url}, and only its own origin is asked"
        )
        moved = call(make_operation(server.url, poll=True), poll_url=other.url + "/status/1")
        assert isinstance(moved, Failed)
        assert (moved.code, other.received) == (ErrorCode.OPERATION_ERROR, [])


def test_without_poll_a_202_is_the_result(server: HttpServer) -> None:
    server.answer = respond(202, b"{}", location="/status/1", content_type="application/json")
    assert isinstance(call(make_operation(server.url)), Succeeded)


def test_a_poll_is_a_get_with_the_calls_headers_and_nothing_of_its_body(server: HttpServer) -> None:
    server.answer = respond(200, b'{"n": 1}', content_type="application/json")
    made = make_operation(server.url + "/{a}", method="PUT", headers={"X-Key": "k"}, poll=True)

    outcome = call(
        made,
        Body(content=b'{"a": 1}', headers={"x-customer": "c"}),
        headers={"traceparent": "00"},
        poll_url=server.url + "/status/1?a=%20",
    )

    assert outcome == Succeeded(content=b'{"n": 1}', content_type="application/json", is_json=True)
    (received,) = server.received
    assert (received.line, received.body) == ("GET /status/1?a=%20 HTTP/1.1", b"")
    assert (received.headers["x-key"], received.headers["x-customer"]) == ("k", "c")
    assert received.headers["traceparent"] == "00"
    assert not {"idempotency-key", "content-type", "content-length"} & received.headers.keys()


@pytest.mark.parametrize(
    ("status", "location", "expected"),
    [(202, "/status/2", "/status/2"), (202, None, "/status/1"), (303, "../result/1", "/result/1")],
)
def test_a_poll_goes_on(server: HttpServer, status: int, location: str | None, expected: str) -> None:
    server.answer = respond(status, location=location) if location else respond(status)
    outcome = polled(server)
    assert isinstance(outcome, Polls)
    assert outcome.url == server.url + expected
    assert outcome.after == (timedelta(0) if status == 303 else None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Succeeded), (204, Succeeded), (302, Failed), (404, Failed), (410, Failed), (500, TryAgain), (429, Refused)],
)
def test_any_other_answer_to_a_poll_means_what_it_always_does(
    server: HttpServer, status: int, kind: type[Outcome]
) -> None:
    server.answer = respond(status, location="/elsewhere")
    assert isinstance(polled(server), kind)


def test_what_was_accepted_is_polled_though_the_file_says_poll_no_more(server: HttpServer) -> None:
    server.answer = respond(202)
    made = make_operation(server.url)
    assert call(made, poll_url=server.url + "/status/1") == Polls(url=server.url + "/status/1")


@pytest.mark.parametrize(("body", "kind"), [(b'{"error": null}', Polls), (b'{"error": "no"}', Failed)])
def test_a_202_that_has_what_fail_when_names_is_a_failure(server: HttpServer, body: bytes, kind: type[Outcome]) -> None:
    server.answer = respond(202, body, content_type="application/json", location="/status/1")
    assert isinstance(polled(server, fail_when=("error",)), kind)


def test_nobody_there_is_another_attempt(server: HttpServer) -> None:
    made, url = make_operation(server.url, poll=True), server.url
    server.close()
    assert isinstance(call(made, poll_url=url + "/status/1"), TryAgain)


def test_a_poll_carries_a_token() -> None:
    with serving_oauth() as oauth_server:
        oauth = OAuth(token_url=f"{oauth_server.url}/token", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        made = make_operation(f"{oauth_server.url}/orders", poll=True, oauth=oauth)
        assert isinstance(call(made, poll_url=f"{oauth_server.url}/api/1"), Succeeded)
        assert oauth_server.calls == [200]


def test_a_job_is_shown_as_polled_and_ends_with_what_the_last_poll_brings(
    server: HttpServer, tmp_path: Path, database_url: str
) -> None:
    web = Web(
        tmp_path,
        database_url,
        operations_toml=f'[operations.order]\nurl = "{server.url}/orders"\npoll = true\nretry = {{ attempts = 1 }}\n'
        "[downstreams.order]\nconcurrency = 1\n",
    )
    server.answer = in_turn(
        respond(202, location="/status/1", retry_after="30"),
        respond(202),
        respond(200, b'"done"', content_type="application/json"),
    )
    web.declare()
    job_id = web.accepted("order", '{"n": 1}')
    for number in (1, 2):
        assert web.run_released() == 1
        shown = web.read(job_id)
        document = shown.get_json()
        told = document["waiting"]
        assert (document["state"], document["attempt"], document["error"]) == ("queued", 0, None)
        assert (told["reason"], told["in_time"], told["position"], told["estimated_finish"]) == (
            "poll",
            True,
            None,
            None,
        )
        assert 1 <= int(shown.headers["Retry-After"]) <= 33
        assert web.store.lanes.held() == {"order": 1}
        web.database.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=database_now()))
        assert server.received[-1].line.startswith("POST" if number == 1 else "GET /status/1")
    assert web.run_released() == 1
    document = web.read(job_id).get_json()
    assert (document["state"], document["result"], document["attempt"]) == ("succeeded", "done", 1)
    assert "/status/1" not in web.read(job_id).get_data(as_text=True)
    assert [each.line.partition(" ")[0] for each in server.received] == ["POST", "GET", "GET"]
    assert web.store.lanes.held() == {}
    web.close()


def test_a_retry_of_such_a_job_begins_anew(server: HttpServer, tmp_path: Path, database_url: str) -> None:
    web = Web(tmp_path, database_url, operations_toml=f'[operations.order]\nurl = "{server.url}/orders"\npoll = true\n')
    server.answer = respond(202, location="/status/1")
    web.declare()
    job_id = web.accepted("order")
    assert web.run_released() == 1
    assert web.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    assert web.store.lanes.held() == {}
    again = web.client.post(f"/v1/jobs/{job_id}/retry").get_json()["id"]
    assert web.row(again).poll_url is None
    assert web.run_released() == 1
    assert [each.line for each in server.received] == ["POST /orders HTTP/1.1"] * 2
    web.close()
