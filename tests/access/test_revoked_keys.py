"""What is held open for a key that is revoked meanwhile tells nothing more, on every way by which things are held."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role

RESULT = b'"what only its owner may see"'
HIDDEN = "what only its owner may see"


class Keyed:
    """A gateway that needs keys, asks for them at once, and has a job of one."""

    def __init__(self, folder: Path, url: str, *, expires_in: timedelta | None = None, hold_seconds: int = 1) -> None:
        self.web = Web(folder, url, auth="keys", hold_seconds=hold_seconds)
        self.keys = KeyStore(self.web.database)
        self.key_id, secret = self.keys.create("shop", name="", role=Role.CLIENT, expires_in=expires_in)
        self.headers = {"Authorization": f"Bearer {secret}"}
        document = self.web.submit(headers=self.headers).get_json()
        self.job_id, self.links = document["id"], document["links"]

    def get(self, path: str, **headers: str) -> TestResponse:
        """With the key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.web.app.test_client().get(path, headers={**self.headers, **named})

    def end(self) -> None:
        """The job succeeds."""
        self.web.succeed(self.job_id, RESULT, is_json=True)


@pytest.fixture
def keyed(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyed]:
    """Nothing of a key is remembered."""
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    made = Keyed(tmp_path, database_url)
    yield made
    made.web.close()


@pytest.mark.parametrize("way", ["events", "accept", "ticket"])
@pytest.mark.parametrize("is_beating", [False, True])
def test_a_stream_ends_before_it_tells_anything_more(keyed: Keyed, way: str, is_beating: bool) -> None:
    path = f"/v1/jobs/{keyed.job_id}"
    match way:
        case "events":
            answer = keyed.get(f"{path}/events")
        case "accept":
            answer = keyed.get(path, Accept="text/event-stream")
        case _:
            answer = keyed.web.app.test_client().get(keyed.links["events"].removeprefix("http://localhost"))
    chunks = answer.iter_encoded()
    assert b'"state":"queued"' in next(chunks)
    if is_beating:
        assert next(chunks) == b": still here\n"
    assert keyed.keys.revoke(keyed.key_id)
    keyed.end()
    assert list(chunks) == []
    answer.close()
    assert keyed.web.app.extensions["tidegate"].watcher.count == 0


@pytest.mark.both_databases("a key is revoked and looked for by SQL")
def test_without_news_the_next_heartbeat_is_not_sent(keyed: Keyed) -> None:
    answer = keyed.get(f"/v1/jobs/{keyed.job_id}/events")
    chunks = iter(answer.response)
    next(chunks)
    keyed.keys.revoke(keyed.key_id)
    assert list(chunks) == []


@pytest.mark.parametrize("known", [{}, {"If_None_Match": 'W/"1-queued"'}], ids=str)
def test_a_long_poll_is_answered_with_a_401(tmp_path: Path, sqlite_url: str, known: dict[str, str]) -> None:
    keyed = Keyed(tmp_path, sqlite_url, hold_seconds=20)
    watcher = keyed.web.app.extensions["tidegate"].watcher
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
        held = pool.submit(keyed.get, f"/v1/jobs/{keyed.job_id}", Prefer="wait=20", **known)
        wait_until(lambda: watcher.count == 1 or held.done(), description="it is held")
        keyed.keys.revoke(keyed.key_id)
        keyed.end()
        answer = held.result(30)
    assert_is_problem(answer, 401, "unauthorized")
    assert HIDDEN not in answer.get_data(as_text=True)
    keyed.web.close()


def test_a_submit_that_waits_is_told_that_it_was_recorded_and_no_more(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    keyed = Keyed(tmp_path, sqlite_url, hold_seconds=20)
    own = keyed.web.app.extensions["tidegate"]
    for more in ({}, {"Origin": "https://shop.example"}):  # past Flask, and by Flask
        key_id, secret = keyed.keys.create("shop", name="", role=Role.CLIENT)
        headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=4", **more}
        before = keyed.web.count()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(keyed.web.submit, headers=headers)
            wait_until(lambda: own.watcher.count == 1 or waiting.done(), description="it is held")  # noqa: B023 - at once
            keyed.keys.revoke(key_id)
            answer = waiting.result(30)
        assert answer.status_code == 202
        assert answer.get_json()["state"] == "queued"
        assert "Preference-Applied" not in answer.headers
        assert keyed.web.count() == before + 1
    keyed.web.close()


def test_a_key_that_expires_ends_what_is_held_for_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    keyed = Keyed(tmp_path, sqlite_url, expires_in=timedelta(seconds=3))
    chunks = keyed.get(f"/v1/jobs/{keyed.job_id}/events").iter_encoded()
    assert b"queued" in next(chunks)
    assert set(chunks) <= {b": still here\n"}
    assert keyed.get("/v1/jobs").status_code == 401
    keyed.web.close()


def test_while_the_database_is_away_nothing_is_told_and_nobody_is_sent_away(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        keyed = Keyed(tmp_path, url)
        chunks = iter(keyed.get(f"/v1/jobs/{keyed.job_id}/events").response)
        next(chunks)
        proxy.refuse()
        assert [next(chunks), next(chunks)] == [b": still here\n"] * 2
        proxy.forward()
        wait_until(lambda: keyed.get("/v1/jobs").status_code == 200, description="the database is back")
        keyed.keys.revoke(keyed.key_id)
        assert set(chunks) <= {b": still here\n"}
        keyed.web.close()
