"""Bodies that are no job input are small, at every route; and what is faulty in a large one is told in few words."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.page import OWN
from tests.support.web import Web, assert_is_problem
from webapp.http.bodies import JOB_INPUTS, SMALL_BODY

SMALL_ROUTES = [
    ("PATCH", "/v1/downstreams/sample"),
    ("POST", "/v1/jobs/cancel"),
    ("POST", "/v1/jobs/retry"),
    ("POST", "/v1/webhook-secrets"),
    ("POST", "/v1/deliveries/send"),
]
FORMS = ["/sign-in", "/downstreams/sample/rate"]
JSON = "application/json"


class Unread(BytesIO):
    """A body that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.taken += len(content)
        return content


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    """One kind of database is enough for this."""
    face = Web(tmp_path, sqlite_url)
    face.declare()
    yield face
    face.close()


def send(web: Web, method: str, path: str, content: bytes, content_type: str = JSON) -> TestResponse:
    """With its length."""
    return web.client.open(path, method=method, data=content, content_type=content_type, headers=OWN)


def faulty(size: int) -> bytes:
    """JSON of about this size, of members that nobody knows."""
    members = (size - 2) // 12
    return b"{" + b",".join(b'"k%06d":1' % each for each in range(members)) + b"}"


@pytest.mark.parametrize(("method", "path"), SMALL_ROUTES, ids=str)
@pytest.mark.parametrize("size", [SMALL_BODY + 1, 8_500_000])
def test_a_longer_body_is_refused_before_it_is_read(web: Web, method: str, path: str, size: int) -> None:
    body = Unread(faulty(size).ljust(size))
    answer = web.client.open(path, method=method, input_stream=body, content_type=JSON, content_length=size)
    document = assert_is_problem(answer, 413, "body-too-large")
    assert str(SMALL_BODY) in document["detail"]
    assert body.taken == 0


@pytest.mark.parametrize(("method", "path"), SMALL_ROUTES, ids=str)
def test_one_without_a_length_is_not_read_at_all(web: Web, method: str, path: str) -> None:
    body = Unread(faulty(1_000_000))
    streamed = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = web.client.open(path, method=method, input_stream=body, content_type=JSON, environ_overrides=streamed)
    assert_is_problem(answer, 411, "length-required")
    assert body.taken == 0


@pytest.mark.parametrize(("method", "path"), SMALL_ROUTES, ids=str)
def test_within_the_bound_a_hundred_faults_are_told(web: Web, method: str, path: str) -> None:
    document = assert_is_problem(send(web, method, path, faulty(SMALL_BODY)), 422, "invalid-input")
    assert len(document["errors"]) == 100
    assert document["detail"] == "1365 fault(s) in the input; these are the first 100"


@pytest.mark.parametrize("path", FORMS)
def test_forms_are_small_too(tmp_path: Path, sqlite_url: str, path: str) -> None:
    web = Web(tmp_path, sqlite_url)
    web.declare()
    form = "application/x-www-form-urlencoded"
    for content in (b"rate=" + b"1" * SMALL_BODY, b"&".join([b"a=1"] * 1_000_000)):
        body = Unread(content)
        answer = web.client.post(path, input_stream=body, content_type=form, content_length=len(content), headers=OWN)
        assert answer.status_code == 413
        assert body.taken == 0
    boundary = "multipart/form-data; boundary=x"
    parts = b"".join(b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % each for each in range(9000))
    assert send(web, "POST", path, parts + b"--x--\r\n", boundary).status_code == 413
    web.close()


def test_every_route_is_small_but_those_of_job_inputs(web: Web) -> None:
    """A route that is added tomorrow is, too."""
    seen: dict[str, int] = {}

    def look() -> None:
        from flask import request  # noqa: PLC0415 - within a request only

        seen[request.endpoint or ""] = (request.max_content_length or 0) - 1

    web.app.before_request(look)
    for rule in web.app.url_map.iter_rules():
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<uuid:{name}>", "0199c5a0-0000-7000-8000-000000000000").replace(f"<{name}>", "echo")
        path = path.replace("<any(params, result):kind>", "params").replace("<path:name>", "page.css")
        for method in (rule.methods or set()) & {"POST", "PATCH", "PUT", "DELETE"}:
            web.client.open(path, method=method, headers=OWN)
            assert rule.endpoint in seen, path
    large = {endpoint for endpoint, most in seen.items() if most > SMALL_BODY}
    assert large == JOB_INPUTS
    assert len(seen) > 15


def test_a_job_input_may_be_large_and_its_faults_are_few(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, operations=("tests.support.typed_operations",))
    answer = web.submit("order", b'{"part":' + faulty(900_000) + b"}")
    document = assert_is_problem(answer, 422, "invalid-input")
    assert len(document["errors"]) == 100
    assert len(answer.data) < 20_000
    web.close()


def test_an_item_of_a_bulk_submit_with_a_million_members_is_one_fault(web: Web) -> None:
    path = "/v1/operations/echo/jobs/bulk"
    content = b'[{"input":1},' + faulty(8_500_000) + b"]"
    document = assert_is_problem(send(web, "POST", path, content), 422, "invalid-input")
    (fault,) = document["errors"]
    assert fault["pointer"] == "/1"
    assert "input, idempotency_key, timeout" in fault["detail"]
    assert web.count() == 0


def test_all_jobs_of_a_bulk_submit_tell_a_hundred_faults_and_each_its_first(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, operations=("tests.support.typed_operations",))
    items = [{"input": {"part": {f"k{each}": 1 for each in range(60)}}} for _ in range(200)]
    answer = send(web, "POST", "/v1/operations/order/jobs/bulk", json.dumps(items).encode())
    told = [len(job["problem"]["errors"]) for job in answer.get_json()["jobs"]]
    assert told[0] > 60
    assert told[2:] == [1] * 198
    assert web.count() == 0
    web.close()
