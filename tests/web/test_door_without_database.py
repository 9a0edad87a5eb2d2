"""The door while PostgreSQL refuses, says nothing, and comes back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from config.settings import Settings
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from webapp.app import create_app


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[Proxy]:
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy, postgresql_url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    operations = tmp_path / "operations.toml"
    operations.write_text("")
    url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    app = create_app(
        Settings(
            _env_file=None,
            data=tmp_path,
            database_url=url,
            operations_file=operations,
            operations=("tests.support.operations",),
        )
    )
    yield app.test_client()
    app.extensions["tidegate"].store.database.close()


def timed(call: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    started = time.monotonic()
    answer = call()
    return answer, time.monotonic() - started


def submit(client: FlaskClient) -> TestResponse:
    return client.post("/v1/operations/echo/jobs", json={"a": 1})


def assert_is_unavailable(answer: TestResponse) -> None:
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("warm", [True, False], ids=["with open connections", "without"])
def test_a_database_that_refuses_is_a_quick_503(client: FlaskClient, proxy: Proxy, warm: bool) -> None:
    if warm:
        assert submit(client).status_code == 202
    proxy.refuse()
    answer, seconds = timed(lambda: submit(client))
    assert_is_unavailable(answer)
    assert seconds < 1


@pytest.mark.parametrize("warm", [True, False], ids=["with open connections", "without"])
def test_a_database_that_says_nothing_is_a_503_within_three_seconds_and_then_at_once(
    client: FlaskClient, proxy: Proxy, warm: bool
) -> None:
    if warm:
        assert submit(client).status_code == 202
    proxy.stall()
    answer, seconds = timed(lambda: submit(client))
    assert_is_unavailable(answer)
    assert seconds < 3
    answer, seconds = timed(lambda: submit(client))
    assert_is_unavailable(answer)
    assert seconds < 0.05
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503


@pytest.mark.parametrize("fault", [Proxy.refuse, Proxy.stall], ids=["refused", "silent"])
def test_the_door_opens_again_by_itself(client: FlaskClient, proxy: Proxy, fault: Callable[[Proxy], Any]) -> None:
    fault(proxy)
    assert_is_unavailable(submit(client))
    proxy.forward()
    wait_until(lambda: submit(client).status_code == 202, description="a submit is accepted again")
