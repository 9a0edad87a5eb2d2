"""Batches over HTTP, against real sockets: one request for several jobs, of those that are left when it goes out."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.execution.test_http_operation import make_operation
from tests.support.http_server import HttpServer, in_turn, respond, serving
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, serving_oauth
from tests.support.processes import free_port
from tests.support.scarcity import no_more_files
from tidegate import clock
from tidegate.errors import AttemptStopped, InvalidInput, MalformedBody, UnsupportedBody
from tidegate.operations.attempt_outcome import outcome_of, outcomes_of
from tidegate.operations.batch_formats import BatchFormat, HttpBatch
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.oauth import AccessToken, Fetch, OAuth, Tokens
from tidegate.operations.operation import Attempt, Body, Member
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Refused,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.token_request import RENEWED

BATCH_ID = "0189d2f8-5c00-7000-8000-0000000000ff"
STOPPED = HandedBack(reason="stopped")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        running.answer = respond(200, b'[{"v": 0.10}, 2]', content_type="application/json")
        yield running


def operation(url: str, kind: str = "array", **values: object) -> HttpOperation:
    return make_operation(url, batch=HttpBatch(max=10, format=BatchFormat(kind)), **values)


def two() -> Sequence[Member]:
    return [Member(job_id=f"job-{n}", number=n, body=Body(content=b'{"n": %d.0}' % n)) for n in (1, 2)]


def call(
    made: HttpOperation,
    members: Callable[[], Sequence[Member]] = two,
    *,
    begin: Callable[[], float] | None = None,
    max_result: int = 1000,
    seconds: float = 10,
    tokens: Tokens | None = None,
) -> BatchOutcome:
    ends = time.monotonic() + seconds
    attempt = Attempt(
        job_id=BATCH_ID,
        number=1,
        report=lambda _: None,
        seconds_left=lambda: ends - time.monotonic(),
        take_slot=lambda: None,
        begin=begin,
        headers={"traceparent": "00-1-2-01"},
        tokens=tokens,
    )
    return outcomes_of(made, members, attempt, max_result=max_result, when_stopped=lambda: STOPPED)


def done(text: str) -> Succeeded:
    return Succeeded(content=text.encode(), content_type="application/json", is_json=True)


def test_one_request_is_for_several_jobs_and_carries_the_batchs_id(server: HttpServer) -> None:
    made = operation(f"{server.url}/v1/embed?model=small", method="PUT", headers={"X-A": "1"})

    assert call(made) == (done('{"v": 0.10}'), done("2"))

    (request,) = server.received
    assert request.line == "PUT /v1/embed?model=small HTTP/1.1"
    assert request.body == b'[{"n": 1.0},{"n": 2.0}]'
    assert request.headers["idempotency-key"] == BATCH_ID
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["x-a"], request.headers["traceparent"]) == ("1", "00-1-2-01")


def test_results_come_back_by_id(server: HttpServer) -> None:
    told = [{"id": "job-2", "status": 404, "body": {"no": 2}}, {"id": "job-1", "status": 200, "body": 1}]
    server.answer = respond(200, json.dumps({"results": told}).encode())

    first, second = several(call(operation(server.url, "results")))

    assert first == done("1")
    assert isinstance(second, Failed)
    assert second.detail["downstream_body"] == '{"no": 2}'
    asked = [{"id": "job-1", "body": {"n": 1.0}}, {"id": "job-2", "body": {"n": 2.0}}]
    assert json.loads(server.received[0].body) == {"requests": asked}


def several(outcome: BatchOutcome) -> Sequence[object]:
    assert isinstance(outcome, Sequence), outcome
    return outcome


def test_a_handler_for_sqs_reports_what_failed(server: HttpServer) -> None:
    server.answer = respond(200, b'{"batchItemFailures": [{"itemIdentifier": "job-2"}]}')

    first, second = several(call(operation(server.url, "sqs")))

    assert first == done("null")
    assert isinstance(second, TryAgain)
    records = json.loads(server.received[0].body)["Records"]
    assert [(each["messageId"], each["body"]) for each in records] == [("job-1", '{"n": 1.0}'), ("job-2", '{"n": 2.0}')]
    assert [each["attributes"]["ApproximateReceiveCount"] for each in records] == ["1", "2"]
    assert records[0]["eventSourceARN"].endswith(":call")


def test_members_are_asked_for_once_the_call_may_begin_where_a_connection_is_open(server: HttpServer) -> None:
    happened: list[str] = []

    def begin() -> float:
        happened.append("begin")
        return 10.0

    def members() -> Sequence[Member]:
        happened.append(f"members, {len(server.received)} sent")
        return two()

    made = operation(server.url)
    for _ in range(2):
        assert isinstance(call(made, members, begin=begin), Sequence)

    assert happened == ["members, 0 sent", "begin", "begin", "members, 1 sent", "begin"]


def test_who_is_called_off_is_left_out_and_with_nobody_left_nothing_goes_out(server: HttpServer) -> None:
    made = operation(server.url)
    server.answer = respond(200, b"[1]")
    assert call(made, lambda: two()[1:]) == (done("1"),)

    def nobody() -> Sequence[Member]:
        raise AttemptStopped("nobody is left")

    assert call(made, nobody) == STOPPED
    (request,) = server.received
    assert request.body == b'[{"n": 2.0}]'


def test_the_key_is_that_of_the_members_who_are_left(server: HttpServer) -> None:
    made = operation(server.url)
    attempt = Attempt(job_id=BATCH_ID, number=1, report=lambda _: None, seconds_left=lambda: 10, take_slot=lambda: None)

    def fewer() -> Sequence[Member]:
        attempt.job_id = "of-those-who-are-left"
        return two()

    outcomes_of(made, fewer, attempt, max_result=1000, when_stopped=lambda: STOPPED)
    assert server.received[0].headers["idempotency-key"] == "of-those-who-are-left"


def test_a_downstream_that_is_full_or_away_sends_all_of_them_again_together(server: HttpServer) -> None:
    server.answer = in_turn(respond(429, retry_after="7"), respond(500, b"oh"), respond(400, b"no"))
    made = operation(server.url)

    full, busy, judged = call(made), call(made), call(made)

    assert isinstance(full, Refused)
    assert full.retry_after is not None
    assert full.retry_after.total_seconds() == 7
    assert isinstance(busy, TryAgain)
    assert judged == Split(
        alone=Failed(
            code=ErrorCode.DOWNSTREAM_ERROR,
            message="the downstream answered 400",
            detail={
                "downstream_status": 400,
                "downstream_content_type": "application/octet-stream",
                "downstream_body": "no",
            },
        )
    )
    assert isinstance(call(operation(f"http://127.0.0.1:{free_port()}")), TryAgain)


def test_no_answer_in_time_sends_all_of_them_again_together(server: HttpServer) -> None:
    over = threading.Event()

    def silent(_: socket.socket) -> None:
        over.wait(10)

    server.answer = silent
    try:
        outcome = call(operation(server.url), seconds=0.2)
    finally:
        over.set()
    assert isinstance(outcome, TryAgain)
    assert outcome.message == "the downstream did not answer in time"


def test_a_shortage_of_ones_own_hands_all_of_them_back(server: HttpServer) -> None:
    made = operation(server.url, downstream="short-of-files")
    with no_more_files():
        outcome = call(made)
    assert isinstance(outcome, HandedBack)
    assert outcome.reason == "own shortage"


def test_an_answer_may_be_compressed_and_announce_what_is_left(server: HttpServer) -> None:
    content = gzip.compress(b"[1, 2]")
    server.answer = respond(200, content, content_encoding="gzip", x_ratelimit_remaining="3", x_ratelimit_reset="9")

    for outcome in several(call(operation(server.url))):
        assert isinstance(outcome, Succeeded)
        assert [quota.left for quota in outcome.quotas] == [3]


def test_a_result_that_is_too_large_fails_alone_and_an_answer_that_is_fails_the_whole(server: HttpServer) -> None:
    server.answer = in_turn(respond(200, b'["%b", 2]' % (b"x" * 60)), respond(200, b'["%b", 2]' % (b"x" * 120)))
    made = operation(server.url, max_result=50)

    first, second = several(call(made, max_result=50))
    assert isinstance(first, Failed)
    assert "the result is too large: 62 bytes" in first.message
    assert second == done("2")

    whole = call(made, max_result=50)
    assert isinstance(whole, Split)
    assert "larger than 100 bytes" in whole.alone.message


def test_inputs_from_before_the_batch_that_no_request_can_be_made_of_are_found_in_halves(server: HttpServer) -> None:
    broken = Member(job_id="job-3", number=1, body=Body(content=b"\x89PNG", content_type="image/png"))

    outcome = call(operation(server.url), lambda: [*two(), broken])

    assert outcome == Split(
        alone=Failed(code=ErrorCode.OPERATION_ERROR, message="no request can be made of this input: Invalid JSON")
    )
    assert server.received == []


def test_one_job_alone_is_a_batch_of_one(server: HttpServer) -> None:
    server.answer = in_turn(respond(200, b"[7]"), respond(400), respond(429), respond(200, b"7"))
    made = operation(server.url)

    def alone() -> object:
        attempt = Attempt(
            job_id="job-1", number=1, report=lambda _: None, seconds_left=lambda: 10.0, take_slot=lambda: None
        )
        return outcome_of(made, Body(content=b"1"), attempt, max_result=1000, when_stopped=lambda: STOPPED)

    assert alone() == done("7")
    assert [type(alone()) for _ in range(3)] == [Failed, Refused, Failed]
    assert {request.body for request in server.received} == {b"[1]"}
    assert server.received[0].headers["idempotency-key"] == "job-1"


@pytest.mark.parametrize("kind", ["array", "results"])
def test_a_token_that_the_downstream_repeats_stands_in_no_jobs_error(server: HttpServer, kind: str) -> None:
    def echo(connection: socket.socket) -> None:
        said = server.received[-1].headers["authorization"]
        told = [{"id": f"job-{number}", "status": 400, "body": f"not for {said}"} for number in (1, 2)]
        respond(200 if kind == "results" else 400, json.dumps({"results": told}).encode())(connection)

    server.answer = echo
    with serving_oauth() as oauth:
        credentials = OAuth(token_url=f"{oauth.url}/token", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        outcome = call(operation(server.url, kind, oauth=credentials))

    assert len(oauth.asked) == 1
    (token,) = oauth.all_tokens
    assert token in server.received[0].headers["authorization"]
    failed = [outcome.alone] if isinstance(outcome, Split) else several(outcome)
    assert all(isinstance(each, Failed) and "not for Bearer ***" in str(each.detail) for each in failed)
    assert token not in repr(outcome)


def test_credentials_that_are_refused_are_asked_for_once_for_all(server: HttpServer) -> None:
    """No half of the inputs would do better."""
    with serving_oauth() as oauth:
        credentials = OAuth(token_url=f"{oauth.url}/token", client_id=CLIENT_ID, client_secret="another")
        outcome = call(operation(server.url, oauth=credentials))

    assert [type(each) for each in several(outcome)] == [Failed, Failed]
    assert oauth.refused == 1
    assert server.received == []


def test_a_header_that_cannot_be_sent_fails_all_of_them_at_once(server: HttpServer) -> None:
    outcome = call(operation(server.url, headers={"X-Key": "a\nb"}))

    assert [type(each) for each in several(outcome)] == [Failed, Failed]
    assert server.received == []


def test_a_token_that_is_refused_is_renewed_and_the_call_made_again(server: HttpServer) -> None:
    class Kept:
        """A token of the cluster's that has become old."""

        def token(self, oauth: OAuth, fetch: Fetch) -> AccessToken:  # noqa: ARG002 - the protocol's
            return AccessToken(text="t", fetched=clock.monotonic() - 3000, seconds=3600)

        def renew(self, oauth: OAuth, refused: AccessToken) -> bool:  # noqa: ARG002 - the protocol's
            return True

    server.answer = respond(401)
    made = operation(server.url, oauth=OAuth(token_url="http://h/", client_id="a", client_secret="b"))

    assert call(made, tokens=Kept()) == HandedBack(reason=RENEWED, was_called=True)


def test_inputs_are_checked_at_the_door_one_by_one(server: HttpServer, tmp_path: Path) -> None:
    made = operation(server.url)
    assert made.content_types == ("application/json",)
    assert made.input_schema() == {}, "any JSON"
    made.check(Body(content=b"7"))
    with pytest.raises(UnsupportedBody):
        made.check(Body(content=b"7", content_type="text/plain"))
    with pytest.raises(MalformedBody):
        made.check(Body(content=b"{"))

    schema = JsonSchema.of({"type": "object"})
    checked = operation(server.url, schema=schema)
    assert checked.input_schema() == {"type": "object"}
    with pytest.raises(InvalidInput):
        checked.check(Body(content=b"7"))

    text = operation(server.url, "sqs")
    assert text.content_types == ()
    assert text.input_schema() is None
    text.check(Body(content=b"a text", content_type="text/plain"))
    with pytest.raises(InvalidInput):
        text.check(Body(content=b"\xff"))
