"""What stands in front of everything: room for so many requests, and an answer to probes whatever else goes on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
from werkzeug.test import Client

from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from webapp.serving.request_guard import RequestGuard

MOST = 3


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    opened = Web(tmp_path, sqlite_url, web_threads=1)
    yield opened
    opened.close()


class Blocked:
    """An application that answers in pieces, and only when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.inside = 0

    def __call__(self, _environ: object, start_response: Callable[..., object]) -> Iterator[bytes]:
        self.inside += 1
        self.let.wait()
        start_response("200 OK", [])
        return iter([b"a", b"b"])


def failing(*_: object) -> NoReturn:
    """An application that fails before it answers."""
    raise ZeroDivisionError


def test_live_is_answered_as_flask_does_and_without_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    by_flask = web.client.get("/health/live", headers={"Origin": "http://localhost"})
    monkeypatch.setattr(web.app, "full_dispatch_request", None)
    for method in ("GET", "HEAD"):
        answer = web.client.open("/health/live?x=y", method=method)
        assert answer.status == by_flask.status
        assert dict(answer.headers) == dict(by_flask.headers)
        assert answer.data == (by_flask.data if method == "GET" else b"")


def test_other_methods_of_live_are_still_told_which_there_are(web: Web) -> None:
    answer = web.client.post("/health/live")
    assert_is_problem(answer, 405, "method-not-allowed")


def test_live_is_answered_when_every_turn_is_taken_and_every_thread_too(web: Web) -> None:
    turns, guard = web.app.extensions["tidegate"].turns, web.app.wsgi_app
    assert isinstance(guard, RequestGuard)
    guard._most = 0
    with turns.taken():
        assert web.client.get("/health/live").status_code == 200
        answer = web.client.get("/v1/operations")
    assert_is_problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("ends", ["read", "closed", "fails"])
def test_so_many_are_let_in_and_each_leaves_when_its_answer_is_sent(web: Web, ends: str) -> None:
    app = Blocked()
    guard = RequestGuard(app, MOST, web.store.counts)
    client = Client(guard)
    with ThreadPoolExecutor(MOST) as threads:
        asked = [threads.submit(client.get, "/") for _ in range(MOST)]
        wait_until(lambda: app.inside == MOST, description="all are inside")
        assert client.get("/").status_code == 503
        app.let.set()
        answers = [each.result() for each in asked]
    if ends == "fails":
        guard._app = failing
        for answer in answers:
            answer.close()
        for _ in range(MOST + 1):
            with pytest.raises(ZeroDivisionError):
                client.get("/")
        return
    for answer in answers:
        if ends == "read":
            assert answer.data == b"ab"
        else:
            answer.close()
        answer.close()
    assert guard._inside == 0
    assert client.get("/").data == b"ab"
