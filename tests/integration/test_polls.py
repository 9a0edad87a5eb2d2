"""A plain poll is answered past Flask, and exactly as Flask answers it; all else is Flask's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.web import Web
from tidegate import lanes
from tidegate.keys import KeyStore, Role
from tidegate.states import State

TICKET = "ticket="


class Sides:
    """The same application, asked as it is, and past its own way for polls."""

    def __init__(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        self.web = web
        self._monkeypatch = monkeypatch
        self.dispatched = 0
        flask = web.app.full_dispatch_request

        def counted() -> Any:
            self.dispatched += 1
            return flask()

        monkeypatch.setattr(web.app, "full_dispatch_request", counted)

    def answers(self, path: str, headers: Mapping[str, str]) -> tuple[TestResponse, TestResponse, bool]:
        """What both say, and whether the first said it without Flask."""
        client = self.web.client
        before = self.dispatched
        short = client.get(path, headers=dict(headers))
        is_short = self.dispatched == before
        with self._monkeypatch.context() as patch:
            patch.setattr("webapp.polls._polled", lambda _: None)
            return short, client.get(path, headers=dict(headers)), is_short


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two looks at the same job may differ in stands still: the lanes' sample and the jitter of Retry-After."""
    monkeypatch.setattr(lanes, "_FRESH_SECONDS", float("inf"))
    monkeypatch.setattr("random.random", lambda: 0.5)


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def sides(
    tmp_path: Path, database_url: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sides]:
    web = Web(tmp_path, database_url, **settings)
    yield Sides(web, monkeypatch)
    web.close()


def assert_same(short: TestResponse, long: TestResponse) -> None:
    assert short.status == long.status
    assert dict(short.headers) == dict(long.headers)
    if short.get_data() != long.get_data():
        assert without_estimates(short.get_json()) == without_estimates(long.get_json())


def without_estimates(document: dict[str, Any]) -> dict[str, Any]:
    """Each look counts from its own instant; and a ticket is made for each."""
    for name in ("estimated_start", "estimated_finish"):
        if document["waiting"]:
            document["waiting"].pop(name)
    document["links"]["events"] = document["links"]["events"].partition(TICKET)[0]
    return document


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "application/json"},
        {"Accept": "*/*", "User-Agent": "curl"},
        {"Host": "tide.example"},
        {"Host": "tide.example:80"},
        {"Host": "tide.example:8443"},
        {"Host": "[::1]:8000"},
        {"If-None-Match": 'W/"0-unknown"'},
        {"If-None-Match": "*"},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    ],
    ids=str,
)
def test_a_plain_poll_is_answered_as_flask_answers_it(sides: Sides, state: State, headers: dict[str, str]) -> None:
    job_id = sides.web.job_in(state)
    short, long, is_short = sides.answers(f"/v1/jobs/{job_id}", headers)
    assert is_short
    assert_same(short, long)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_what_has_not_changed_is_304_without_flask(sides: Sides, state: State) -> None:
    path = f"/v1/jobs/{sides.web.job_in(state)}"
    for tag in (sides.web.client.get(path).headers["ETag"], sides.web.client.get(path).headers["ETag"][2:]):
        short, long, is_short = sides.answers(path, {"If-None-Match": f'"other", {tag}'})
        assert is_short
        assert short.status_code == 304
        assert_same(short, long)


def test_a_result_that_is_not_json_is_told_by_its_type(sides: Sides) -> None:
    job_id = sides.web.accepted()
    sides.web.succeed(job_id, b"\x89PNG", "image/png", is_json=False)
    short, long, is_short = sides.answers(f"/v1/jobs/{job_id}", {})
    assert is_short
    assert_same(short, long)
    assert short.get_json()["result"] is None
    assert short.get_json()["result_content_type"] == "image/png"


def test_a_job_past_its_deadline_is_504_at_once(sides: Sides) -> None:
    job_id = sides.web.accepted()
    sides.web.pass_deadline(job_id)
    short, long, is_short = sides.answers(f"/v1/jobs/{job_id}", {})
    assert is_short
    assert short.status_code == 504
    assert_same(short, long)
    assert sides.web.row(job_id).state == State.EXPIRED


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/jobs/{id}?x=1", {}),
        ("/v1/jobs/{id}", {"Accept": "text/event-stream"}),
        ("/v1/jobs/{id}", {"Prefer": "respond-async"}),
        ("/v1/jobs/{id}", {"Origin": "https://app.example"}),
        ("/v1/jobs/{id}/", {}),
        ("/v1/jobs/01a214f1-a38d-72aa-b298-641c9ffd8ce6", {}),
        ("/v1/jobs/nonsense", {}),
        ("/v1/jobs/{id}", {"Host": "no host"}),
    ],
    ids=str,
)
def test_what_is_more_than_a_plain_poll_is_flasks(sides: Sides, path: str, headers: dict[str, str]) -> None:
    job_id = sides.web.job_in(State.SUCCEEDED)
    short, long, is_short = sides.answers(path.replace("{id}", job_id), headers)
    assert not is_short
    assert short.status == long.status
    assert dict(short.headers) == dict(long.headers)


@pytest.mark.parametrize("settings", [{"cors_origins": ("https://app.example", "https://other.example")}])
def test_where_browsers_of_other_sites_may_ask_caches_know_that_it_matters_who_asks(sides: Sides) -> None:
    path = f"/v1/jobs/{sides.web.job_in(State.SUCCEEDED)}"
    short, _, is_short = sides.answers(path, {})
    assert is_short
    assert short.headers["Vary"] == "Accept, Origin"
    _, browsers, is_short = sides.answers(path, {"Origin": "https://other.example"})
    assert not is_short
    assert browsers.headers["Access-Control-Allow-Origin"] == "https://other.example"


@pytest.mark.parametrize("settings", [{"public_url": "https://api.example/tide"}])
def test_links_are_under_the_public_url(sides: Sides) -> None:
    short, long, is_short = sides.answers(f"/v1/jobs/{sides.web.accepted()}", {"Host": "10.0.0.1"})
    assert is_short
    assert_same(short, long)
    assert short.get_json()["links"]["self"].startswith("https://api.example/tide/v1/jobs/")


@pytest.mark.parametrize("settings", [{"trusted_proxies": ("127.0.0.1/32",)}])
def test_a_trusted_proxys_headers_count(sides: Sides) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example", "X-Forwarded-Prefix": "/tide"}
    short, long, is_short = sides.answers(f"/v1/jobs/{sides.web.accepted()}", forwarded)
    assert is_short
    assert_same(short, long)
    assert short.get_json()["links"]["self"].startswith("https://api.example/tide/v1/jobs/")


@pytest.mark.parametrize("settings", [{"auth": "keys"}])
def test_with_keys_it_is_the_owners(sides: Sides) -> None:
    keys = KeyStore(sides.web.database)
    (_, owner), (_, other), (_, operator) = (
        keys.create(client, name="k", role=role)
        for client, role in (("one", Role.CLIENT), ("other", Role.CLIENT), ("ops", Role.OPERATOR))
    )
    answer = sides.web.submit(headers=bearer(owner))
    path = f"/v1/jobs/{answer.get_json()['id']}"
    for secret in (owner, operator):
        short, long, is_short = sides.answers(path, bearer(secret))
        assert is_short
        assert_same(short, long)
        assert TICKET in short.get_json()["links"]["events"] or secret == operator
    for headers, status in (
        (bearer(other), 404),
        (bearer("tg_none"), 401),
        ({"Authorization": "Basic eDp5"}, 401),
        ({}, 401),
    ):
        short, long, is_short = sides.answers(path, headers)
        assert not is_short
        assert (short.status_code, long.status_code) == (status, status)


@pytest.mark.parametrize("settings", [{"poll_limit": "4/h"}])
def test_polls_count_against_the_limit_once(sides: Sides) -> None:
    """Also the one that is refused: Flask is told that it was counted."""
    path = f"/v1/jobs/{sides.web.accepted()}"
    seen = [sides.web.client.get(path) for _ in range(6)]
    assert [answer.status_code for answer in seen] == [202] * 4 + [429] * 2
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in seen] == [
        f'"reads";r={left}' for left in (3, 2, 1, 0, 0, 0)
    ]
    assert seen[0].headers["RateLimit-Policy"] == '"reads";q=4;w=3600'
    assert sides.dispatched == 3, "the submit and what was refused"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
