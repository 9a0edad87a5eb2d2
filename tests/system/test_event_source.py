"""Event streams as their clients read them: a browser's EventSource and httpx-sse, through kills of the web server."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import httpx2
import psutil
import pytest
from httpx_sse import connect_sse
from playwright.sync_api import Page

from tests.support import chromium
from tests.support.gateway import Gateway
from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import is_listening
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.connection import Database

STREAMS = 60
"""`make bench-waiting` does it with 500."""
_FOLLOW = """url => {
    window.source?.close();
    window.told = [];
    window.source = new EventSource(url);
    window.source.onerror = () => told.push({kind: 'error', id: null, state: null, closed: source.readyState === 2});
    for (const kind of ['state', 'progress'])
        source.addEventListener(kind, event => told.push(
            {kind, id: event.lastEventId, state: JSON.parse(event.data).state, result: JSON.parse(event.data).result}));
}"""


@pytest.fixture(scope="module")
def site() -> Iterator[HttpServer]:
    """Another site, with pages of its own."""
    with serving() as server:
        server.answer = respond(200, b"<!doctype html><title>a shop</title>", content_type="text/html")
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, site: HttpServer) -> Iterator[Gateway]:
    """The stack with two web processes, for pages of that site."""
    settings = {"WEB_WORKERS": "2", "CORS_ORIGINS": site.url, "HOLD_SECONDS": "2"}
    stack = Gateway(tmp_path_factory.mktemp("gateway"), settings=settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(autouse=True)
def _web_is_back(gateway: Gateway) -> None:
    """Whoever killed it last may not have waited for it."""

    def is_back() -> bool:
        try:
            return gateway.client.get("/health/live").status_code == 200
        except httpx2.TransportError:
            return False

    wait_until(is_back, description="the web server is back", timeout_seconds=60)


@pytest.fixture(scope="module")
def page(site: HttpServer) -> Iterator[Page]:
    """A page of another origin in a headless Chromium."""
    with chromium.launched() as browser:
        opened = browser.new_page()
        opened.goto(site.url)
        yield opened


def submit(gateway: Gateway, seconds: float, **headers: str) -> dict[str, Any]:
    """A job that takes so long; its document."""
    return document_of(gateway.submit("sleepy_io", json={"seconds": seconds}, headers=headers))


def submit_until(gateway: Gateway, there: Path) -> dict[str, Any]:
    """A job that ends as soon as this file is there, and not before; its document."""
    return document_of(gateway.submit("until_there_io", json={"path": str(there)}))


def document_of(answer: httpx2.Response) -> dict[str, Any]:
    """Of a job that was taken."""
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def told(page: Page, until: str = "true") -> list[dict[str, Any]]:
    """What the EventSource has told, as soon as `until` holds in the page."""
    page.wait_for_function(until, timeout=60_000)
    found: list[dict[str, Any]] = page.evaluate("told")
    return found


def kill_web(gateway: Gateway) -> None:
    """kill -9 to the web server and all of its processes; the supervisor starts it again."""
    leader = psutil.Process(gateway.pid("web"))
    for process in [*leader.children(recursive=True), leader]:
        process.send_signal(signal.SIGKILL)


def test_a_browser_is_told_the_whole_way_and_stops_asking_at_its_end(gateway: Gateway, page: Page) -> None:
    job = submit(gateway, 1.5)
    page.evaluate(_FOLLOW, job["links"]["events"])
    events = told(page, "told.some(each => each.closed)")
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "state"
    assert "progress" in kinds
    ids = [int(event["id"]) for event in events if event["kind"] != "error"]
    assert ids == sorted(set(ids)), "each version once"
    (last,) = [event for event in events if event["state"] == "succeeded"]
    assert last["result"] == 1
    # The server closed, it asked once more with Last-Event-ID, and 204 told it to leave it.
    assert [event["closed"] for event in events if event["kind"] == "error"] == [False, True]


def test_a_browser_whose_server_is_killed_comes_back_and_sees_the_end(
    gateway: Gateway, page: Page, tmp_path: Path
) -> None:
    job = submit_until(gateway, tmp_path / "killed")
    page.evaluate(_FOLLOW, job["links"]["events"])
    told(page, "told.some(each => each.state === 'running')")
    kill_web(gateway)
    (tmp_path / "killed").touch()
    events = told(page, "told.some(each => each.closed)")
    end = [event["state"] for event in events].index("succeeded")
    assert "error" in [event["kind"] for event in events[:end]], "it had lost the connection"
    assert events[-1]["closed"]


def test_nobody_misses_the_end_when_the_web_server_is_killed(gateway: Gateway, tmp_path: Path) -> None:
    """The jobs end while it is away."""
    killed = tmp_path / "killed"
    job_ids = [submit_until(gateway, killed)["id"] for _ in range(STREAMS // 4)] * 4
    opened: set[int] = set()

    def follow(number: int, job_id: str) -> tuple[str, int]:
        """The state that it ends in, and how often it had to connect."""
        last_id, state, connected = "", "", 0
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with (
                    httpx.Client(base_url=gateway.url, timeout=20, trust_env=False) as client,
                    connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source,
                ):
                    if source.response.status_code == 204:
                        return state, connected
                    connected += 1
                    for event in source.iter_sse():
                        last_id, state = event.id, event.json()["state"]
                        if state == "running":
                            opened.add(number)
            except httpx.TransportError:
                wait_until(is_up, description="the web server is back", timeout_seconds=60)

    def is_up() -> bool:
        return is_listening(int(gateway.url.rpartition(":")[2]))

    with ThreadPoolExecutor(STREAMS) as pool:
        followers = [pool.submit(follow, number, job_id) for number, job_id in enumerate(job_ids)]
        try:
            wait_until(lambda: len(opened) == STREAMS, description="all are told that it runs", timeout_seconds=60)
            kill_web(gateway)
        finally:
            killed.touch()
        ends = [follower.result(90) for follower in followers]
    assert {state for state, _ in ends} == {"succeeded"}
    assert all(connected >= 2 for _, connected in ends), "the kill was felt"


def test_a_browser_needs_no_key_but_the_ticket_in_the_link(tmp_path: Path, sqlite_url: str, page: Page) -> None:
    database = Database(sqlite_url)
    _, secret = KeyStore(database).create("shop", name="", role=Role.CLIENT)
    database.close()
    server = WebServer(tmp_path, sqlite_url, AUTH="keys", CORS_ORIGINS="*")
    server.client.headers["Authorization"] = f"Bearer {secret}"
    server.start()
    try:
        links = server.client.post("/v1/operations/echo/jobs", json=1).json()["links"]
        page.evaluate(_FOLLOW, links["events"])
        told(page, "told.some(each => each.state === 'queued')")
        assert server.client.post(links["cancel"]).status_code == 200
        assert any(event["state"] == "cancelled" for event in told(page, "told.some(each => each.closed)"))
        page.evaluate(_FOLLOW, links["events"].partition("?")[0])
        assert told(page, "told.some(each => each.closed)")[0]["kind"] == "error", "without it there is nothing"
    finally:
        server.close()
