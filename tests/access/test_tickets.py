"""The ticket in `links.events`: a browser's EventSource can't send a key."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate import clock
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.access.tickets import AFTER_DEADLINE, Signer, Ticket
from tidegate.errors import ConfigurationError

JOB = "0199c5a0-7a5e-7cc0-8d9a-3f1c2b4d5e6f"
SIGNER = Signer(key_id="0199c5a0-7a5e-7cc0-8d9a-000000000000", secrets=[b"x" * 32])


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
    web.app.extensions["tidegate"].watcher.stop()
    yield Keyed(web)
    web.close()


def test_with_the_link_alone_the_events_can_be_read(keyed: Keyed) -> None:
    url = keyed.events_url()
    assert parse_qs(urlsplit(url).query).keys() == {"ticket"}
    answer = keyed.web.client.get(url)
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
    assert b'"state":"queued"' in answer.data
    assert b"/events?ticket=" in answer.data, "and each event has it"
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


def test_a_ticket_is_good_until_five_minutes_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    deadline = now + timedelta(hours=3)
    ticket = Ticket.read(SIGNER.ticket(JOB, deadline))
    assert ticket is not None
    assert SIGNER.knows(ticket, JOB)
    monkeypatch.setattr(clock, "now", lambda: deadline + AFTER_DEADLINE - timedelta(seconds=5))
    assert SIGNER.knows(ticket, JOB)
    monkeypatch.setattr(clock, "now", lambda: deadline + AFTER_DEADLINE)
    assert not SIGNER.knows(ticket, JOB)
    assert timedelta(minutes=5) == AFTER_DEADLINE


def test_a_ticket_does_not_renew_itself(keyed: Keyed) -> None:
    """The documents that events carry have tickets, too."""
    url = keyed.events_url()
    event = keyed.web.client.get(url).get_data(as_text=True)
    assert url.partition("ticket=")[2] in event
    assert event.count("ticket=") == 1


def test_a_ticket_ends_with_the_key_in_whose_name_it_was_made(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    keyed.key_id, secret = keyed.keys.create("shop", name="", role=Role.CLIENT, expires_in=timedelta(seconds=2))
    keyed.headers = {"Authorization": f"Bearer {secret}"}
    url = keyed.events_url()
    assert keyed.web.client.get(url).status_code == 200
    wait_until(lambda: keyed.web.client.get(url).status_code == 401, description="the key expires")


def test_from_a_copy_of_the_database_no_ticket_can_be_made(keyed: Keyed) -> None:
    """The hash of the key is in it, and signed tickets once."""
    path, _, ticket = keyed.events_url().partition("?ticket=")
    key_id, good_until, _ = ticket.split(".")
    job_id = path.split("/")[3]
    with keyed.web.database.transaction() as connection:
        (digest,) = connection.exec_driver_sql("SELECT hash FROM keys").scalars()
    for until in (good_until, str(2**33)):
        before = f"events of {job_id} until {until}".encode()
        old = base64.urlsafe_b64encode(hmac.digest(digest, before, hashlib.sha256)).decode().rstrip("=")
        forged = Signer(key_id=key_id, secrets=[digest]).ticket(job_id, datetime.fromtimestamp(int(until) - 300, UTC))
        for text in (f"{key_id}.{until}.{old}", forged):
            assert Ticket.read(text) is not None
            assert_is_problem(keyed.web.client.get(path, query_string={"ticket": text}), 401, "unauthorized")


def test_a_ticket_is_of_one_key_though_all_are_signed_alike(keyed: Keyed) -> None:
    url = keyed.events_url()
    other, _ = keyed.keys.create("warehouse", name="", role=Role.OPERATOR)
    assert_is_problem(keyed.web.client.get(url.replace(keyed.key_id, other)), 401, "unauthorized")


def test_the_key_that_signs_can_be_given_and_changed(tmp_path: Path, sqlite_url: str) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    url = ""
    for given, status in ((old, 200), (f"{new},{old}", 200), (new, 401)):
        web = Web(tmp_path, sqlite_url, auth="keys", signing_key=given)
        web.app.extensions["tidegate"].watcher.stop()
        url = url or Keyed(web).events_url()
        assert web.client.get(url).status_code == status
        web.close()
    assert not (tmp_path / "signing.key").exists()


def test_without_one_it_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, sqlite_url: str) -> None:
    first, second = (Web(tmp_path, sqlite_url, auth="keys") for _ in range(2))
    for web in (first, second):
        web.app.extensions["tidegate"].watcher.stop()
    url = Keyed(first).events_url()
    assert second.client.get(url).status_code == 200, "two web servers of one machine"
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0
    (tmp_path / "signing.key").write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"signing\.key"):
        Web(tmp_path, sqlite_url, auth="keys")
    first.close()
    second.close()


def test_a_ticket_shows_no_secret(keyed: Keyed) -> None:
    ticket = SIGNER.ticket(JOB, clock.now())
    assert "xxxx" not in ticket
    assert "xxxx" not in repr(SIGNER)
    assert keyed.secret not in keyed.events_url()


def test_without_keys_there_are_no_tickets(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url)
    links = web.submit().get_json()["links"]
    assert links["events"] == links["self"] + "/events"
    web.close()
