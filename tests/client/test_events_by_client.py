"""The events of a job by the Python client: from a real web server, and over connections that do not last."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import clients, sqlite
from tests.support.http_server import HttpServer, respond, serving
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.connection import Database
from tidegate_client import Client, ConnectionFailed, JobEvent, Refused, State, UnexpectedAnswer

from .test_client_over_bad_lines import JOB_ID, Answer, document, hang_up, in_turn, job, problem


@pytest.fixture(params=clients.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A web server with keys on, beside which nothing runs: what happens to jobs is for the test."""
    folder = tmp_path_factory.mktemp("web")
    url = sqlite.fresh_database(folder)
    database = Database(url)
    _, secret = KeyStore(database).create("shop", name="", role=Role.CLIENT)
    database.close()
    running = WebServer(folder, url, AUTH="keys", HOLD_SECONDS="1")
    running.client.headers["Authorization"] = f"Bearer {secret}"
    running.start()
    yield running
    running.close()


@pytest.fixture
def client(gateway: WebServer, kind: str) -> Iterator[Client]:
    key = gateway.client.headers["Authorization"].removeprefix("Bearer ")
    with clients.opened(kind, gateway.url, key) as opened:
        yield opened


def heard(events: list[JobEvent]) -> list[tuple[str, State]]:
    return [(event.kind, event.job.state) for event in events]


def test_the_events_end_with_the_final_state(client: Client) -> None:
    submitted = client.submit("echo", {"ä": "\u2028"})
    events = submitted.events()
    assert next(events).job.state is State.QUEUED
    submitted.cancel()
    assert heard(list(events)) == [("state", State.CANCELLED)]
    assert submitted.seen.error
    assert submitted.seen.error.code == "cancelled"
    assert heard(list(client.events(submitted.id))) == [("state", State.CANCELLED)], "of one that has ended, its end"
    assert next(client.events(submitted)).job == submitted.seen


def test_they_go_on_over_a_web_server_that_is_killed(gateway: WebServer, client: Client) -> None:
    submitted = client.submit("echo", 1)
    with ThreadPoolExecutor(1) as pool:
        events = submitted.events()
        first = next(events)
        rest = pool.submit(lambda: list(events))
        gateway.process.kill()
        gateway.start()
        time.sleep(3)  # over a few heartbeats, too
        assert not rest.done()
        submitted.cancel()
        assert heard([first, *rest.result(timeout=30)]) == [("state", State.QUEUED), ("state", State.CANCELLED)]


def test_of_a_job_that_is_not_ours_there_are_none(client: Client) -> None:
    with pytest.raises(Refused, match="404"):
        next(client.events("01a20aee-db78-76b3-af2a-71a2695c0567"))
    with pytest.raises(Refused, match="404"):
        next(client.events("../downstreams"))


def test_a_key_that_is_refused_is_told(gateway: WebServer, kind: str) -> None:
    job_id = gateway.submit()
    with clients.opened(kind, gateway.url, "tg_wrong") as stranger, pytest.raises(Refused, match="401"):
        next(stranger.events(job_id))


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as started:
        yield started


@pytest.fixture
def far(server: HttpServer, kind: str) -> Iterator[Client]:
    """A client of a server that answers as the test says."""
    with clients.opened(kind, server.url, "tg_secret", patience=2) as opened:
        yield opened


def event(state: str, number: int, *, name: str = "state", retry: int = 10, end: str = "\n", **more: Any) -> bytes:
    """One event as the gateway writes it."""
    told = json.dumps(document(state, **more), ensure_ascii=False)
    lines = (f"retry: {retry}", f"event: {name}", f"id: {number}", f"data: {told}", "", "")
    return end.join(lines).encode()


def stream(*events: bytes) -> Answer:
    """A stream that has these events and is lost then."""

    def answer(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        for each in events:
            connection.sendall(b"%x\r\n%s\r\n" % (len(each), each))
            time.sleep(0.01)
        hang_up(connection)

    return answer


def test_a_lost_stream_goes_on_behind_the_last_event_and_tells_nothing_twice(server: HttpServer, far: Client) -> None:
    half = event("running", 3, name="progress")
    in_turn(
        server,
        stream(event("queued", 1), event("running", 2)),
        hang_up,
        problem(503, "unavailable"),
        stream(event("running", 2), b": still here\n", half[: len(half) // 2]),
        stream(event("running", 3, name="progress")),
        stream(),
        stream(event("succeeded", 4, result={"a": 1})),
    )
    told = list(far.events(JOB_ID))
    assert [(each.id, each.kind) for each in told] == [
        ("1", "state"),
        ("2", "state"),
        ("3", "progress"),
        ("4", "state"),
    ]
    assert told[-1].job.document["result"] == {"a": 1}
    assert [each.headers.get("last-event-id") for each in server.received] == [None, "2", "2", "2", "2", "3", "3"]
    assert {each.headers["authorization"] for each in server.received} == {"Bearer tg_secret"}
    assert {each.headers["accept"] for each in server.received} == {"text/event-stream"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("result", ["\u2028\u2029\x85\x0b\x0c\x1c", "ä" * 5_000_000], ids=["line ends", "long"])
def test_an_event_is_read_whatever_stands_in_it(server: HttpServer, far: Client, end: str, result: str) -> None:
    whole = event("succeeded", 1, end=end, result=result)
    in_turn(server, stream(whole[:7], whole[7:90], whole[90:]) if len(result) < 99 else stream(whole))
    assert [each.job.document["result"] for each in far.events(JOB_ID)] == [result]


def test_an_expiry_that_is_no_new_version_is_told(server: HttpServer, far: Client) -> None:
    in_turn(server, stream(event("running", 2)), stream(event("expired", 2)))
    assert [each.job.state for each in far.events(JOB_ID)] == [State.RUNNING, State.EXPIRED]
    in_turn(server, stream(event("running", 2)), respond(204), job("expired", status=504))
    assert [each.job.state for each in far.events(JOB_ID)] == [State.RUNNING, State.EXPIRED]


def test_the_gateways_delay_is_kept_before_the_next_connection(server: HttpServer, far: Client) -> None:
    arrived = in_turn(server, stream(event("running", 2, retry=700)), stream(event("failed", 3)))
    assert len(list(far.events(JOB_ID))) == 2
    assert arrived[1] - arrived[0] >= 0.7


def test_streams_that_never_tell_anything_are_given_up(server: HttpServer, far: Client) -> None:
    in_turn(server, stream(event("running", 2, retry=100)), stream())
    events = far.events(JOB_ID)
    assert next(events).id == "2"
    began = time.monotonic()
    with pytest.raises(ConnectionFailed):
        next(events)
    assert 1 < time.monotonic() - began < 10
    assert 5 < len(server.received) < 40


@pytest.mark.parametrize(
    "answer",
    [
        respond(200, b'{"hello": 1}', Content_Type="application/json"),
        respond(200, b"<html>Welcome"),
        stream(b'data: {"hello": 1}\n\n'),
        stream(b"data: hello\n\n"),
        respond(302, Location="http://elsewhere.example/"),
    ],
    ids=["JSON", "HTML", "other events", "words", "redirect"],
)
def test_what_is_no_event_stream_of_ours_is_named(server: HttpServer, far: Client, answer: Answer) -> None:
    in_turn(server, answer)
    with pytest.raises(UnexpectedAnswer, match=r"Welcome|hello|elsewhere"):
        next(far.events(JOB_ID))


def test_who_stops_listening_leaves_no_connection(server: HttpServer, far: Client) -> None:
    ended: list[bool] = []

    def answer(connection: socket.socket) -> None:
        stream_head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        connection.sendall(stream_head + event("running", 2))
        ended.append(connection.recv(1) == b"")

    server.answer = answer
    events = far.events(JOB_ID)
    next(events)
    events.close()
    wait_until(lambda: ended, description="its connection is closed")
    assert ended == [True]
