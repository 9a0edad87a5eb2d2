"""The Python client against servers that answer as no good one does: lost connections, proxies, limits, silence."""

import json
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import clients
from tests.support.http_server import HttpServer, respond, serving
from tidegate_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    JobFailed,
    NotDone,
    OutcomeUnknown,
    Refused,
    SomeRefused,
    State,
    UnexpectedAnswer,
)
from tidegate_client.command.exits import Exit, code_of_error

JOB_ID = "0199c5a0-0000-7000-8000-000000000001"
Answer = Callable[[socket.socket], None]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as started:
        yield started


@pytest.fixture(params=clients.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(server: HttpServer, kind: str) -> Iterator[Client]:
    with clients.opened(kind, server.url, "tg_secret", patience=5) as opened:
        yield opened


def document(state: str = "queued", **members: Any) -> dict[str, Any]:
    """A job document as the gateway writes it."""
    return {
        "id": JOB_ID,
        "operation": "quote",
        "state": state,
        "progress": {"percent": 100 if state == "succeeded" else 0, "done": None, "total": None, "note": None},
        "attempt": 0,
        "max_attempts": 5,
        "created_at": "2026-11-23T16:46:00.123Z",
        "started_at": None,
        "finished_at": None,
        "deadline": "2026-11-23T16:48:00.123Z",
        "retry_of": None,
        "waiting": None,
        "result": None,
        "result_content_type": None,
        "error": None,
        "links": {},
        **members,
    }


def job(
    state: str = "queued", *, status: int = 202, retry_after: str = "1", more: Any = None, **headers: str
) -> Answer:
    """A job's answer."""
    body = json.dumps(document(state, **(more or {}))).encode()
    fields = {"Content_Type": "application/json", "Tidegate_Job_State": state, **headers}
    return respond(status, body, **fields, **({"Retry_After": retry_after} if status == 202 else {}))


def problem(status: int, kind: str, more: Any = None, **headers: str) -> Answer:
    """A refusal of the gateway's own."""
    body = {"type": f"urn:tidegate:problem:{kind}", "title": "No", "status": status, "detail": "it is not taken"}
    return respond(
        status, json.dumps({**body, **(more or {})}).encode(), Content_Type="application/problem+json", **headers
    )


def hang_up(connection: socket.socket) -> None:
    """Ends the connection without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket) -> None:
    """Never answers."""


def in_turn(server: HttpServer, *answers: Answer) -> list[float]:
    """Lets the server answer with these, the last one for ever; returns the list that will have the arrival times."""
    arrived: list[float] = []

    def answer(connection: socket.socket) -> None:
        arrived.append(time.monotonic())
        answers[min(len(arrived), len(answers)) - 1](connection)

    server.answer = answer
    return arrived


def keys(server: HttpServer) -> list[str]:
    return [request.headers["idempotency-key"] for request in server.received]


def test_a_submit_whose_answer_was_lost_is_repeated_under_the_same_key(server: HttpServer, client: Client) -> None:
    in_turn(server, hang_up, hang_up, job())

    assert client.submit("quote", {"sku": "A"}).id == JOB_ID

    assert len(server.received) == 3
    assert len(set(keys(server))) == 1
    assert {request.body for request in server.received} == {b'{"sku": "A"}'}


def test_each_submit_has_a_key_of_its_own_unless_one_is_given(server: HttpServer, client: Client) -> None:
    in_turn(server, job())
    for given in (None, None, "order-17"):
        client.submit("quote", 1, idempotency_key=given)
    first, second, third = keys(server)
    assert first != second
    assert third == "order-17"


@pytest.mark.parametrize(
    "busy",
    [
        problem(429, "too-fast", Retry_After="1"),
        problem(503, "unavailable", Retry_After="1"),
        problem(503, "outcome-unknown", Retry_After="1"),
        respond(503, b"<html>proxy", Retry_After="1"),
    ],
    ids=["limit", "database", "lost answer", "proxy"],
)
def test_what_is_refused_for_now_is_tried_again_and_not_before_retry_after(
    server: HttpServer, client: Client, busy: Answer
) -> None:
    arrived = in_turn(server, busy, job())
    assert client.submit("quote", 1).state is State.QUEUED
    assert arrived[1] - arrived[0] >= 1
    assert len(set(keys(server))) == 1


def test_a_retry_after_beyond_the_patience_is_told_at_once(server: HttpServer, client: Client) -> None:
    in_turn(server, problem(429, "too-fast", Retry_After="60"))
    with pytest.raises(Refused) as refused:
        client.submit("quote", 1)
    assert (refused.value.status, refused.value.kind, refused.value.retry_after) == (429, "too-fast", 60)
    assert len(server.received) == 1


def test_what_nobody_knows_is_told_apart_from_a_refusal(server: HttpServer, client: Client) -> None:
    in_turn(server, problem(503, "outcome-unknown", Retry_After="60"))
    with pytest.raises(OutcomeUnknown) as unknown:
        client.submit("quote", 1)
    assert (unknown.value.status, unknown.value.kind, unknown.value.is_passing) == (503, "outcome-unknown", True)
    assert code_of_error(unknown.value) is Exit.UNREACHABLE


def test_a_job_that_could_not_make_its_deadline_is_refused_without_another_try(
    server: HttpServer, client: Client
) -> None:
    more = {"earliest_finish": "2026-11-23T17:00:00Z"}
    in_turn(server, problem(503, "cannot-finish-in-time", more, Retry_After="2"))
    with pytest.raises(Refused) as refused:
        client.submit("quote", 1)
    assert refused.value.earliest_finish is not None
    assert refused.value.earliest_finish.isoformat() == "2026-11-23T17:00:00+00:00"
    assert len(server.received) == 1


def test_the_faults_of_an_input_are_told_with_their_pointers(server: HttpServer, client: Client) -> None:
    in_turn(server, problem(422, "invalid-input", {"errors": [{"pointer": "/sku", "detail": "it is missing"}]}))
    with pytest.raises(Refused, match="/sku: it is missing") as refused:
        client.submit("quote", {})
    assert [fault.pointer for fault in refused.value.faults] == ["/sku"]


def test_a_proxys_502_and_504_are_not_the_jobs(server: HttpServer, client: Client) -> None:
    error = {"error": {"code": "downstream_error", "message": "it said no", "downstream_status": 400}}
    in_turn(
        server,
        job(),
        respond(502, b"<html>Bad Gateway"),
        respond(504, b'{"state": "expired"}', Content_Type="application/json"),
        job("failed", status=502, more=error),
    )
    submitted = client.submit("quote", 1)
    with pytest.raises(JobFailed, match="it said no") as failed:
        submitted.result(timeout=5)
    assert failed.value.error
    assert failed.value.error.downstream_status == 400
    assert len(server.received) == 4


def test_what_is_no_gateway_is_named_with_its_words(server: HttpServer, client: Client) -> None:
    in_turn(server, respond(200, b"<html>Welcome to nginx!"))
    with pytest.raises(UnexpectedAnswer, match="Welcome to nginx!"):
        client.submit("quote", 1)
    in_turn(server, respond(200, b'{"hello": 1}', Content_Type="application/json"))
    with pytest.raises(UnexpectedAnswer):
        client.job(JOB_ID)
    in_turn(server, respond(404, b"nothing here"))
    with pytest.raises(UnexpectedAnswer, match="answered 404"):
        client.submit("quote", 1)


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(server: HttpServer, client: Client) -> None:
    with serving() as other:
        in_turn(server, respond(308, Location=f"{other.url}/v1/operations/quote/jobs"))
        with pytest.raises(UnexpectedAnswer, match=re.escape(other.url)):
            client.submit("quote", 1)
        # A page's link to the next may lead through another address, too.
        page = {"jobs": [document()], "next": f"{other.url}/v1/jobs?cursor=c%201&limit=100"}
        last: dict[str, Any] = {"jobs": [], "next": None}
        answers = [respond(200, json.dumps(each).encode(), Content_Type="application/json") for each in (page, last)]
        in_turn(server, *answers)
        assert [each.id for each in client.jobs()] == [JOB_ID]
        assert server.received[-1].line.split()[1] in {
            "/v1/jobs?cursor=c+1&limit=100",
            "/v1/jobs?cursor=c%201&limit=100",
        }
        assert server.received[-1].headers["authorization"] == "Bearer tg_secret"
        assert other.received == []


def test_nobody_there_is_said_when_the_patience_is_over(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with clients.opened(kind, url, patience=0.5) as client, pytest.raises(ConnectionFailed, match=re.escape(url)):
        client.submit("quote", 1)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "", "http://", "http://host/?a=1"])
@pytest.mark.parametrize("one", [Client, AsyncClient])
def test_what_is_no_address_is_refused_at_once(url: str, one: type[Client | AsyncClient]) -> None:
    with pytest.raises(ValueError, match="not the address of a gateway"):
        one(url)


@pytest.mark.parametrize("one", [Client, AsyncClient])
def test_a_password_in_the_address_does_not_take_the_place_of_the_key(one: type[Client | AsyncClient]) -> None:
    with pytest.raises(ValueError, match="in place of the key") as error:
        one("http://user:hidden@127.0.0.1:8000", "tg_secret")
    assert "hidden" not in str(error.value)
    one("http://user:hidden@127.0.0.1:8000")


def test_a_server_that_never_answers_does_not_hold_a_wait_beyond_its_time(server: HttpServer, client: Client) -> None:
    in_turn(server, job(), silent)
    submitted = client.submit("quote", 1)
    began = time.monotonic()
    with pytest.raises(NotDone) as not_done:
        submitted.wait(timeout=1)
    assert isinstance(not_done.value, TimeoutError)
    assert not_done.value.job.id == JOB_ID
    assert time.monotonic() - began < 10


def test_without_long_polling_it_comes_back_when_retry_after_says(server: HttpServer, client: Client) -> None:
    arrived = in_turn(server, job(), job("running", retry_after="2"), job("succeeded", status=200, more={"result": 7}))
    assert client.submit("quote", 1).result(timeout=20) == 7
    assert arrived[1] - arrived[0] < 1, "the first poll comes at once"
    assert arrived[2] - arrived[1] >= 2
    assert server.received[1].headers["prefer"].startswith("wait=")


def test_a_held_poll_is_followed_by_the_next_at_once_with_the_tag_of_what_is_known(
    server: HttpServer, client: Client
) -> None:
    def held(answer: Answer) -> Answer:
        def late(connection: socket.socket) -> None:
            time.sleep(0.6)
            answer(connection)

        return late

    running = job("running", retry_after="30", Preference_Applied="wait=25", ETag='W/"2-running"')
    unchanged = respond(304, Tidegate_Job_State="running", Preference_Applied="wait=25", Retry_After="30")
    in_turn(server, job(), running, held(unchanged), job("succeeded", status=200, more={"result": 7}))

    assert client.submit("quote", 1).result(timeout=25) == 7

    assert [request.headers.get("if-none-match") for request in server.received[1:]] == [
        None,
        'W/"2-running"',
        'W/"2-running"',
    ]


def test_one_that_says_it_holds_and_does_not_is_not_asked_in_a_tight_loop(server: HttpServer, client: Client) -> None:
    unchanged = respond(304, Tidegate_Job_State="running", Preference_Applied="wait=25", Retry_After="1")
    running = job("running", Preference_Applied="wait=25", ETag='W/"2-running"')
    in_turn(server, job(), running, unchanged)
    with pytest.raises(NotDone):
        client.submit("quote", 1).wait(timeout=2.5)
    assert len(server.received) <= 6


def bulk(*answers: str) -> Answer:
    """A bulk submit's answer: `job` or the kind of a 4xx or 5xx problem for each."""
    problems = {"too-fast": 429, "invalid-input": 422}
    each = [
        {"status": 202, "location": "", "job": document(), "problem": None}
        if answer == "job"
        else {
            "status": problems[answer],
            "location": None,
            "job": None,
            "problem": {"type": f"urn:tidegate:problem:{answer}", "status": problems[answer], "detail": "no"},
        }
        for answer in answers
    ]
    return respond(202, json.dumps({"jobs": each}).encode(), Content_Type="application/json")


def lines(server: HttpServer, number: int) -> list[Any]:
    return [json.loads(line) for line in server.received[number].body.splitlines()]


def test_of_a_bulk_submit_only_what_was_refused_for_now_is_sent_again(server: HttpServer, client: Client) -> None:
    in_turn(server, bulk("job", "too-fast", "job", "too-fast"), bulk("job", "job"))
    assert len(client.submit_many("quote", [10, 11, 12, 13])) == 4
    first, second = lines(server, 0), lines(server, 1)
    assert [line["input"] for line in first] == [10, 11, 12, 13]
    assert second == [first[1], first[3]], "with the keys of the first time"
    assert len({line["idempotency_key"] for line in first}) == 4


def test_what_a_bulk_submit_refuses_for_good_is_told_beside_what_was_taken(server: HttpServer, client: Client) -> None:
    in_turn(server, bulk("job", "invalid-input", "too-fast"), bulk("job"))
    with pytest.raises(SomeRefused, match="1 of 3 jobs were refused; the first of them, number 1: no") as some:
        client.submit_many("quote", [1, 2, 3])
    assert set(some.value.jobs) == {0, 2}
    assert some.value.refusals[1].kind == "invalid-input"


def test_more_than_a_thousand_jobs_go_in_several_requests(server: HttpServer, client: Client) -> None:
    in_turn(server, bulk(*["job"] * 1000), bulk(*["job"] * 500))
    assert len(client.submit_many("quote", range(1500))) == 1500
    assert [line["input"] for line in lines(server, 1)] == list(range(1000, 1500))


def test_errors_can_be_pickled_on_their_way_out_of_a_process(server: HttpServer, client: Client) -> None:
    in_turn(server, problem(422, "invalid-input", {"errors": [{"pointer": "/sku", "detail": "it is missing"}]}))
    with pytest.raises(Refused) as refused:
        client.submit("quote", {})
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 - made here
