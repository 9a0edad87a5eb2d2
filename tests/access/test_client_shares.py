"""What one client may have of the gateway, so that another finds some left: held requests, bytes that wait, rates."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from werkzeug.test import TestResponse

from config.client_shares import shares
from config.settings import Settings
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.errors import ShareUsed
from tidegate.intake import waiting_bytes
from tidegate.intake.input_bytes import InputByteStore
from tidegate.intake.waiting_bytes import WaitingBytes


class Usage(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


class Shared:
    """A gateway with three clients."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        self.web = Web(folder, url, auth="keys", **settings)
        keys = KeyStore(self.web.database)
        self.one, self.other, self.third = (
            {"Authorization": f"Bearer {keys.create(name, name='', role=Role.CLIENT)[1]}"}
            for name in ("one", "other", "third")
        )

    def submit(self, headers: dict[str, str], content: bytes = b"1") -> TestResponse:
        """A raw input of this client."""
        return self.web.submit("raw_echo", content, headers=headers)

    def stream(self, headers: dict[str, str]) -> TestResponse:
        """The events of a new job, opened."""
        job_id = self.submit(headers).get_json()["id"]
        return self.web.app.test_client().get(f"/v1/jobs/{job_id}/events", headers=headers)


@pytest.fixture
def settings() -> dict[str, Any]:
    """What a test sets."""
    return {}


@pytest.fixture
def shared(tmp_path: Path, sqlite_url: str, settings: dict[str, Any]) -> Iterator[Shared]:
    """With keys."""
    made = Shared(tmp_path, sqlite_url, **settings)
    yield made
    made.web.close()


@pytest.mark.parametrize("settings", [{"held_requests": 6}, {"held_requests": 9, "held_per_client": 3}], ids=str)
def test_one_client_holds_its_share_of_streams_and_no_more(shared: Shared) -> None:
    with ExitStack() as open_ones:
        for _ in range(3):
            opened = shared.stream(shared.one)
            open_ones.callback(opened.close)
            assert opened.status_code == 200
        refused = shared.stream(shared.one)
        document = assert_is_problem(refused, 429, "share-used")
        assert "3 of your requests" in document["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        for _ in range(3):
            opened = shared.stream(shared.other)
            open_ones.callback(opened.close)
            assert opened.status_code == 200
    assert shared.web.app.extensions["tidegate"].watcher.count == 0
    again = shared.stream(shared.one)
    assert again.status_code == 200, "what was given back can be had again"
    again.close()


@pytest.mark.parametrize("settings", [{"held_requests": 2}])
def test_a_long_poll_beyond_the_share_is_answered_at_once(shared: Shared) -> None:
    held = shared.stream(shared.one)
    job_id = shared.submit(shared.one).get_json()["id"]
    answer = shared.web.client.get(f"/v1/jobs/{job_id}", headers={**shared.one, "Prefer": "wait=20"})
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (202, False)
    waited = shared.web.client.get(f"/v1/jobs/{job_id}/events", headers=shared.one)
    assert_is_problem(waited, 429, "share-used")
    held.close()


@pytest.mark.parametrize("settings", [{"held_requests": 2}])
def test_pages_that_are_open_count_too(shared: Shared) -> None:
    browser = shared.web.app.test_client()
    key = shared.one["Authorization"].partition(" ")[2]
    browser.post("/sign-in", data={"key": key}, headers={"Origin": "http://localhost"})
    first = browser.get("/live")
    assert first.status_code == 200
    assert browser.get("/live").status_code == 429
    assert_is_problem(shared.stream(shared.one), 429, "share-used")
    first.close()


@pytest.mark.parametrize("settings", [{"held_requests": 6, "hold_seconds": 1}])
def test_two_clients_that_hold_all_there_is_keep_out_nobody_who_holds_less(shared: Shared) -> None:
    """They had half each, and a third one was refused until one of their jobs ended."""
    with ExitStack() as open_ones:

        def opened(headers: dict[str, str]) -> TestResponse:
            stream = shared.stream(headers)
            open_ones.callback(stream.close)
            return stream

        first = [opened(shared.one) for _ in range(3)]
        second = [opened(shared.other) for _ in range(3)]
        assert [stream.status_code for stream in first + second] == [200] * 6
        assert opened(shared.third).status_code == 200
        assert opened(shared.third).status_code == 200
        # Two each: whoever asks for more now is refused, and those that were let go come not back.
        for headers in (shared.one, shared.other, shared.third):
            assert_is_problem(opened(headers), 503, "no-room")
        for streams in (first, second):
            assert list(streams[0].iter_encoded())[1:] == [], "the oldest ends after its first event"
        watcher = shared.web.app.extensions["tidegate"].watcher
        assert watcher.count == 6
        second[2].close()
        assert opened(shared.third).status_code == 200
    assert watcher.count == 0


@pytest.mark.parametrize("settings", [{"held_requests": 3, "held_per_client": 3, "hold_seconds": 1}])
def test_a_long_poll_that_gives_way_is_answered_as_it_is(shared: Shared) -> None:
    own = shared.submit(shared.one).get_json()["id"]
    answers: list[TestResponse] = []

    def wait() -> None:
        client = shared.web.app.test_client()
        answers.append(client.get(f"/v1/jobs/{own}", headers={**shared.one, "Prefer": "wait=20"}))

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for each in waiting:
        each.start()
    watcher = shared.web.app.extensions["tidegate"].watcher
    wait_until(lambda: watcher.count == 3, description="all places are taken")
    stream = shared.stream(shared.other)
    assert stream.status_code == 200
    wait_until(lambda: len(answers) == 1, description="one was let go")
    assert answers[0].status_code == 202
    assert answers[0].get_json()["state"] == "queued"
    shared.web.client.post(f"/v1/jobs/{own}/cancel", headers=shared.one)
    for each in waiting:
        each.join()
    stream.close()
    assert [answer.status_code for answer in answers] == [202, 410, 410]
    assert watcher.count == 0


def test_without_keys_the_one_client_has_all(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, held_requests=2)
    job_id = web.accepted()
    opened = [web.app.test_client().get(f"/v1/jobs/{job_id}/events") for _ in range(3)]
    assert [answer.status_code for answer in opened] == [200, 200, 503]
    for answer in opened:
        answer.close()
    web.close()


@pytest.mark.parametrize("settings", [{"max_waiting_bytes": 100_000}])
def test_inputs_that_wait_are_bounded_for_each_client(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    # Counted just after a commit, an input would count twice until it is settled, and less would be left.
    monkeypatch.setattr(waiting_bytes, "_COUNT_FROM", float("inf"))
    assert shared.submit(shared.one, b"x" * 60_000).status_code == 202
    refused = shared.submit(shared.one, b"x" * 60_000)
    assert_is_problem(refused, 429, "share-used")
    assert refused.headers["Retry-After"] == "30"
    assert shared.submit(shared.one, b"x" * 40_000).status_code == 202, "what is left"
    assert_is_problem(shared.submit(shared.one), 429, "share-used")
    assert shared.submit(shared.other, b"x" * 60_000).status_code == 202
    assert shared.web.count() == 3


@pytest.mark.parametrize("settings", [{"max_waiting_bytes": 100_000}])
def test_what_has_ended_waits_no_more(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_REST_SECONDS", 0.05), ("_SETTLED_SECONDS", 0.05), ("_SHARE_OF_TIME", 1.0)):
        monkeypatch.setattr(waiting_bytes, name, value)
    job_id = shared.submit(shared.one, b"x" * 90_000).get_json()["id"]
    assert shared.submit(shared.one, b"x" * 60_000).status_code == 429
    shared.web.client.post(f"/v1/jobs/{job_id}/cancel", headers=shared.one)
    wait_until(
        lambda: shared.submit(shared.one, b"x" * 60_000).status_code == 202, description="what waits is counted anew"
    )


@pytest.mark.parametrize("settings", [{"max_waiting_bytes": 100_000}])
def test_jobs_of_a_bulk_submit_count_each(shared: Shared) -> None:
    items = [{"input": "x" * 30_000}] * 5
    answer = shared.web.client.post("/v1/operations/echo/jobs/bulk", json=items, headers=shared.one)
    assert [job["status"] for job in answer.get_json()["jobs"]] == [202, 202, 202, 429, 429]


def test_what_other_processes_took_is_known_from_the_next_count(shared: Shared) -> None:
    shared.submit(shared.one, b"x" * 50_000)
    elsewhere = WaitingBytes(lambda: InputByteStore(shared.web.database).by_client(0), most=60_000)
    client_id = shared.web.app.extensions["tidegate"].authenticator.caller(shared.one["Authorization"][7:]).client_id
    elsewhere.admit("nobody", 10)
    elsewhere.count()
    with pytest.raises(ShareUsed):
        elsewhere.admit(client_id, 20_000)
    elsewhere.admit(client_id, 10_000)


def test_the_fuller_the_disk_the_less_of_it_one_client_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each had its 2 GB, until the disk was full and everybody was refused, those with nothing on it too."""
    monkeypatch.setattr(waiting_bytes, "_COUNT_FROM", float("inf"))
    left = 1_000
    waiting = WaitingBytes(dict, most=600, left=lambda: left)
    waiting.admit("one", 600)
    with pytest.raises(ShareUsed, match="600 bytes"):
        waiting.admit("one", 1)
    left = 400
    waiting.admit("other", 200)
    left = 200
    with pytest.raises(ShareUsed, match="200 bytes"):
        waiting.admit("other", 1)
    waiting.admit("third", 100)


@pytest.mark.parametrize("settings", [{"max_waiting_bytes": 100_000}])
def test_who_has_nothing_waiting_finds_room_where_another_is_refused(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000_000, 850_000, 150_000))
    assert shared.submit(shared.one, b"x" * 40_000).status_code == 202
    document = assert_is_problem(shared.submit(shared.one, b"x" * 20_000), 429, "share-used")
    assert "50000 bytes" in document["detail"]
    assert shared.submit(shared.other, b"x" * 20_000).status_code == 202


def test_counting_costs_a_submit_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done beside, and not before it can matter."""
    counting, let_go = threading.Event(), threading.Event()

    def count() -> dict[str, int]:
        counting.set()
        let_go.wait(20)
        return {}

    waiting = WaitingBytes(count, most=1000)
    for _ in range(25):
        waiting.admit("one", 10)
    assert not counting.is_set()
    waiting.admit("one", 10)
    assert counting.wait(10)
    waiting.admit("one", 100)
    let_go.set()


def test_where_keys_are_on_there_are_limits_without_a_setting(shared: Shared) -> None:
    answer = shared.submit(shared.one)
    assert answer.headers["RateLimit-Policy"] == '"submits";q=12000;w=60'
    answer = shared.web.client.get("/v1/jobs", headers=shared.one)
    assert answer.headers["RateLimit-Policy"] == '"reads";q=30000;w=60'


@pytest.mark.parametrize("settings", [{"submit_limit": "off", "poll_limit": "off"}])
def test_they_can_be_taken_back(shared: Shared) -> None:
    assert "RateLimit-Policy" not in shared.submit(shared.one).headers
    assert "RateLimit-Policy" not in shared.web.client.get("/v1/jobs", headers=shared.one).headers


def test_without_keys_nothing_is_limited_but_by_a_setting() -> None:
    free = shares(Settings(_env_file=None))
    assert (free.submits, free.reads, free.held, free.waiting_bytes) == (None, None, 512, None)
    set_by_hand = shares(Settings(_env_file=None, submit_limit="5/s", held_per_client=7, max_waiting_bytes=9))
    assert set_by_hand.submits is not None
    assert (set_by_hand.submits.calls, set_by_hand.held, set_by_hand.waiting_bytes) == (5, 7, 9)
