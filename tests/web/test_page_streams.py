"""The page live: what is sent, how often the database is asked for it, and how a stream ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.support.page import PageStream, text_of
from tests.support.proxy import Proxy
from tests.support.statements import asked
from tests.support.waiting import wait_until
from tests.support.web import LEASE, Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.operations.operation import Progress
from webapp.page import live

BROWSERS = 50


@pytest.fixture
def one(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    """The face where the database makes no difference."""
    web = Web(tmp_path, sqlite_url)
    web.declare()
    yield web
    web.close()


def test_the_overview_sends_what_changed_and_only_that(web: Web) -> None:
    web.declare()
    stream = PageStream(web)
    assert stream.next("parts").keys() == {"pulse", "counts", "downstreams", "running", "recent"}
    job_id = web.accepted("echo")
    told = stream.next("parts")
    while "recent" not in told:
        told = stream.next("parts")
    assert job_id in told["recent"]
    assert "pulse" not in told
    stream.close()
    assert web.app.extensions["tidegate"].watcher.count == 0


def test_a_jobs_page_follows_it_to_its_end(web: Web) -> None:
    job_id = web.accepted("echo")
    stream = PageStream(web, f"/jobs/{job_id}/live")
    assert "#ticks-one" in stream.next("parts")["now"]
    claim = web.claim(job_id)
    told = stream.next("parts")
    while "#ticks-two" not in told.get("now", ""):
        told = stream.next("parts")
    assert "Attempt 1 is under way" in told["timeline"]
    web.store.workers.progress(claim, Progress(done=3, total=4), lease=LEASE)
    assert 'value="75"' in stream.next("parts")["now"]
    web.store.workers.fail(claim, {"code": "operation_error", "message": "no <b>luck</b>"}, call_seconds=0.1)
    end = stream.next("parts")
    assert "no &lt;b&gt;luck&lt;/b&gt;" in end["now"]
    assert "Submit again" in end["actions"]
    assert stream.next("bye") == "end"
    assert stream.is_over()


def test_progress_costs_the_page_of_a_job_no_statement(one: Web) -> None:
    job_id = one.accepted("echo")
    claim = one.claim(job_id)
    stream = PageStream(one, f"/jobs/{job_id}/live")
    stream.next("parts")
    with asked(one.database) as cost:
        for done in (1, 2, 3):
            one.store.workers.progress(claim, Progress(done=done, total=4), lease=LEASE)
            stream.next("parts")
    assert not [statement for statement in cost.statements if "FROM attempts" in statement and "job_id =" in statement]
    assert not [statement for statement in cost.statements if "FROM bodies" in statement]
    stream.close()


def test_a_page_open_in_fifty_browsers_asks_the_database_no_more_than_in_one(one: Web) -> None:
    def statements_a_look(browsers: int) -> float:
        """What the database is asked while all of them see three changes."""
        streams = [PageStream(one) for _ in range(browsers)]
        with ThreadPoolExecutor(browsers) as pool:
            list(pool.map(lambda stream: stream.next("parts"), streams))
            with asked(one.database) as cost:
                for _ in range(3):
                    one.accepted("echo")
                    list(pool.map(lambda stream: stream.next("parts"), streams))
        for stream in streams:
            stream.close()
        return len(cost.statements)

    alone = statements_a_look(1)
    # Never 50 times; twice, for they need not all look in one second, and three times on a machine that stands still.
    assert statements_a_look(BROWSERS) <= 3 * alone


def test_the_page_of_an_erased_job_is_told(one: Web) -> None:
    job_id = one.accepted("echo")
    stream = PageStream(one, f"/jobs/{job_id}/live")
    stream.next("parts")
    one.client.post(f"/v1/jobs/{job_id}/cancel")
    assert stream.next("bye") == "end"
    erased = one.accepted("echo")
    stream = PageStream(one, f"/jobs/{erased}/live")
    stream.next("parts")
    with one.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE id = ?", (erased.replace("-", ""),))
    assert stream.next("bye") == "gone"
    assert stream.is_over()


def test_the_page_of_a_final_job_with_nothing_to_tell_ends_at_once(one: Web) -> None:
    job_id = one.accepted("echo")
    one.client.post(f"/v1/jobs/{job_id}/cancel")
    stream = PageStream(one, f"/jobs/{job_id}/live")
    assert stream.next("bye") == "end"
    assert "data-live" not in one.client.get(f"/jobs/{job_id}").get_data(as_text=True)


def test_a_revoked_key_ends_the_stream(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    monkeypatch.setattr(live, "_BEAT_SECONDS", 0.0)
    web = Web(tmp_path, sqlite_url, auth="keys")
    keys = KeyStore(web.database)
    key_id, secret = keys.create("shop", name="", role=Role.CLIENT, expires_in=timedelta(days=1))
    stream = PageStream(web, cookie=signed_in(web, secret))
    stream.next("parts")
    keys.revoke(key_id)
    assert stream.next("bye") == "session"
    assert stream.is_over()
    web.close()


@pytest.mark.parametrize("how", ["revoked", "signed out"])
def test_what_changed_after_the_session_ended_is_not_told(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Between two beats, too."""
    monkeypatch.setattr("tidegate.access.authenticator.FRESH_SECONDS", -1.0)
    web = Web(tmp_path, sqlite_url, auth="keys")
    keys = KeyStore(web.database)
    key_id, secret = keys.create("shop", name="", role=Role.CLIENT)
    job_id = web.submit(headers={"Authorization": f"Bearer {secret}"}).get_json()["id"]
    stream = PageStream(web, f"/jobs/{job_id}/live", cookie=signed_in(web, secret))
    stream.next("parts")
    if how == "revoked":
        keys.revoke(key_id)
    else:
        web.client.post("/sign-out", headers={"Origin": "http://localhost"})
    web.succeed(job_id, b'"hidden"', is_json=True)
    rest = b"".join(stream._chunks).decode()
    assert "event: bye\ndata: session" in rest
    assert "event: parts" not in rest
    assert "hidden" not in rest
    web.close()


def signed_in(web: Web, secret: str) -> str:
    """The cookie of a new session."""
    web.client.post("/sign-in", data={"key": secret}, headers={"Origin": "http://localhost"})
    cookie = web.client.get_cookie("tidegate_session")
    assert cookie
    return str(cookie.value)


def test_without_room_there_is_no_stream_but_still_a_page(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, held_requests=1)
    stream = PageStream(web)
    answer = web.client.get("/live")
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert web.client.get("/").status_code == 200
    stream.close()
    PageStream(web).close()
    web.close()


def test_streams_end_when_the_process_is_asked_to_stop(one: Web) -> None:
    stream = PageStream(one)
    stream.next("parts")
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(lambda: [*stream._chunks])
        one.app.extensions["tidegate"].watcher.stop()
        over.result(timeout=30)


def test_heads_of_streams_hold_nothing(one: Web) -> None:
    for path in ("/live", f"/jobs/{one.accepted('echo')}/live"):
        answer = one.client.head(path)
        assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
    assert one.app.extensions["tidegate"].watcher.count == 0


def test_while_the_database_is_away_pages_and_streams_say_so(tmp_path: Path, postgresql_url: str) -> None:
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port)
        web = Web(tmp_path, url.render_as_string(hide_password=False))
        stream = PageStream(web)
        stream.next("parts")
        proxy.refuse()
        assert "The database does not answer" in stream.next("trouble")
        answer = web.client.get("/")
        assert (answer.status_code, answer.mimetype) == (503, "text/html")
        assert "The database does not answer" in text_of(answer)
        assert "data-again" in answer.get_data(as_text=True)
        proxy.forward()
        assert stream.next("parts").keys() == {"pulse", "counts", "downstreams", "running", "recent"}, (
            "all that was seen may be old"
        )
        stream.close()
        assert wait_until(lambda: web.client.get("/").status_code == 200, description="the page is back")
        web.close()
