"""A client that submits or polls too fast is told so, when to come again, and beforehand how much is left."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.support.web import Web, assert_is_problem
from tidegate import clock
from tidegate.access.client_limits import ClientLimit
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.rate import Rate
from tidegate.states import FINAL_STATES, State

POLICY = re.compile(r'"(submits|reads)";q=(\d+);w=(\d+)')
LEFT = re.compile(r'"(submits|reads)";r=(\d+);t=(\d+)')


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Callable[..., Web]:
    """A face with these limits."""
    return lambda **settings: Web(tmp_path, database_url, **settings)


def left(answer: TestResponse) -> tuple[str, int, int]:
    """Name, what remains, and seconds until it is more; the syntax of draft-ietf-httpapi-ratelimit-headers-10."""
    match = LEFT.fullmatch(answer.headers["RateLimit"])
    assert match
    return match[1], int(match[2]), int(match[3])


def test_without_limits_nothing_is_told(web: Web) -> None:
    answer = web.submit()
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers


def test_submits_beyond_the_limit_are_a_429_that_says_when(make: Callable[..., Web]) -> None:
    web = make(submit_limit="3/m")

    taken = [web.submit() for _ in range(3)]
    refused = web.submit()

    assert [answer.status_code for answer in taken] == [202] * 3
    assert [left(answer)[:2] for answer in taken] == [("submits", 2), ("submits", 1), ("submits", 0)]
    assert all(0 < left(answer)[2] <= 20 for answer in taken)
    document = assert_is_problem(refused, 429, "too-fast")
    assert "3 submits in 60 s" in document["detail"]
    assert 15 <= int(refused.headers["Retry-After"]) <= 20
    assert left(refused) == ("submits", 0, int(refused.headers["Retry-After"]))
    for answer in (*taken, refused):
        assert POLICY.fullmatch(answer.headers["RateLimit-Policy"])
        assert answer.headers["RateLimit-Policy"] == '"submits";q=3;w=60'
    assert web.count() == 3
    assert web.read(taken[0].get_json()["id"]).status_code == 202, "reads have no limit"


def test_what_is_refused_for_another_reason_counts_too(make: Callable[..., Web]) -> None:
    web = make(submit_limit="2/m")
    assert [web.submit("echo", b"{").status_code for _ in range(3)] == [400, 400, 429]


def test_retries_count_as_submits(make: Callable[..., Web]) -> None:
    web = make(submit_limit="2/m")
    job_id = web.job_in(State.CANCELLED)
    assert web.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert_is_problem(web.client.post(f"/v1/jobs/{job_id}/retry"), 429, "too-fast")
    assert web.count() == 2


def test_polls_beyond_the_limit_are_a_429(make: Callable[..., Web]) -> None:
    web = make(poll_limit="3/m")
    job_id = web.accepted()
    assert [web.read(job_id).status_code for _ in range(2)] == [202] * 2
    assert web.client.get(f"/v1/jobs/{job_id}/result").status_code == 202
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/result", "/v1/jobs"):
        answer = web.client.get(path)
        assert_is_problem(answer, 429, "too-fast")
        assert int(answer.headers["Retry-After"]) >= 1
        assert left(answer)[0] == "reads"
    assert web.submit().status_code == 202, "submits have no limit"


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_reads_of_final_jobs_are_never_refused(make: Callable[..., Web], state: State) -> None:
    web = make(poll_limit="1/d")
    job_id = web.job_in(state)
    web.client.get("/v1/jobs")
    assert web.client.get("/v1/jobs").status_code == 429
    statuses = {web.read(job_id).status_code for _ in range(5)}
    statuses |= {web.client.get(f"/v1/jobs/{job_id}/result").status_code for _ in range(5)}
    assert len(statuses) == 1
    assert 429 not in statuses


def test_each_client_has_a_limit_of_its_own(make: Callable[..., Web]) -> None:
    web = make(auth="keys", submit_limit="1/h")
    keys = KeyStore(web.database)
    one, same, other = (keys.create(client, name="", role=Role.CLIENT)[1] for client in ("one", "one", "other"))
    statuses = [
        web.submit(headers={"Authorization": f"Bearer {secret}"}).status_code for secret in (one, one, same, other)
    ]
    assert statuses == [202, 429, 429, 202]


def test_without_a_key_nothing_is_counted(make: Callable[..., Web]) -> None:
    web = make(auth="keys", submit_limit="1/h", poll_limit="1/h")
    for _ in range(3):
        assert_is_problem(web.submit(), 401, "unauthorized")
        assert web.client.get("/v1/jobs").status_code == 401


def test_a_bulk_submit_is_taken_as_far_as_the_limit_goes(make: Callable[..., Web]) -> None:
    web = make(submit_limit="3/h")
    items = [{"input": number} for number in range(5)]

    answers = web.client.post("/v1/operations/echo/jobs/bulk", json=items).get_json()["jobs"]

    assert [answer["status"] for answer in answers] == [202, 202, 202, 429, 429]
    assert web.count() == 3
    again = web.client.post("/v1/operations/echo/jobs/bulk", json=items)
    assert_is_problem(again, 429, "too-fast")
    assert "Retry-After" in again.headers
    assert web.count() == 3


def test_a_bulk_submit_of_all_or_none_beyond_the_limit_is_a_429_and_nothing_is_taken(make: Callable[..., Web]) -> None:
    web = make(submit_limit="3/h")
    items = [{"input": number} for number in range(5)]
    assert_is_problem(web.client.post("/v1/operations/echo/jobs/bulk?all_or_none=true", json=items), 429, "too-fast")
    assert web.count() == 0


# The limit itself


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        """As `clock.monotonic`."""
        return self.seconds


RATES = st.sampled_from(["1/s", "3/s", "7/m", "50/s", "100/h", "1/d"]).map(Rate.parse)
PAUSES = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3), st.floats(0, 90)), min_size=1, max_size=200)


@given(rate=RATES, pauses=PAUSES)
def test_no_window_has_more_than_a_full_burst_and_the_pace(rate: Rate, pauses: list[float]) -> None:
    hands = Hands()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", hands.monotonic)
        limit = ClientLimit(rate)
        allowed: list[float] = []
        for pause in pauses:
            hands.seconds += pause
            if limit.ask("one").allowed:
                allowed.append(hands.seconds)
    for first, begin in enumerate(allowed):
        for last, end in enumerate(allowed[first:], first):
            assert last - first + 1 <= rate.calls + (end - begin) * 1e6 / rate.interval + 1e-3


@given(rate=RATES, pauses=PAUSES)
def test_what_is_told_is_true(rate: Rate, pauses: list[float]) -> None:
    hands = Hands()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", hands.monotonic)
        limit = ClientLimit(rate)
        for pause in pauses:
            hands.seconds += pause
            verdict = limit.ask("one")
            assert 0 <= verdict.remaining < rate.calls or not verdict.allowed
            assert 0 < verdict.more_in_seconds <= rate.interval / 1e6 + 1e-6
            if not verdict.allowed:
                assert verdict.remaining == 0
                hands.seconds += verdict.more_in_seconds + 1e-5
                assert limit.ask("one").allowed, "it may come again when it was told to"
        verdict = limit.ask("one")
        more = min(verdict.remaining, 60)
        assert all(limit.ask("one").allowed for _ in range(more)), "what remains is there"
        if more == verdict.remaining:
            assert not limit.ask("one").allowed, "and no more"


@given(rate=RATES, asks=st.lists(st.sampled_from("abc"), max_size=60))
def test_clients_do_not_feel_each_other(rate: Rate, asks: list[str]) -> None:
    hands = Hands()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", hands.monotonic)
        together, alone = ClientLimit(rate), {name: ClientLimit(rate) for name in "abc"}
        for name in asks:
            assert together.ask(name) == alone[name].ask(name)


def test_a_client_that_was_away_has_the_whole_burst_again() -> None:
    hands = Hands()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", hands.monotonic)
        limit = ClientLimit(Rate.parse("5/s"))
        assert [limit.ask("one").allowed for _ in range(6)] == [True] * 5 + [False]
        hands.seconds += timedelta(hours=1).total_seconds()
        assert [limit.ask("one").allowed for _ in range(6)] == [True] * 5 + [False]
