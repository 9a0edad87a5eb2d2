"""Every error as one kind of document, headers on every answer, health, the list of operations, a database away."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.support.processes import free_port
from tests.support.valkey import Valkey
from tests.support.web import Web, assert_is_problem, assert_tells_nothing

UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
PATHS = [
    "/v1/operations",
    "/v1/operations/echo",
    "/v1/operations/echo/jobs",
    f"/v1/jobs/{UNKNOWN}",
    f"/v1/jobs/{UNKNOWN}/result",
    f"/v1/jobs/{UNKNOWN}/cancel",
    "/health/live",
    "/health/ready",
]
ALLOWED = {
    "/v1/operations/echo/jobs": {"POST"},
    f"/v1/jobs/{UNKNOWN}": {"GET", "HEAD", "DELETE"},
    f"/v1/jobs/{UNKNOWN}/cancel": {"POST"},
}


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/operations/",
        "/v1/operations/echo/jobs/",
        "/v2/jobs",
        "/v1//jobs",
        "/V1/operations",
        "/.env",
        "/static/x",
        "/v1/../config/settings.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/\u00fc",
        "/%00",
        "/%ff",
    ],
)
def test_an_unknown_route_is_a_404(web: Web, path: str) -> None:
    assert_is_problem(web.client.get(path), 404, "not-found")


@pytest.mark.parametrize("action", ["", "/result", "/cancel"])
@pytest.mark.parametrize(
    "job_id", ["1", "x", "null", UNKNOWN[:-1], UNKNOWN + "0", UNKNOWN.replace("-", ""), "%00", "a" * 5000, "'--"]
)
def test_a_malformed_id_is_a_404(web: Web, job_id: str, action: str) -> None:
    path = f"/v1/jobs/{job_id}{action}"
    assert_is_problem(web.client.post(path) if action == "/cancel" else web.client.get(path), 404, "not-found")


def test_an_unknown_id_is_a_404_and_no_pretended_pending(web: Web) -> None:
    for answer in (
        web.read(UNKNOWN),
        web.client.get(f"/v1/jobs/{UNKNOWN}/result"),
        web.client.post(f"/v1/jobs/{UNKNOWN}/cancel"),
    ):
        assert_is_problem(answer, 404, "unknown-job")
        assert "Tidegate-Job-State" not in answer.headers
        assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("name", ["nothing", "Echo", "echo%00", "%ff", "\u00fc", "..", "a" * 5000])
def test_an_unknown_operation_is_a_404(web: Web, name: str) -> None:
    assert_is_problem(web.client.get(f"/v1/operations/{name}"), 404, "unknown-operation")
    assert_is_problem(web.client.post(f"/v1/operations/{name}/jobs", json=1), 404, "unknown-operation")
    assert web.count() == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(web: Web, path: str, method: str) -> None:
    if method in ALLOWED.get(path, ()):
        pytest.skip("it is a right one here")
    answer = web.client.open(path, method=method)
    assert_is_problem(answer, 405, "method-not-allowed")
    allowed = {each.strip() for each in answer.headers["Allow"].split(",")}
    assert allowed == ALLOWED.get(path, {"GET", "HEAD"}) | {"OPTIONS"}


@pytest.mark.parametrize("path", PATHS)
def test_options_names_the_methods(web: Web, path: str) -> None:
    answer = web.client.options(path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert "OPTIONS" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/nothing", f"/v1/jobs/{UNKNOWN}", "/v1/operations/nothing"])
def test_head_of_an_error_has_its_status_and_no_body(web: Web, path: str) -> None:
    answer = web.client.head(path)
    assert (answer.status_code, answer.data, answer.content_type) == (404, b"", "application/problem+json")


def answers(web: Web) -> Iterator[TestResponse]:
    """One of each kind."""
    for path in ("/v1", "/health/live", "/health/ready", "/v1/operations", f"/v1/jobs/{UNKNOWN}"):
        yield web.client.get(path)
        yield web.client.put(path)
        yield web.client.options(path)
    yield web.submit()
    yield web.submit("echo", b"{")
    yield web.submit("sleepy_io", b"{}")
    yield web.submit("echo", b"[" * 2_000_000)
    yield web.submit("echo", b"1", "text/plain")


def test_every_answer_carries_the_security_headers_and_says_nothing_of_the_inside(web: Web) -> None:
    for answer in answers(web):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert_tells_nothing(answer.get_data(as_text=True))
        assert str(web.settings.data) not in answer.get_data(as_text=True)


def test_an_unforeseen_fault_is_logged_and_tells_nothing(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with web.database.transaction() as connection:
        connection.execute(text("DROP TABLE bodies"))
        connection.execute(text("ALTER TABLE jobs DROP COLUMN note"))
    for answer in (web.submit(), web.read(UNKNOWN)):
        assert answer.status_code in (500, 503)
        assert answer.content_type == "application/problem+json"
        assert_tells_nothing(answer.get_data(as_text=True))
        assert "note" not in answer.get_json()["detail"]
    assert "no such column" in caplog.text or "has no column" in caplog.text


def test_a_submit_that_can_not_be_recorded_whole_leaves_nothing(web: Web) -> None:
    with web.database.transaction() as connection:
        connection.execute(text("DROP TABLE bodies"))
    assert web.submit().status_code >= 500
    assert web.count() == 0


# Health


def test_live_asks_nobody(tmp_path: Path) -> None:
    web = Web(tmp_path, f"sqlite:///{tmp_path}")
    answer = web.client.get("/health/live")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "live"})


def test_ready_when_all_is_there(tmp_path: Path, database_url: str, broker: Valkey) -> None:
    web = Web(tmp_path, database_url, broker_url=broker.url)
    web.store.heartbeats.beat("one", queue="io", size=8, until=timedelta(seconds=60))
    web.store.heartbeats.beat("two", queue="io", size=8, until=timedelta(seconds=60))
    answer = web.client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ready", "database": "ok", "broker": "ok", "workers": {"io": 16}}
    web.close()


def test_without_workers_it_accepts_and_says_that_it_does_not_dispatch(web: Web) -> None:
    web.store.heartbeats.beat("gone", queue="io", size=8, until=timedelta(seconds=-1))
    answer = web.client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "accepting, not dispatching"
    assert answer.get_json()["workers"] == {}


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_without_its_broker_it_accepts_as_fast_as_ever(
    tmp_path: Path, database_url: str, broker: Valkey, how: str
) -> None:
    web = Web(tmp_path, database_url, broker_url=broker.url)
    web.store.heartbeats.beat("one", queue="io", size=8, until=timedelta(seconds=60))
    broker.kill() if how == "dead" else broker.freeze()

    answer = web.client.get("/health/ready")
    assert answer.status_code == 200
    assert (answer.get_json()["status"], answer.get_json()["broker"]) == ("accepting, not dispatching", "away")

    began = time.monotonic()
    jobs = [web.accepted() for _ in range(20)]
    assert time.monotonic() - began < 2
    assert {web.row(job).state for job in jobs} == {"queued"}
    web.close()


# A database that is away


@pytest.fixture(params=["refused", "a directory", "not there", "no such database"])
def lost(request: pytest.FixtureRequest, tmp_path: Path) -> Web:
    """A face whose database can't be reached."""
    urls = {
        "refused": f"postgresql+psycopg://user:hunter2@127.0.0.1:{free_port()}/tidegate",
        "a directory": f"sqlite:///{tmp_path}",
        "not there": f"sqlite:///{tmp_path / 'nowhere' / 'tidegate.db'}",
        "no such database": "",
    }
    url = urls[request.param]
    if not url:
        right = str(request.getfixturevalue("postgresql_url"))
        url = right.rsplit("/", 1)[0] + "/hunter2"
    return Web(tmp_path, url)


def test_without_its_database_every_answer_is_a_quick_503(lost: Web) -> None:
    asks: list[Callable[[], TestResponse]] = [
        lost.submit,
        lambda: lost.read(UNKNOWN),
        lambda: lost.client.get(f"/v1/jobs/{UNKNOWN}/result"),
        lambda: lost.client.post(f"/v1/jobs/{UNKNOWN}/cancel"),
        lambda: lost.client.get("/health/ready"),
    ]
    for ask in asks:
        began = time.monotonic()
        answer = ask()
        assert time.monotonic() - began < 2
        assert_is_problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "Tidegate-Job-State" not in answer.headers
    assert lost.client.get("/health/live").status_code == 200
    assert lost.submit("echo", b"{").status_code == 400


def test_a_database_that_takes_connections_and_never_answers_is_a_503_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://user@127.0.0.1:{silent.getsockname()[1]}/tidegate"
        web = Web(tmp_path, url, patience=timedelta(seconds=2))  # the web server's
        began = time.monotonic()
        assert_is_problem(web.submit(), 503, "unavailable")
        assert time.monotonic() - began < 5


@pytest.mark.postgresql
def test_a_connection_that_the_database_dropped_costs_at_most_one_answer(tmp_path: Path, postgresql_url: str) -> None:
    web = Web(tmp_path, postgresql_url)
    web.accepted()
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with web.database.transaction() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
    statuses = [web.submit().status_code for _ in range(3)]
    assert set(statuses) <= {202, 503}
    assert statuses[-1] == 202
    web.close()


# What there is to submit to


def test_the_list_of_operations_has_schema_limits_and_link_and_no_secret(web: Web) -> None:
    answer = web.client.get("/v1/operations")
    assert answer.status_code == 200
    by_name = {operation["name"]: operation for operation in answer.get_json()["operations"]}
    assert {"quote", "csv_profile", "echo", "sleepy_io"} <= set(by_name)

    sleepy = by_name["sleepy_io"]
    assert sleepy["input_schema"]["required"] == ["seconds"]
    assert sleepy["input_schema"]["properties"]["seconds"]["maximum"] == 600
    assert sleepy["links"]["submit"] == "http://localhost/v1/operations/sleepy_io/jobs"
    assert sleepy["description"].startswith("Sleeps in a thread")

    quote = by_name["quote"]
    assert (quote["input_schema"], quote["timeout"], quote["attempt_timeout"]) == (None, 60, 5)
    assert quote["retry"]["attempts"] == 5
    assert "QUOTE_KEY" not in answer.get_data(as_text=True)
    assert "127.0.0.1" not in answer.get_data(as_text=True)
    assert web.client.get("/v1/operations/quote").get_json()["name"] == "quote"


def test_every_listed_link_can_be_submitted_to(web: Web) -> None:
    for operation in web.client.get("/v1/operations").get_json()["operations"]:
        answer = web.client.post(operation["links"]["submit"], data=b"", content_type="x/y")
        assert answer.status_code in (202, 415), operation["name"]
