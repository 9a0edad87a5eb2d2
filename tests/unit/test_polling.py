"""What an answer says of where and when work that was accepted is asked for."""

from datetime import timedelta

import pytest

from tidegate.operations.http_url import parse_url
from tidegate.operations.outcome import ErrorCode, Failed, Polls
from tidegate.operations.polling import LONGEST, next_poll, wait_before_poll

ASKED = parse_url("https://api.example/v1/orders?x=1")
ORIGIN = "https://api.example"
SECOND = timedelta(seconds=1)


def polls(location: str | None, *, status: int = 202, is_poll: bool = False, asked: str = ASKED.text) -> object:
    return next_poll(status, location, parse_url(asked), is_poll=is_poll, retry_after=None)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://api.example/v1/jobs/1", ORIGIN + "/v1/jobs/1"),
        ("HTTPS://API.example:443/v1/jobs/1", "https://API.example:443/v1/jobs/1"),
        ("//api.example/v1", ORIGIN + "/v1"),
        ("/status?id=1&a=%20", ORIGIN + "/status?id=1&a=%20"),
        ("status/1", ORIGIN + "/v1/status/1"),
        ("../status/1", ORIGIN + "/status/1"),
        ("?id=2", ORIGIN + "/v1/orders?id=2"),
        ("/status/1#now", ORIGIN + "/status/1"),
    ],
)
def test_a_location_is_read_against_the_url_that_was_asked(location: str, url: str) -> None:
    assert polls(location) == Polls(url=url)


@pytest.mark.parametrize(
    "location",
    [
        "http://api.example/v1/jobs/1",
        "https://api.example:8443/",
        "https://other.example/",
        "//other.example/v1",
        "https://api.example.evil/",
        "https://api.example@evil.example/",
        "https://user@api.example/",
        "https:\\\\evil.example/",
        "/a b",
        "/straße",
        "ftp://api.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "/" + "a" * 9000,
    ],
)
def test_any_other_scheme_host_or_port_is_a_final_failure(location: str) -> None:
    for is_poll in (False, True):
        outcome = polls(location, is_poll=is_poll)
        assert isinstance(outcome, Failed)
        assert outcome.code is ErrorCode.DOWNSTREAM_ERROR
        assert outcome.message.startswith("the downstream answered 202 with a Location")
        assert len(outcome.message) < 200


def test_without_a_location_a_poll_goes_on_at_its_url_and_a_call_has_failed() -> None:
    outcome = polls(None)
    assert isinstance(outcome, Failed)
    assert outcome.message == "the downstream answered 202 with no Location to ask for it at"
    assert polls(None, is_poll=True) == polls("", is_poll=True) == Polls(url=ASKED.text)


def test_a_303_is_asked_at_once_and_without_a_location_it_is_any_other_answer() -> None:
    assert polls("/result", status=303) == Polls(url=ORIGIN + "/result", after=timedelta(0))
    later = next_poll(303, "/result", ASKED, is_poll=True, retry_after=3 * SECOND)
    assert later == Polls(url=ORIGIN + "/result", after=3 * SECOND)
    assert [polls(None, status=303), polls("/x", status=302), polls("/x", status=200), polls("/x", status=201)] == [
        None
    ] * 4


def test_a_202_is_never_asked_for_again_at_once() -> None:
    for said in (timedelta(0), timedelta(milliseconds=1)):
        assert next_poll(202, "/x", ASKED, is_poll=True, retry_after=said) == Polls(url=ORIGIN + "/x", after=SECOND)
    assert next_poll(202, None, ASKED, is_poll=True, retry_after=5 * SECOND) == Polls(url=ASKED.text, after=5 * SECOND)


@pytest.mark.parametrize(
    ("after", "number", "wait"),
    [
        (None, 0, 1),
        (None, 1, 2),
        (None, 4, 16),
        (None, 5, 30),
        (None, 10**6, 30),
        (7, 3, 7),
        (0.2, 3, 1),
        (10**7, 0, 3600),
        (0, 0, 0),
        (0, 4, 0),
        (0, 5, 30),
    ],
)
def test_the_wait_before_a_poll_is_the_downstreams_within_bounds_or_grows(
    after: float | None, number: int, wait: float
) -> None:
    said = None if after is None else timedelta(seconds=after)
    assert wait_before_poll(said, polls=number) == timedelta(seconds=wait) <= LONGEST
