"""Access tokens as a real token server gives them, or not; and calls with them, against a real downstream."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.execution.test_http_operation import JOB_ID, call, make_operation
from tests.support.oauth_server import CLIENT_ID, CLIENT_SECRET, Answer, OAuthServer, serving_oauth
from tests.support.processes import free_port
from tests.support.scarcity import no_more_files
from tidegate import clock
from tidegate.operations.connections import Way, connections_by
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.oauth import AccessToken, OAuth
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.outcome import ErrorCode, Failed, HandedBack, Succeeded, TryAgain
from tidegate.operations.token_request import fetch_token


@pytest.fixture
def server() -> Iterator[OAuthServer]:
    with serving_oauth() as running:
        yield running


def credentials(server: OAuthServer, **values: Any) -> OAuth:
    given = {"token_url": f"{server.url}/token", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return OAuth(**{**given, **values})


def operation_of(server: OAuthServer, **values: Any) -> HttpOperation:
    return make_operation(f"{server.url}/api", oauth=credentials(server, **values))


@pytest.mark.parametrize("auth", ["basic", "body"])
def test_a_call_carries_a_token_that_was_fetched_by_its_credentials(server: OAuthServer, auth: str) -> None:
    server.takes = frozenset({auth})

    assert isinstance(call(operation_of(server, auth=auth, scope="orders:read orders:write")), Succeeded)

    (form,) = server.asked
    assert form.pop("grant_type") == "client_credentials"
    assert form.pop("scope") == "orders:read orders:write"
    assert form == ({} if auth == "basic" else {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET})


def test_without_a_scope_none_is_asked_for_and_values_come_from_the_environment(server: OAuthServer) -> None:
    values = {"${ID}": CLIENT_ID, "${SECRET}": CLIENT_SECRET, "${URL}/token": f"{server.url}/token"}
    oauth = OAuth(token_url="${URL}/token", client_id="${ID}", client_secret="${SECRET}")
    made = make_operation(f"{server.url}/api", oauth=oauth, expand=lambda text: values.get(text, text))

    assert isinstance(call(made), Succeeded)
    assert server.asked == [{"grant_type": "client_credentials"}]


def test_the_token_is_fetched_before_the_call_begins_and_takes_no_slot(server: OAuthServer) -> None:
    asked: list[tuple[int, int]] = []

    def begin() -> float:
        asked.append((len(server.asked), len(server.calls)))
        return 5.0

    attempt = Attempt(
        job_id=JOB_ID, number=1, report=lambda _: None, seconds_left=lambda: 5.0, take_slot=lambda: None, begin=begin
    )
    made = operation_of(server)
    call(replace(made, oauth=None))  # a connection is open
    assert isinstance(made.run(Body(content=b"{}"), attempt), Succeeded)

    assert set(asked) == {(1, 1)}, "once the token was there, and before the call"


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_bearer_is_read_in_any_case(server: OAuthServer, kind: str) -> None:
    server.token_type = kind
    assert isinstance(call(operation_of(server)), Succeeded)


def test_another_type_of_token_is_refused_by_its_name(server: OAuthServer) -> None:
    server.token_type = "mac"

    outcome = call(operation_of(server))

    assert isinstance(outcome, Failed)
    assert outcome.message == "the token_type of the token server is 'mac', not Bearer"


HTML = Answer(status=200, body=b"<html>Sign in</html>", content_type="text/html")


@pytest.mark.parametrize(
    ("instead", "kind", "message"),
    [
        (
            Answer(status=400, body=b'{"error": "invalid_client", "error_description": "who are\\nyou?"}'),
            Failed,
            "the token server answered 400: invalid_client: who are you?",
        ),
        (Answer(status=401, body=b"<html>"), Failed, "the token server answered 401"),
        (Answer(status=403, body=b'{"error": 7}'), Failed, "the token server answered 403"),
        (Answer(status=408, body=b""), TryAgain, "the token server answered 408"),
        (
            Answer(status=500, body=b'{"error": "broken"}'),
            TryAgain,
            "the token server answered 500: broken",
        ),
        (Answer(status=302, body=b"", headers={"Location": "/other"}), TryAgain, "the token server answered 302"),
        (HTML, TryAgain, "the token server answered 200 without an access_token in JSON"),
        (Answer(status=200, body=b"[]"), TryAgain, "the token server answered 200 without an access_token in JSON"),
        (
            Answer(status=200, body=b'{"access_token": "", "token_type": "Bearer"}'),
            TryAgain,
            "the token server answered 200 without an access_token in JSON",
        ),
        (
            Answer(status=200, body=b'{"access_token": "t"}'),
            Failed,
            "the token_type of the token server is missing, not Bearer",
        ),
        (
            Answer(status=200, body=b'{"access_token": "a\\r\\nX-Evil: 1", "token_type": "Bearer"}'),
            Failed,
            "the token server's access_token can't stand in a header",
        ),
        (
            Answer(status=200, body=b"x" * 10_000_000),
            TryAgain,
            "the token server's answer is larger than 65536 bytes",
        ),
        (
            Answer(status=200, body=b"x", headers={"Content-Encoding": "br"}),
            TryAgain,
            "the token server's answer is compressed as 'br', which was not asked for and can't be read",
        ),
    ],
)
def test_what_is_no_token_is_told(
    server: OAuthServer, instead: Answer, kind: type[Failed | TryAgain], message: str
) -> None:
    server.instead = instead

    outcome = call(operation_of(server))

    assert isinstance(outcome, Failed | TryAgain)
    assert (type(outcome), outcome.message) == (kind, message)
    assert outcome.code is (ErrorCode.OPERATION_ERROR if kind is Failed else ErrorCode.DOWNSTREAM_ERROR)
    assert server.calls == []


def test_a_busy_token_server_says_for_how_long(server: OAuthServer) -> None:
    server.instead = Answer(status=429, body=b"", headers={"Retry-After": "7"})

    outcome = call(operation_of(server))

    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == timedelta(seconds=7)


def test_a_token_server_that_is_down_is_told_as_such(server: OAuthServer) -> None:
    outcome = call(operation_of(server, token_url=f"http://127.0.0.1:{free_port()}/token"))

    assert isinstance(outcome, TryAgain)
    assert outcome.message.startswith("the token server can't be reached: ConnectError: ")


def test_a_slow_token_server_has_only_the_attempts_time(server: OAuthServer) -> None:
    server.delay_seconds = 3
    began = time.monotonic()

    outcome = call(operation_of(server), seconds=0.4)

    assert isinstance(outcome, TryAgain)
    assert outcome.message == "the token server did not answer in time"
    assert time.monotonic() - began < 2


def test_a_shortage_of_this_process_is_nobodys_fault(server: OAuthServer) -> None:
    made = operation_of(server)
    with no_more_files():
        outcome = call(made)

    assert isinstance(outcome, HandedBack)
    assert (outcome.reason, outcome.was_called) == ("own shortage", False)


@pytest.mark.parametrize("said", [CLIENT_SECRET, "s3cret+%26+more%3A%25", "Z2F0ZTpzM2NyZXQrJTI2K21vcmUlM0ElMjU="])
def test_a_secret_that_a_server_repeats_is_told_to_nobody(
    server: OAuthServer, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.instead = Answer(status=400, body=f'{{"error": "bad", "error_description": "<{said}>"}}'.encode())

    outcome = call(operation_of(server))

    assert isinstance(outcome, Failed)
    assert outcome.message == "the token server answered 400: bad: <***>"
    assert said not in caplog.text


def test_a_token_that_a_downstream_repeats_is_told_to_nobody(
    server: OAuthServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.refuses_all = True

    outcome = call(operation_of(server))

    assert isinstance(outcome, Failed)
    assert outcome.detail["downstream_body"] == "not good: Bearer ***"
    (token,) = server.all_tokens
    assert token not in repr(outcome) + caplog.text


def test_neither_credentials_nor_tokens_show_their_secret(server: OAuthServer) -> None:
    made = operation_of(server)
    token = AccessToken(text="tok-1", fetched=0, seconds=1)

    assert CLIENT_SECRET not in repr(made) + str(made.oauth)
    assert "tok-1" not in repr(token)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        *[("7200", 7200), ('"7200"', 7200), ("0.5", 0.5), ("null", 3600), ('"soon"', 3600), ("true", 3600), ("-5", 0)],
        *[("1e300", 315_360_000), ("9" * 60, 315_360_000)],
    ],
)
def test_how_long_a_token_is_good_is_read_or_an_hour(server: OAuthServer, said: str, seconds: float) -> None:
    body = f'{{"access_token": "t", "token_type": "Bearer", "expires_in": {said}}}'
    server.instead = Answer(status=200, body=body.encode())

    assert fetch_token(credentials(server), connections_by(Way()), 5).seconds == seconds


@pytest.mark.parametrize(
    ("seconds", "age", "is_good", "is_young"),
    [
        *[(3600, 0, True, True), (3600, 29, True, True), (3600, 31, True, False), (3600, 3565, True, False)],
        *[(3600, 3571, False, False), (10, 4, True, True), (10, 6, True, False), (10, 9.5, False, False)],
        (0, 0, False, False),
    ],
)
def test_a_token_is_good_until_shortly_before_its_end(
    seconds: float, age: float, is_good: bool, is_young: bool
) -> None:
    token = AccessToken(text="t", fetched=clock.monotonic() - age, seconds=seconds)
    assert (token.is_good, token.is_young) == (is_good, is_young)
