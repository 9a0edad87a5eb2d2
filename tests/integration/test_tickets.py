"""The ticket in `links.events`: a browser's EventSource can't send a key."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.web import Web, assert_is_problem
from tidegate import clock
from tidegate.keys import KeyStore, Role
from tidegate.tickets import GOOD_FOR, Signer, Ticket

JOB = "0199c5a0-7a5e-7cc0-8d9a-3f1c2b4d5e6f"
SIGNER = Signer(key_id="0199c5a0-7a5e-7cc0-8d9a-000000000000", secret=b"x" * 32)


class Keyed:
    """A gateway that needs keys, and a client's key for it."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.keys = KeyStore(web.database)
        self.key_id, self.secret = self.keys.create("shop", name="", role=Role.CLIENT)
        self.headers = {"Authorization": f"Bearer {self.secret}"}

    def events_url(self) -> str:
        """`links.events` of a new job, as its client is told it; path and query."""
        answer = self.web.submit(headers=self.headers)
        assert answer.status_code == 202
        url = urlsplit(answer.get_json()["links"]["events"])
        return f"{url.path}?{url.query}"


@pytest.fixture
def keyed(tmp_path: Path, sqlite_url: str) -> Iterator[Keyed]:
    """With keys on. Nothing happens to the jobs, so streams are made to end with their first event."""
    web = Web(tmp_path, sqlite_url, auth="keys")
    web.app.extensions["tidegate"].lookout.stop()
    yield Keyed(web)
    web.close()


def test_with_the_link_alone_the_events_can_be_read(keyed: Keyed) -> None:
    url = keyed.events_url()
    assert parse_qs(urlsplit(url).query).keys() == {"ticket"}
    answer = keyed.web.client.get(url)
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
    assert b'"state":"queued"' in answer.data
    assert b"/events?ticket=" in answer.data, "and each event has a new one"
    assert keyed.web.client.get(url.partition("?")[0], headers=keyed.headers).status_code == 200


def test_a_ticket_is_good_for_one_job_and_for_its_events_only(keyed: Keyed) -> None:
    url, other = keyed.events_url(), keyed.events_url()
    ticket = url.partition("?")[2]
    for path in (
        other.partition("?")[0],
        url.partition("/events")[0],
        url.partition("/events")[0] + "/result",
        "/v1/jobs",
    ):
        assert_is_problem(keyed.web.client.get(f"{path}?{ticket}"), 401, "unauthorized")
    assert keyed.web.client.post(f"{url.partition('/events')[0]}/cancel?{ticket}").status_code == 401


def test_without_a_good_ticket_or_key_nobody_reads_events(keyed: Keyed) -> None:
    url = keyed.events_url()
    path, _, ticket = url.partition("?ticket=")
    key_id, good_until, signature = ticket.split(".")
    flipped = signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB")
    for wrong in (
        "",
        "x",
        f"{key_id}.{good_until}.{flipped}",
        f"{key_id}.{int(good_until) + 60}.{signature}",
        f"{JOB}.{good_until}.{signature}",
        f"{key_id}.{good_until}.{signature}.",
        f"{key_id}.{'9' * 30}.{signature}",
        "%00",
        "ü.1." + "A" * 43,
    ):
        assert_is_problem(keyed.web.client.get(path, query_string={"ticket": wrong}), 401, "unauthorized")
    assert_is_problem(keyed.web.client.get(path), 401, "unauthorized")
    bad_key = {"Authorization": "Bearer tg_wrong"}
    assert_is_problem(keyed.web.client.get(url, headers=bad_key), 401, "unauthorized")


def test_with_the_key_its_tickets_are_revoked(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    url = keyed.events_url()
    assert keyed.web.client.get(url).status_code == 200
    assert keyed.keys.revoke(keyed.key_id)
    later = clock.monotonic() + 3  # what is remembered of a key is 2 s old at most
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    assert_is_problem(keyed.web.client.get(url), 401, "unauthorized")


def test_a_ticket_is_good_for_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = Ticket.read(SIGNER.ticket(JOB))
    assert ticket is not None
    assert ticket.is_good(SIGNER, JOB)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + GOOD_FOR - timedelta(seconds=5))
    assert ticket.is_good(SIGNER, JOB)
    monkeypatch.setattr(clock, "now", lambda: now + GOOD_FOR)
    assert not ticket.is_good(SIGNER, JOB)
    assert timedelta(minutes=5) == GOOD_FOR


def test_a_ticket_shows_no_secret(keyed: Keyed) -> None:
    ticket = SIGNER.ticket(JOB)
    assert "xxxx" not in ticket
    assert "xxxx" not in repr(SIGNER)
    assert keyed.secret not in keyed.events_url()


def test_without_keys_there_are_no_tickets(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url)
    links = web.submit().get_json()["links"]
    assert links["events"] == links["self"] + "/events"
    web.close()
