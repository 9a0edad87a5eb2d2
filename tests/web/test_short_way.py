"""A plain submit or poll is answered past Flask, and exactly as through Flask, refusals too; all else is Flask's."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.web import Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.dispatch import lane_cache
from tidegate.jobs.job import Job
from tidegate.metrics.families import REFUSALS
from tidegate.notify.subscription import Subscription
from tidegate.states import FINAL_STATES, State
from webapp.serving.fast_path import FastPath

TICKET = "ticket="
SUBMIT = "/v1/operations/echo/jobs"
JSON = {"Content-Type": "application/json"}


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

    def answers(
        self, path: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> tuple[TestResponse, TestResponse, bool]:
        """What both say, and whether the first said it without Flask. With content it is posted."""
        method = "GET" if content is None else "POST"
        client = self.web.client
        before = self.dispatched
        short = client.open(path, method=method, headers=dict(headers), data=content)
        is_short = self.dispatched == before
        with self._monkeypatch.context() as patch:
            patch.setattr(FastPath, "_answer", lambda *_: None)
            return short, client.open(path, method=method, headers=dict(headers), data=content), is_short


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two looks at the same job may differ in stands still: the lanes' sample and the jitter of Retry-After."""
    monkeypatch.setattr(lane_cache, "_FRESH_SECONDS", float("inf"))
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
    assert _without_what_is_left(short) == _without_what_is_left(long)
    if short.get_data() != long.get_data():
        assert without_estimates(short.get_json()) == without_estimates(long.get_json())


def _without_what_is_left(answer: TestResponse) -> dict[str, str]:
    """The headers; of RateLimit only for what it is: each of the two answers is a read of its own."""
    return {name: re.sub(r";r=\d+", "", value) if name == "RateLimit" else value for name, value in answer.headers}


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
        {"Host": "tide.localhost"},
        {"Host": "tide.localhost:80"},
        {"Host": "tide.localhost:8443"},
        {"Host": "[::1]:8000"},
        {"Host": "xn--bcher-kva.example"},
        {"Host": "xn--bcher-kva.example:8443"},
        {"Host": "TIDE.example"},
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


def test_a_long_result_is_told_whole(sides: Sides) -> None:
    """It is not read with others' jobs."""
    job_id = sides.web.accepted()
    content = b'"' + b"x" * 100_000 + b'"'
    sides.web.succeed(job_id, content, is_json=True)
    short, long, is_short = sides.answers(f"/v1/jobs/{job_id}", {})
    assert is_short
    assert_same(short, long)
    assert short.get_json()["result"] == "x" * 100_000


@pytest.mark.parametrize("settings", [{"max_body": 100}])
def test_a_body_that_is_too_large_is_refused(sides: Sides) -> None:
    short, long, is_short = sides.answers(SUBMIT, JSON, b'"' + b"x" * 100 + b'"')
    assert not is_short
    assert (short.status_code, long.status_code) == (413, 413)
    assert sides.web.submit(content=b'"' + b"x" * 98 + b'"').status_code == 202


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
        ("/v1/jobs/nonsense", {}),
    ],
    ids=str,
)
def test_what_is_more_than_a_plain_poll_is_flasks(sides: Sides, path: str, headers: dict[str, str]) -> None:
    job_id = sides.web.job_in(State.SUCCEEDED)
    short, long, is_short = sides.answers(path.replace("{id}", job_id), headers)
    assert not is_short
    assert short.status == long.status
    assert dict(short.headers) == dict(long.headers)


def test_a_job_that_there_is_not_is_404_without_flask(sides: Sides) -> None:
    short, long, is_short = sides.answers("/v1/jobs/01a214f1-a38d-72aa-b298-641c9ffd8ce6", {})
    assert is_short
    assert short.status_code == 404
    assert short.status == long.status
    assert dict(short.headers) == dict(long.headers)
    assert short.get_json() == long.get_json()


@pytest.mark.parametrize("settings", [{"cors_origins": ("https://app.example", "https://other.example")}])
def test_where_browsers_of_other_sites_may_ask_caches_know_that_it_matters_who_asks(sides: Sides) -> None:
    path = f"/v1/jobs/{sides.web.job_in(State.SUCCEEDED)}"
    short, _, is_short = sides.answers(path, {})
    assert is_short
    assert short.headers.getlist("Vary") == ["Accept", "Origin"]
    _, browsers, is_short = sides.answers(path, {"Origin": "https://other.example"})
    assert not is_short
    assert browsers.headers["Access-Control-Allow-Origin"] == "https://other.example"


@pytest.mark.parametrize("settings", [{"cors_origins": ("https://app.example", "https://other.example")}])
def test_caches_know_that_of_a_refusal_too(sides: Sides) -> None:
    short, _, is_short = sides.answers("/v1/jobs/01a214f1-a38d-72aa-b298-641c9ffd8ce6", {})
    assert is_short
    assert (short.status_code, short.headers.getlist("Vary")) == (404, ["Origin"])


@pytest.mark.parametrize("settings", [{"public_url": "https://api.example/tide"}])
def test_links_are_under_the_public_url(sides: Sides) -> None:
    short, long, is_short = sides.answers(f"/v1/jobs/{sides.web.accepted()}", {"Host": "127.0.0.9"})
    assert is_short
    assert_same(short, long)
    assert short.get_json()["links"]["self"].startswith("https://api.example/tide/v1/jobs/")


@pytest.mark.parametrize("settings", [{"trusted_proxies": ("127.0.0.1/32",)}])
def test_a_trusted_proxys_headers_count(sides: Sides) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.localhost", "X-Forwarded-Prefix": "/tide"}
    short, long, is_short = sides.answers(f"/v1/jobs/{sides.web.accepted()}", forwarded)
    assert is_short
    assert_same(short, long)
    assert short.get_json()["links"]["self"].startswith("https://api.localhost/tide/v1/jobs/")


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
        assert is_short
        assert (short.status_code, long.status_code) == (status, status)
        assert dict(short.headers) == dict(long.headers)
        assert short.get_json() == long.get_json()


@pytest.mark.parametrize("settings", [{"poll_limit": "4/h"}])
def test_polls_count_against_the_limit_once(sides: Sides) -> None:
    """Also the one that is refused."""
    path = f"/v1/jobs/{sides.web.accepted()}"
    seen = [sides.web.client.get(path) for _ in range(6)]
    assert [answer.status_code for answer in seen] == [202] * 4 + [429] * 2
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in seen] == [
        f'"reads";r={left}' for left in (3, 2, 1, 0, 0, 0)
    ]
    assert seen[0].headers["RateLimit-Policy"] == '"reads";q=4;w=3600'
    assert sides.dispatched == 0


@pytest.mark.both_databases("the rows of both ways are compared")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "tide.localhost:8443"},
        {"Job-Timeout": "30"},
        {"Job-Not-Before": "2020-01-01T00:00:00Z"},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"Prefer": "wait=1"},
        {"Prefer": "respond-async, handling=lenient"},
        {"Prefer": "wait=soon"},
    ],
    ids=str,
)
def test_a_plain_submit_is_answered_as_flask_answers_it(sides: Sides, headers: dict[str, str]) -> None:
    short, long, is_short = sides.answers(SUBMIT, {**JSON, **headers}, b'{"n": 1}')
    assert is_short
    jobs = [answer.get_json()["id"] for answer in (short, long)]
    assert jobs[0] != jobs[1]
    assert short.status == long.status == "202 ACCEPTED"
    assert without_job(short.headers, jobs[0]) == without_job(long.headers, jobs[1])
    rows = [sides.web.row(job)._asdict() for job in jobs]
    own = ("id", "created_at", "run_at", "deadline")
    assert [rows[0][name] for name in rows[0] if name not in own] == [
        rows[1][name] for name in rows[1] if name not in own
    ]
    assert rows[0]["deadline"] - rows[0]["created_at"] == rows[1]["deadline"] - rows[1]["created_at"]
    assert sides.web.store.callers.body(jobs[0], "input") == sides.web.store.callers.body(jobs[1], "input")


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_a_submit_that_waits_for_an_end_is_answered_as_flask_answers_it(sides: Sides, state: State) -> None:
    """Its job has ended already: it is a submit's second try."""
    sides.web.job_in(state, Idempotency_Key="k1")
    headers = {**JSON, "Idempotency-Key": "k1", "Prefer": "wait=5"}
    short, long, is_short = sides.answers(SUBMIT, headers, b"1")
    assert is_short
    assert short.headers["Preference-Applied"] == "wait=5"
    assert short.headers["Location"] == short.get_json()["links"]["self"]
    assert_same(short, long)


def test_a_job_that_is_erased_while_its_submit_waits_is_404(sides: Sides) -> None:
    """No result and no 202: the job is gone."""
    gateway = sides.web.app.extensions["tidegate"]
    watch = gateway.watcher.watch

    def erased(job: Job, client_id: str, *, only_end: bool = False) -> Subscription | None:
        watching: Subscription | None = watch(job, client_id, only_end=only_end)
        if watching:
            watching.deliver(None)
        return watching

    gateway.watcher.watch = erased
    answer = sides.web.client.post(SUBMIT, json=1, headers={"Prefer": "wait=5"})
    assert (answer.status_code, sides.dispatched) == (404, 0)
    assert gateway.watcher.count == 0


def test_a_key_gives_the_same_job_on_both_ways(sides: Sides) -> None:
    short, long, is_short = sides.answers(SUBMIT, {**JSON, "Idempotency-Key": "k1"}, b"1")
    assert is_short
    assert_same(short, long)
    assert sides.web.count() == 1


@pytest.mark.parametrize(
    ("path", "headers", "content", "status"),
    [
        ("/v1/operations/none/jobs", JSON, b"1", 404),
        ("/v1/operations/quote/jobs", {**JSON, "Job-Timeout": "90"}, b"1", 400),
        (SUBMIT, JSON, b"{", 400),
        (SUBMIT, {"Content-Type": "text/plain"}, b"x", 415),
        (SUBMIT, {**JSON, "Content-Encoding": "gzip"}, b"1", 415),
        (SUBMIT, {**JSON, "Job-Timeout": "soon"}, b"1", 400),
        (SUBMIT, {**JSON, "Idempotency-Key": "ä"}, b"1", 400),
        (SUBMIT, {**JSON, "Webhook-Url": "http://127.0.0.1/"}, b"1", 422),
        (SUBMIT, {**JSON, "Host": ""}, b"1", 400),
    ],
    ids=str,
)
def test_a_refusal_is_told_as_flask_tells_it(
    sides: Sides, path: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    short, long, is_short = sides.answers(path, headers, content)
    assert is_short or headers.get("Host") == "", "without a host no link can be made: that is told in Flask"
    assert (short.status_code, long.status_code) == (status, status)
    assert dict(short.headers) == dict(long.headers)
    assert short.get_json() == long.get_json()
    assert sides.web.count() == 0


@pytest.mark.parametrize("settings", [{"cors_origins": ("https://app.example",)}])
@pytest.mark.parametrize(
    ("headers", "content"),
    [({"Origin": "https://app.example"}, b"1"), ({}, b'"' + b"x" * 70_000 + b'"')],
    ids=["browser", "large"],
)
def test_what_is_more_than_a_plain_submit_is_flasks(sides: Sides, headers: dict[str, str], content: bytes) -> None:
    short, _, is_short = sides.answers(SUBMIT, {**JSON, **headers}, content)
    assert not is_short
    assert short.status_code == 202


@pytest.mark.parametrize("terminated", [False, True], ids=["server-counts", "server-ends-it"])
def test_a_body_that_was_cut_off_is_no_job(sides: Sides, terminated: bool) -> None:
    """Some servers give the application a body that just ends; Werkzeug believes them."""
    answer = sides.web.client.post(
        SUBMIT,
        data=b"1",
        headers=JSON,
        environ_overrides={"CONTENT_LENGTH": "8", **({"wsgi.input_terminated": True} if terminated else {})},
    )
    assert answer.status_code == 400
    assert sides.web.count() == 0


def test_what_fails_is_not_tried_again(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error may come after the job was recorded: a second try could record another."""
    tries = []

    def insert(*_: Any) -> Any:
        tries.append(1)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(type(sides.web.store.submissions), "insert", insert)
    answer = sides.web.submit()
    assert answer.status_code == 500
    assert answer.get_json()["type"] == "urn:tidegate:problem:internal-error"
    assert tries == [1]
    assert sides.dispatched == 0


@pytest.mark.parametrize("settings", [{"submit_limit": "2/h"}])
def test_submits_count_against_the_limit_once(sides: Sides) -> None:
    seen = [sides.web.submit() for _ in range(4)]
    assert [answer.status_code for answer in seen] == [202, 202, 429, 429]
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in seen] == [
        f'"submits";r={left}' for left in (1, 0, 0, 0)
    ]
    assert sides.dispatched == 0


@pytest.mark.parametrize("settings", [{"submit_limit": "9/h", "poll_limit": "9/h"}])
def test_what_fails_after_it_was_counted_says_what_is_left(sides: Sides) -> None:
    """Of both doors; and it was counted once."""
    short, long, is_short = sides.answers(SUBMIT, JSON, b"{")
    assert is_short
    assert (short.status_code, long.status_code) == (400, 400)
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in (short, long)] == [
        f'"submits";r={left}' for left in (8, 7)
    ]


@pytest.mark.parametrize(
    ("path", "operation", "name"),
    [(SUBMIT, "echo", "malformed-body"), ("/v1/operations/none/jobs", "", "unknown-operation")],
)
def test_a_refusal_is_counted_once_for_its_operation(sides: Sides, path: str, operation: str, name: str) -> None:
    counts = sides.web.app.extensions["tidegate"].store.counts
    counts.drain()
    _, _, is_short = sides.answers(path, JSON, b"{")
    assert is_short
    assert counts.drain() == {(REFUSALS.name, (operation, name)): 2}


def without_job(headers: Any, job_id: str) -> dict[str, str]:
    return {name: value.replace(job_id, "ID") for name, value in headers.items()}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
