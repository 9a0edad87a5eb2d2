"""The page where keys are on: who gets in, with what, for how long, and what they see."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.page import OWN, part_of, send, text_of
from tests.support.web import Web, assert_is_problem
from tidegate import clock, keys
from tidegate.keys import KeyStore, Role
from tidegate.states import State
from tidegate.tickets import SESSION_GOOD_FOR

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
    assert send(door.web, "/lanes/sample/pause").status_code == 401
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
        assert send(door.web, f"/lanes/sample/{action}", rate="1/s").status_code == 403
    assert send(door.web, f"/jobs/{own}/cancel").status_code == 303
    assert door.web.row(own).state == State.CANCELLED
    assert door.web.row(other).state == State.RUNNING


def test_an_operator_sees_and_does_everything(door: Door) -> None:
    jobs = [door.submit("shop"), door.submit("warehouse")]
    door.sign_in("ops")
    page = door.web.client.get("/")
    assert all(job_id in part_of(page, "recent") for job_id in jobs)
    assert "warehouse" in text_of(door.web.client.get(f"/jobs/{jobs[1]}"))
    assert send(door.web, "/lanes/sample/pause").status_code == 303
    assert "Paused" in text_of(door.web.client.get("/"))


def test_a_session_ends_with_its_key(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_FRESH_SECONDS", -1.0)
    door.sign_in("shop")
    assert door.web.client.get("/").status_code == 200
    door.keys.revoke(door.key_ids["shop"])
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_a_session_ends_after_twelve_hours(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.sign_in("shop")
    later = clock.now() + SESSION_GOOD_FOR
    monkeypatch.setattr(clock, "now", lambda: later - timedelta(seconds=5))
    assert door.web.client.get("/").status_code == 200
    monkeypatch.setattr(clock, "now", lambda: later)
    assert door.web.client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_to_sign_out_takes_the_cookie_back(door: Door) -> None:
    door.sign_in("shop")
    answer = send(door.web, "/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "./sign-in")
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
    key_id, good_until, signature = str(door.cookie()).split(".")
    for forged in (
        f"{key_id}.{int(good_until) + 1}.{signature}",
        f"{door.key_ids['ops']}.{good_until}.{signature}",
        f"{key_id}.{good_until}.{'A' * 43}",
        "x",
    ):
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
