"""The page where keys are on: who gets in, with what, for how long, and what they see."""

import base64
import hashlib
import hmac
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from tests.support.page import OWN, part_of, send, text_of
from tests.support.web import Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.schema import sessions
from tidegate.states import State

COOKIE = "tidegate_session"


class Door:
    """A gateway that needs keys, with two clients and an operator."""

    def __init__(self, web: Web) -> None:
        self.web = web
        web.declare()
        self.keys = KeyStore(web.database)
        roles = {"shop": Role.CLIENT, "warehouse": Role.CLIENT, "ops": Role.OPERATOR}
        made = {name: self.keys.create(name, name="", role=role) for name, role in roles.items()}
        self.key_ids = {name: key_id for name, (key_id, _) in made.items()}
        self.secrets = {name: secret for name, (_, secret) in made.items()}

    def submit(self, name: str) -> str:
        """A job of this client."""
        answer = self.web.submit(headers={"Authorization": f"Bearer {self.secrets[name]}"})
        return str(answer.get_json()["id"])

    def sign_in(self, name: str, **fields: str) -> TestResponse:
        """Signs the browser in."""
        return send(self.web, "/sign-in", key=self.secrets[name], **fields)

    def cookie(self) -> str | None:
        """What the browser has."""
        found = self.web.client.get_cookie(COOKIE)
        return found.value if found else None


@pytest.fixture
def door(tmp_path: Path, sqlite_url: str) -> Iterator[Door]:
    """With keys on."""
    web = Web(tmp_path, sqlite_url, auth="keys")
    yield Door(web)
    web.close()


def test_without_a_session_there_is_a_form_and_nothing_else(door: Door) -> None:
    job_id = door.submit("shop")
    for path, form in (("/", "./sign-in"), (f"/jobs/{job_id}", f"../sign-in?next=jobs/{job_id}")):
        answer = door.web.client.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["Location"]) == (303, form)
    for path in ("/live", f"/jobs/{job_id}/live", f"/jobs/{job_id}/params"):
        answer = door.web.client.get(path, headers={"Accept": "text/event-stream"})
        assert answer.status_code == 401
        assert job_id not in text_of(answer)
    assert send(door.web, f"/jobs/{job_id}/cancel").status_code == 401
    assert send(door.web, "/downstreams/sample/pause").status_code == 401
    assert door.web.row(job_id).state == State.QUEUED


def test_a_good_key_opens_a_session_that_scripts_and_other_sites_can_not_use(door: Door) -> None:
    answer = door.sign_in("ops")
    assert (answer.status_code, answer.headers["Location"]) == (303, "./")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert cookie.endswith("; HttpOnly; Path=/; SameSite=Strict")
    assert door.secrets["ops"] not in cookie
    page = door.web.client.get("/")
    assert page.status_code == 200
    assert "Sign out" in page.get_data(as_text=True)


def test_behind_https_the_cookie_is_kept_to_https_and_to_the_prefix(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, auth="keys", public_url="https://a.example/jobs")
    cookie = Door(web).sign_in("ops").headers["Set-Cookie"]
    web.close()
    assert cookie.endswith("; Secure; HttpOnly; Path=/jobs; SameSite=Strict")


@pytest.mark.parametrize("key", ["", "tg_wrong", "x" * 10_000, "\0", "ключ", "tg_' OR 1=1 --"])
def test_a_key_that_is_not_good_gets_the_form_again(door: Door, key: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = send(door.web, "/sign-in", key=key)
    assert answer.status_code == 403
    assert "This key is unknown, expired or revoked." in text_of(answer)
    assert "Set-Cookie" not in answer.headers
    if key.strip("\0"):
        assert key not in answer.get_data(as_text=True)
        assert key not in caplog.text


def test_no_key_is_ever_logged(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        door.sign_in("shop")
        door.web.client.get("/")
    assert door.secrets["shop"] not in caplog.text
    assert str(door.cookie()) not in caplog.text


def test_after_the_sign_in_one_is_where_one_wanted_to_be_and_nowhere_else(door: Door) -> None:
    job_id = door.submit("shop")
    assert door.sign_in("shop", next=f"jobs/{job_id}").headers["Location"] == f"./jobs/{job_id}"
    for elsewhere in (
        "https://evil.example",
        "//evil.example",
        "jobs/../../x",
        "javascript:alert(1)",
        f"jobs/{job_id}/..",
    ):
        assert door.sign_in("shop", next=elsewhere).headers["Location"] == "./"


def test_a_client_sees_and_does_its_own_only(door: Door) -> None:
    own, other = door.submit("shop"), door.submit("warehouse")
    door.web.claim(other)
    door.sign_in("shop")
    page = door.web.client.get("/")
    assert own in part_of(page, "recent")
    assert other not in page.get_data(as_text=True)
    text = text_of(page)
    for operators in ("Pause", "In flight", "used of", "Workers"):
        assert operators not in text
    assert door.web.client.get(f"/jobs/{other}").status_code == 404
    for path in (f"/jobs/{other}/live", f"/jobs/{other}/params"):
        assert door.web.client.get(path).status_code == 404
    assert send(door.web, f"/jobs/{other}/cancel").status_code == 404
    assert send(door.web, f"/jobs/{other}/retry").status_code == 404
    assert door.web.client.get(f"/?q={other}").status_code == 200
    assert other not in part_of(door.web.client.get(f"/?q={other[:8]}"), "running")
    for action in ("pause", "resume", "rate"):
        assert send(door.web, f"/downstreams/sample/{action}", rate="1/s").status_code == 403
    assert send(door.web, f"/jobs/{own}/cancel").status_code == 303
    assert door.web.row(own).state == State.CANCELLED
    assert door.web.row(other).state == State.RUNNING


def test_an_operator_sees_and_does_everything(door: Door) -> None:
    jobs = [door.submit("shop"), door.submit("warehouse")]
    door.sign_in("ops")
    page = door.web.client.get("/")
    assert all(job_id in part_of(page, "recent") for job_id in jobs)
    assert "warehouse" in text_of(door.web.client.get(f"/jobs/{jobs[1]}"))
    assert send(door.web, "/downstreams/sample/pause").status_code == 303
    assert "Paused" in text_of(door.web.client.get("/"))


def test_a_session_ends_with_its_key(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    door.sign_in("shop")
    assert door.web.client.get("/").status_code == 200
    door.keys.revoke(door.key_ids["shop"])
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def move_back(door: Door, hours: float) -> None:
    """Lets every session have begun so much earlier."""
    earlier = text("UPDATE sessions SET began_at = began_at - :by, ends_at = ends_at - :by")
    door.web.database.execute(earlier, {"by": int(hours * 3600 * 1_000_000)})


def test_a_session_ends_after_twelve_hours(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    door.sign_in("shop")
    move_back(door, 11.99)
    assert door.web.client.get("/").status_code == 200
    move_back(door, 0.02)
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303
    door.sign_in("shop")
    assert len(door.web.database.fetch_all(select(sessions))) == 1, "what is over goes"


def test_to_sign_out_ends_the_session_whoever_has_its_cookie(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    door.sign_in("shop")
    taken, other = str(door.cookie()), door.web.app.test_client()
    other.set_cookie(COOKIE, taken)
    assert other.get("/").status_code == 200
    answer = send(door.web, "/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "./sign-in")
    assert door.cookie() is None
    assert other.get("/", headers={"Accept": "text/html"}).status_code == 303
    assert send(door.web, "/sign-out").status_code == 303, "a second time does no harm"


def test_to_sign_out_ends_one_session_at_once_and_no_other(door: Door) -> None:
    """At once in this process, whatever it remembers."""
    other = door.web.app.test_client()
    door.sign_in("shop")
    other.set_cookie(COOKIE, str(door.cookie()))
    door.sign_in("shop")
    still = door.web.app.test_client()
    still.set_cookie(COOKIE, str(door.cookie()))
    for browser in (other, still):
        assert browser.get("/").status_code == 200
    send(door.web, "/sign-out")
    assert still.get("/", headers={"Accept": "text/html"}).status_code == 303
    assert other.get("/").status_code == 200


def test_from_a_copy_of_the_database_no_session_can_be_made(door: Door) -> None:
    door.sign_in("ops")
    with door.web.database.transaction() as connection:
        rows = [
            *connection.execute(text("SELECT * FROM sessions")),
            *connection.execute(text("SELECT * FROM keys")),
        ]
    values = [value for row in rows for value in row if value is not None]
    assert str(door.cookie()) not in values
    key_id, far = door.key_ids["ops"], 2**33
    (digest,) = [row[3] for row in rows if row[0] == key_id]
    message = f"a session of the page until {far}".encode()
    before = base64.urlsafe_b64encode(hmac.digest(digest, message, hashlib.sha256)).decode().rstrip("=")
    forged = [f"{key_id}.{far}.{before}"]
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode()
        forged += [base64.urlsafe_b64encode(raw).decode().rstrip("="), raw.hex()]
    for cookie in forged:
        door.web.client.set_cookie(COOKIE, cookie)
        assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_a_session_is_no_key_and_a_key_no_session(door: Door) -> None:
    """Though both are remembered by their hashes."""
    door.sign_in("shop")
    assert door.web.client.get("/").status_code == 200
    bearer = {"Authorization": f"Bearer {door.cookie()}"}
    assert_is_problem(door.web.client.get("/v1/jobs", headers=bearer), 401, "unauthorized")
    door.submit("shop")
    door.web.client.set_cookie(COOKIE, door.secrets["shop"])
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_a_key_for_metrics_opens_no_session(door: Door) -> None:
    _, door.secrets["prometheus"] = door.keys.create("prometheus", name="", role=Role.METRICS)
    assert door.sign_in("prometheus").status_code == 403
    assert door.cookie() is None


def test_the_api_does_not_know_the_session_and_the_page_knows_no_ticket(door: Door) -> None:
    job_id = door.submit("shop")
    door.sign_in("shop")
    assert_is_problem(door.web.client.get(f"/v1/jobs/{job_id}"), 401, "unauthorized")
    assert_is_problem(door.web.client.post(f"/v1/jobs/{job_id}/cancel", headers=OWN), 401, "unauthorized")
    assert_is_problem(door.web.client.get(f"/v1/jobs/{job_id}/events?ticket={door.cookie()}"), 401, "unauthorized")
    bearer = {"Authorization": f"Bearer {door.secrets['shop']}"}
    events = door.web.client.get(f"/v1/jobs/{job_id}", headers=bearer).get_json()["links"]["events"]
    door.web.client.set_cookie(COOKIE, events.partition("ticket=")[2])
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_a_cookie_that_was_changed_is_none(door: Door) -> None:
    door.sign_in("shop")
    cookie = str(door.cookie())
    for forged in (cookie[:-1], cookie + "A", cookie.swapcase(), "A" * 43, "x", "\0", "x" * 4000):
        door.web.client.set_cookie(COOKIE, forged)
        assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_who_comes_by_a_link_from_another_site_is_not_asked_to_sign_in_again(door: Door) -> None:
    """The browser keeps a Strict cookie to itself then; coming from our own page, it sends it."""
    answer = door.web.client.get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.get_data(as_text=True)
    answer = door.web.client.get("/", headers={"Sec-Fetch-Site": "same-origin", "Accept": "text/html"})
    assert answer.status_code == 303


def test_another_site_can_not_sign_anybody_in(door: Door) -> None:
    answer = door.web.client.post(
        "/sign-in", data={"key": door.secrets["shop"]}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
