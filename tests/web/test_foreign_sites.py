"""Without keys: names that somebody makes point here, and what pages of other sites send. At every route."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.page import OWN
from tests.support.web import Web, assert_is_problem
from tests.support.web_server import WebServer
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.states import State
from webapp.serving.request_guard import LIVE

EVIL = "evil.example"
FROM_ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "null"},
    {"Origin": "localhost"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin,cross-site"},
    {"Origin": "http://localhost,https://evil.example"},
    {"Origin": "http://["},
]


@pytest.fixture
def open_web(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    """Without keys."""
    web = Web(tmp_path, sqlite_url)
    web.declare()
    yield web
    web.close()


def every_route(web: Web, job_id: str) -> list[tuple[str, str]]:
    """Every method and path of the application, page and docs included, about this job where it is about one."""
    found = []
    for rule in web.app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(?:job_id|secret_id)>", job_id, rule.rule)
        path = re.sub(r"<any\((\w+)[^)]*\):\w+>", r"\1", path).replace("<operation>", "echo")
        path = re.sub(r"<(?:\w+:)?\w+>", "echo", path)
        found += [(method, path) for method in sorted(rule.methods or ())]
    assert len(found) > 60
    return found


def ask(web: Web, method: str, path: str, **headers: str) -> TestResponse:
    """Without a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.client.open(path, method=method, headers=named)


def test_a_name_that_somebody_points_here_opens_no_route(open_web: Web) -> None:
    job_id = open_web.accepted()
    before = open_web.row(job_id)
    for method, path in every_route(open_web, job_id):
        answer = ask(open_web, method, path, Host=EVIL)
        if path == "/health/live" and method != "OPTIONS":
            assert (answer.status_code, answer.get_data()) == (200, b"" if method == "HEAD" else LIVE), "of no secret"
            continue
        assert answer.status_code == 421, f"{method} {path}"
        if method != "HEAD":
            assert_is_problem(answer, 421, "misdirected-request")
    answer = open_web.submit(headers={"Host": f"{EVIL}:8000"})
    assert_is_problem(answer, 421, "misdirected-request")
    assert_is_problem(ask(open_web, "GET", "/no/such/path", Host=EVIL), 421, "misdirected-request")
    assert (open_web.row(job_id), open_web.count()) == (before, 1)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "localhost.:80",
        "jobs.localhost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:8000",
    ],
)
def test_names_and_addresses_of_this_machine_are_ours(open_web: Web, host: str) -> None:
    job_id = open_web.submit(headers={"Host": host}).get_json()["id"]
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", "/", "/docs", "/metrics", "/health/live"):
        assert ask(open_web, "GET", path, Host=host).status_code in {200, 202}, path


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8000",
        "evillocalhost",
        "192.0.2.1",
        "0.0.0.0",  # noqa: S104 - a Host, nothing listens there
        "10.0.0.1:8000",
        "[::2]",
        "[::ffff:192.0.2.1]",
        "[::]",
        "127.1",
        "2130706433",
        "localhost,evil.example",
        "evil.example,localhost",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost evil.example",
        "localhost/evil",
        "localhost:x",
        "localhost:8000:8000",
        "[::1",
        ":8000",
        ".",
        "jobs.example",
    ],
)
def test_every_other_name_is_not(open_web: Web, host: str) -> None:
    job_id = open_web.accepted()
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", "/", "/docs", "/metrics", "/health/ready"):
        assert_is_problem(ask(open_web, "GET", path, Host=host), 421, "misdirected-request")


def test_who_forwards_and_is_not_trusted_can_not_change_the_name(open_web: Web) -> None:
    forged = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost", "Host": EVIL}
    assert_is_problem(open_web.client.get("/v1/jobs", headers=forged), 421, "misdirected-request")
    assert open_web.client.get("/v1/jobs", headers={"X-Forwarded-Host": EVIL}).status_code == 200, "it is ignored"


def test_behind_a_trusted_proxy_the_name_that_it_tells_counts(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, trusted_proxies=("127.0.0.0/8",))
    assert_is_problem(web.client.get("/v1/jobs", headers={"X-Forwarded-Host": EVIL}), 421, "misdirected-request")
    told = {"X-Forwarded-Host": "localhost:8080", "Host": "tidegate:8000"}
    assert web.client.get("/v1/jobs", headers=told).status_code == 200
    web.close()


@pytest.mark.parametrize(
    ("public_url", "hosts"),
    [
        ("https://jobs.example/base", ["jobs.example", "JOBS.example:443", "jobs.example.", "localhost:8000"]),
        ("https://Jobs.Example:8443", ["jobs.example:8443", "jobs.example"]),
        ("https://xn--bcher-kva.example", ["xn--bcher-kva.example"]),
        ("http://[2001:db8::1]:8000", ["[2001:db8::1]:8000", "[2001:DB8::1]"]),
    ],
)
def test_the_public_urls_host_is_ours(tmp_path: Path, sqlite_url: str, public_url: str, hosts: list[str]) -> None:
    web = Web(tmp_path, sqlite_url, public_url=public_url)
    for host in hosts:
        assert ask(web, "GET", "/v1/jobs", Host=host).status_code == 200, host
    for host in ("example", "x.jobs.example", "jobs.example.evil.example"):
        assert ask(web, "GET", "/v1/jobs", Host=host).status_code == 421, host
    web.close()


def test_a_probe_without_a_host_goes_on(open_web: Web) -> None:
    assert ask(open_web, "GET", "/health/live", Host="").status_code == 200
    assert_is_problem(ask(open_web, "GET", "/v1/jobs", Host=""), 400, "bad-request")


def test_with_keys_any_name_will_do_for_keys_are_what_is_asked_for(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, auth="keys")
    _, secret = KeyStore(web.database).create("shop", name="", role=Role.CLIENT)
    headers = {"Host": "10.0.0.1:8000", "Authorization": f"Bearer {secret}", "Origin": "https://shop.example"}
    assert ask(web, "GET", "/health/ready", Host="10.0.0.1:8000").status_code == 200, "a container's probe"
    assert web.client.get("/v1/jobs", headers=headers).status_code == 200
    assert web.submit(headers=headers).status_code == 202
    web.close()


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_nothing_that_another_site_sends_changes_anything(open_web: Web, headers: dict[str, str]) -> None:
    job_id = open_web.accepted()
    before = open_web.row(job_id)
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded", None):
        assert_is_problem(open_web.submit(content_type=content_type, headers=headers), 403, "forbidden")
    for method, path in every_route(open_web, job_id):
        if method not in {"GET", "HEAD", "OPTIONS"}:
            assert_is_problem(open_web.client.open(path, method=method, headers=headers), 403, "forbidden")
    assert (open_web.row(job_id), open_web.count()) == (before, 1)
    assert open_web.client.get("/v1/webhook-secrets").get_json() == {"secrets": []}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "HTTP://LOCALHOST", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://jobs.example", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_programs_our_own_pages_and_allowed_origins_go_on(
    tmp_path: Path, sqlite_url: str, headers: dict[str, str]
) -> None:
    web = Web(tmp_path, sqlite_url, cors_origins=("https://app.example",), public_url="https://jobs.example/x")
    job_id = web.submit(headers=headers).get_json()["id"]
    assert web.client.post(f"/v1/jobs/{job_id}/cancel", headers=headers).status_code == 200
    assert web.client.delete(f"/v1/jobs/{job_id}", headers=headers).status_code == 204
    web.close()


def test_the_pages_own_forms_go_on(open_web: Web) -> None:
    job_id = open_web.accepted()
    assert open_web.client.post("/downstreams/sample/pause", headers=OWN).status_code == 303
    assert open_web.client.post(f"/jobs/{job_id}/cancel", headers=OWN).status_code == 303
    assert open_web.row(job_id).state == State.CANCELLED


def test_what_is_refused_is_counted(open_web: Web) -> None:
    ask(open_web, "GET", "/v1/jobs", Host=EVIL)
    ask(open_web, "DELETE", "/v1/jobs", Sec_Fetch_Site="cross-site")
    text = open_web.client.get("/metrics").get_data(as_text=True)
    assert 'tidegate_refusals_total{operation="",reason="misdirected-request"} 1.0' in text
    assert 'tidegate_refusals_total{operation="",reason="forbidden"} 1.0' in text


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("GET http://evil.example/v1/jobs HTTP/1.1\r\n", 421),
        ("GET http://localhost/v1/jobs HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 421),
        ("GET //evil.example/v1/jobs HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("POST /v1/operations/echo/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 1\r\n", 403),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET /health/live HTTP/1.0\r\n", 200),
    ],
    ids=str,
)
def test_over_a_real_connection(server: WebServer, head: str, status: int) -> None:
    body = "1" if head.startswith("POST") else ""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n{body}".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.partition(" ")[2].startswith(f"{status} "), answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A web server without keys."""
    from tests.support import sqlite  # noqa: PLC0415 - the fixture of one database is of a test, this of a module

    folder = tmp_path_factory.mktemp("web")
    running = WebServer(folder, sqlite.fresh_database(folder))
    running.start()
    yield running
    running.close()
