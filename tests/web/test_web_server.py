"""Held requests in a real web server: that they are told over pub/sub and without it, that clients that go away and
processes that stop leave nothing behind. The test moves the jobs, as workers would."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer, document, told
from tidegate.database.schema import jobs
from tidegate.notify.messages import CHANGES
from tidegate.notify.notifier import Notifier, RedisNotifier
from tidegate.stores import Store

StartServer = Callable[..., WebServer]
# Longer than a test waits for the end: then nothing was killed for being late. (What granian's log says of that is not
# to be believed: when its two threads that wait for a worker are slow, it "kills" one that has ended.)
LONG_GRACE = "120"
STOP_SECONDS = 60


@pytest.fixture
def start_server(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[StartServer]:
    """Starts a web server over the test's database and broker, with these settings."""
    started: list[WebServer] = []

    def start(**settings: str) -> WebServer:
        server = WebServer(tmp_path, database_url, broker.url, **settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture
def notifier(broker: Valkey) -> Notifier:
    """What a worker rings."""
    return RedisNotifier(broker.url)


def cancel(store: Store, job_id: str, notifier: Notifier | None = None) -> None:
    """Ends a job past the web server; with a bell as its writer would, without one it must be found."""
    store.callers.cancel(job_id, None)
    if notifier:
        notifier.notify_jobs_changed(job_id)


def change(store: Store, job_id: str) -> None:
    """A change of the job that callers see, and nothing else."""
    store.database.execute(jobs.update().where(jobs.c.id == job_id).values(version=jobs.c.version + 1, note="changed"))


def test_over_pub_sub_a_change_is_told_long_before_anybody_would_look(
    start_server: StartServer, store: Store, notifier: Notifier
) -> None:
    server = start_server()
    job_id = server.submit()
    seconds = []
    with server.events(job_id) as source:
        events = source.iter_sse()
        assert told(next(events)) == {"event": "state", "id": "1", "state": "queued"}
        for _ in range(15):
            time.sleep(0.1)
            change(store, job_id)
            changed_at = time.monotonic()
            notifier.notify_jobs_changed(job_id)
            assert next(events).event == "progress"
            seconds.append(time.monotonic() - changed_at)
        cancel(store, job_id, notifier)
        assert told(next(events))["state"] == "cancelled"
        assert list(events) == [], "and then the server closes"
    # A look that comes by itself, once a second, would take half a second in the median.
    assert sorted(seconds)[7] < 0.3, seconds


def test_with_pub_sub_away_changes_are_found_and_afterwards_heard_again(
    start_server: StartServer, store: Store, notifier: Notifier, broker: Valkey
) -> None:
    server = start_server()
    job_ids = [server.submit() for _ in range(4)]
    last: dict[str, str] = {}

    def follow(job_id: str) -> None:
        with server.events(job_id) as source:
            for event in source.iter_sse():
                last[job_id] = document(event)["state"]

    followers = [threading.Thread(target=follow, args=(job_id,)) for job_id in job_ids]
    for follower in followers:
        follower.start()
    wait_until(lambda: len(last) == 4, description="all streams are open", timeout_seconds=20)
    broker.kill()
    cancel(store, job_ids[0], notifier)
    wait_until(lambda: last[job_ids[0]] == "cancelled", description="the change is found", timeout_seconds=20)
    broker.start()
    cancel(store, job_ids[1], notifier)
    wait_until(lambda: last[job_ids[1]] == "cancelled", description="with Valkey back", timeout_seconds=20)
    with broker.client() as client:

        def subscribed() -> int:
            number: int = dict(client.pubsub_numsub(CHANGES))[CHANGES.encode()]
            return number

        wait_until(lambda: subscribed() == 1, description="the server listens again", timeout_seconds=20)
    broker.freeze()
    cancel(store, job_ids[2], notifier)
    wait_until(lambda: last[job_ids[2]] == "cancelled", description="with Valkey frozen", timeout_seconds=20)
    broker.thaw()
    cancel(store, job_ids[3])
    for follower in followers:
        follower.join(20)
    assert set(last.values()) == {"cancelled"}


def test_a_client_that_goes_away_frees_its_room_within_a_heartbeat(start_server: StartServer) -> None:
    server = start_server(HELD_REQUESTS="1", HOLD_SECONDS="1")
    job_id = server.submit()

    def opens() -> bool:
        with httpx.stream("GET", f"{server.url}/v1/jobs/{job_id}/events", timeout=30, trust_env=False) as answer:
            return answer.status_code == 200

    assert opens()
    wait_until(opens, description="the room of the stream is free again", timeout_seconds=15)
    wait_until(opens, description="and again", timeout_seconds=15)

    def is_held() -> bool:
        try:
            server.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}, timeout=0.2)
        except httpx.ReadTimeout:
            return True
        return False

    wait_until(is_held, description="a long poll has the room", timeout_seconds=15)
    wait_until(opens, description="the room of the long poll is free again", timeout_seconds=15)


def test_a_server_that_is_asked_to_stop_lets_go_of_all_that_it_holds(start_server: StartServer) -> None:
    server = start_server(GRACE_SECONDS=LONG_GRACE)
    job_ids = [server.submit() for _ in range(20)]
    opened = threading.Semaphore(0)

    def follow(job_id: str) -> list[ServerSentEvent]:
        events = []
        with server.events(job_id) as source:
            for event in source.iter_sse():
                events.append(event)
                opened.release()
        return events

    def poll(job_id: str) -> int:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            return client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}).status_code

    with ThreadPoolExecutor(25) as pool:
        streams = [pool.submit(follow, job_id) for job_id in job_ids]
        polls = [pool.submit(poll, job_id) for job_id in job_ids[:5]]
        for _ in streams:
            assert opened.acquire(timeout=20)
        time.sleep(1)  # the polls have no word to wait for
        assert server.process.stop(timeout_seconds=STOP_SECONDS, signal_number=signal.SIGTERM) == 0
        for stream in streams:
            assert [told(event)["state"] for event in stream.result(10)] == ["queued"], "closed in order, not broken"
        assert [poll.result(10) for poll in polls] == [202] * 5


def test_a_signal_that_another_thread_took_stops_the_server_too(start_server: StartServer) -> None:
    modules = "tests.support.operations,tests.support.signals_elsewhere"
    server = start_server(OPERATIONS=modules, GRACE_SECONDS=LONG_GRACE)
    job_id = server.submit()
    with server.events(job_id) as source:
        events = source.iter_sse()
        assert told(next(events))["state"] == "queued"
        assert server.process.stop(timeout_seconds=STOP_SECONDS, signal_number=signal.SIGTERM) == 0
        assert list(events) == [], "closed in order, not broken"


def test_a_server_that_is_asked_to_stop_while_it_starts_ends_at_once(tmp_path: Path, sqlite_url: str) -> None:
    server = WebServer(tmp_path, sqlite_url, OPERATIONS="tests.support.stopped_at_start", GRACE_SECONDS=LONG_GRACE)
    server.process.start()
    try:
        wait_until(lambda: not server.process.is_running, description="it ended", timeout_seconds=STOP_SECONDS)
    finally:
        server.close()
    assert server.process.exit_code == 0


def test_every_setting_of_the_server_leaves_room_for_work_beside_what_is_held(start_server: StartServer) -> None:
    server = start_server(HELD_REQUESTS="60", WEB_THREADS="2")
    job_id = server.submit()
    with ThreadPoolExecutor(60) as pool:
        opened = threading.Semaphore(0)

        def follow(_number: int) -> str:
            with server.events(job_id) as source:
                state = ""
                for event in source.iter_sse():
                    state = document(event)["state"]
                    opened.release()
                return state

        streams = [pool.submit(follow, number) for number in range(60)]
        for _ in streams:
            assert opened.acquire(timeout=30)
        for _ in range(20):
            server.submit()
        assert server.client.get(f"/v1/jobs/{job_id}/events").status_code == 503
        assert server.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        assert {stream.result(30) for stream in streams} == {"cancelled"}
