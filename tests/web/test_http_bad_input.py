"""What must not be taken, and must not hurt: bad bodies, headers and types are refused and recorded nowhere."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.web import Web, assert_is_problem

NESTED = 450_000
NOT_JSON = {
    "nothing": b"",
    "blanks": b" \n",
    "an open brace": b"{",
    "single quotes": b"{'a': 1}",
    "a bare word": b"hello",
    "two values": b"1 2",
    "a trailing comma": b"[1,]",
    "a comment": b"[1] // one",
    "a NUL byte": b"\0",
    "a NUL byte in a string": b'"a\0b"',
    "a NUL byte behind the value": b"1\0",
    "a line break in a string": b'"a\nb"',
    "bytes that are not UTF-8": b'"\xff\xfe"',
    "an overlong UTF-8 sequence": b'"\xc0\xaf"',
    "a surrogate as UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a lone surrogate": b'"\\ud800"',
    "a lone low surrogate": b'"\\udc00 x"',
    "900 kB of nested lists": b"[" * NESTED + b"]" * NESTED,
    "900 kB of open lists": b"[" * (2 * NESTED),
    "900 kB of nested objects": b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
    "a number of 5000 digits": b"1" * 5000,
    "a form": b"a=1&b=2",
}


@pytest.fixture
def on_postgresql(tmp_path: Path, postgresql_url: str) -> Iterator[Web]:
    """The face over PostgreSQL, whose columns have the lengths that they say."""
    face = Web(tmp_path, postgresql_url)
    yield face
    face.close()


@pytest.mark.parametrize("operation", ["echo", "sleepy_io"])
@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_a_400(web: Web, operation: str, content: bytes) -> None:
    assert_is_problem(web.submit(operation, content), 400, "malformed-body")
    assert web.count() == 0


@pytest.mark.parametrize("content", [b"NaN", b"Infinity", b"[-Infinity]"])
def test_numbers_that_json_does_not_have_are_a_400(web: Web, content: bytes) -> None:
    assert_is_problem(web.submit("echo", content), 400, "malformed-body")
    assert web.count() == 0


@pytest.mark.parametrize(
    "content",
    [
        b'"\\u0000"',
        b'"\\ud83c\\udf0a"',
        b"123456789012345678901234567890",
        b"1e-400",
        b'{"a":1,"a":2}',
        b'{"":{"__proto__":null}}',
        b"[" * 150 + b"]" * 150,
        b" [1] \n",
    ],
)
def test_odd_json_is_json(web: Web, content: bytes) -> None:
    job_id = web.submit("echo", content).get_json()["id"]
    body = web.input_of(job_id)
    assert body is not None
    assert body.content == content


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        (b"{}", ["/seconds"]),
        (b'{"seconds": "soon"}', ["/seconds"]),
        (b'{"seconds": -1}', ["/seconds"]),
        (b'{"seconds": 1e400}', ["/seconds"]),
        (b'{"seconds": null}', ["/seconds"]),
        (b'{"seconds": [1]}', ["/seconds"]),
        (b"null", [""]),
        (b"[]", [""]),
        (b'"\\u0000"', [""]),
        (b"123456789012345678901234567890", [""]),
    ],
)
def test_what_breaks_the_schema_is_a_422_that_points_at_each_fault(
    web: Web, content: bytes, pointers: list[str]
) -> None:
    document = assert_is_problem(web.submit("sleepy_io", content), 422, "invalid-input")
    assert [fault["pointer"] for fault in document["errors"]] == pointers
    assert all(fault["detail"] for fault in document["errors"])
    assert web.count() == 0


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "json",
        "application/json, text/plain",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ],
)
def test_another_content_type_is_a_415(web: Web, content_type: str | None) -> None:
    assert_is_problem(web.submit("echo", b"1", content_type), 415, "unsupported-media-type")
    assert web.count() == 0


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
def test_json_may_be_named_in_other_words(web: Web, content_type: str) -> None:
    assert web.submit("echo", b"1", content_type).status_code == 202


@pytest.mark.postgresql
def test_a_content_type_longer_than_its_column_is_a_415_and_no_500(on_postgresql: Web) -> None:
    at_most = "text/plain; x=" + "y" * 186
    assert on_postgresql.submit("raw_echo", b"1", at_most).status_code == 202
    assert_is_problem(on_postgresql.submit("raw_echo", b"1", at_most + "y"), 415, "unsupported-media-type")
    assert_is_problem(on_postgresql.submit("quote", b"1", "a" * 60_000), 415, "unsupported-media-type")
    assert on_postgresql.count() == 1


def test_a_compressed_body_is_refused_for_it_would_be_passed_on_as_it_is(web: Web) -> None:
    answer = web.submit("raw_echo", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert_is_problem(answer, 415, "unsupported-media-type")
    assert web.submit("raw_echo", b"1", headers={"Content-Encoding": "identity"}).status_code == 202
    assert web.count() == 1


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "+5", "05", "1.5", "1e3", "5s", "", "soon", "5, 6", "\u0663", "\u00b2", "1" * 10, "9" * 100_000, "601"],
)
def test_a_job_timeout_that_can_not_be_used_is_a_400(web: Web, value: str) -> None:
    document = assert_is_problem(web.submit(headers={"Job-Timeout": value}), 400, "invalid-header")
    assert len(document["detail"]) < 200
    assert web.count() == 0


def test_a_header_that_comes_twice_is_not_half_obeyed(web: Web) -> None:
    answer = web.client.post(
        "/v1/operations/echo/jobs",
        data=b"1",
        content_type="application/json",
        headers=[("Job-Timeout", "5"), ("Job-Timeout", "6")],
    )
    assert_is_problem(answer, 400, "invalid-header")
    assert web.count() == 0


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10_000_000, 20 * 1024 * 1024 + 1, 30_000_000])
def test_a_body_over_a_limit_is_a_413_before_anybody_parses_it(web: Web, size: int) -> None:
    assert_is_problem(web.submit("echo", b"[" * size), 413, "body-too-large")
    assert web.count() == 0


def test_a_body_at_the_limit_is_taken_whole(web: Web) -> None:
    content = b" " * (20 * 1024 * 1024)
    job_id = web.submit("raw_echo", content).get_json()["id"]
    body = web.input_of(job_id)
    assert body is not None
    assert len(body.content) == len(content)


def streamed(web: Web, operation: str, megabytes: int, **environ: object) -> TestResponse:
    """A POST as granian gives one to the application: a stream that ends by itself, with no Content-Length."""
    return web.client.open(
        f"/v1/operations/{operation}/jobs",
        method="POST",
        input_stream=BytesIO(b" " * 1024 * 1024 * megabytes),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", **environ},
    )


@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": "1048576"}])
@pytest.mark.parametrize("megabytes", [0, 1, 21])
def test_a_stream_without_a_length_is_a_411_and_no_job(web: Web, megabytes: int, length: dict[str, str]) -> None:
    assert_is_problem(streamed(web, "raw_echo", megabytes, **length), 411, "length-required")
    assert web.count() == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/operations/echo/jobs/bulk"),
        ("POST", "/v1/jobs/cancel"),
        ("PATCH", "/v1/downstreams/sample"),
        ("POST", "/v1/webhook-secrets"),
        ("POST", "/v1/deliveries/send"),
        ("POST", "/sign-in"),
        ("GET", "/v1/jobs"),
    ],
)
def test_no_route_takes_a_body_without_a_length(web: Web, method: str, path: str) -> None:
    answer = web.client.open(path, method=method, data=b"[]", headers={"Transfer-Encoding": "chunked"})
    assert_is_problem(answer, 411, "length-required")


def test_a_body_that_ends_before_its_content_length_is_a_400(web: Web) -> None:
    answer = streamed(web, "raw_echo", 1, CONTENT_LENGTH=str(1024 * 1024 + 1), HTTP_TRANSFER_ENCODING="")
    assert_is_problem(answer, 400, "bad-request")
    assert web.count() == 0


@pytest.mark.parametrize("host", ["", "a b", "evil.example/path", "user@example.com", "<script>", "a?b", "\u00fc"])
def test_without_a_host_there_are_no_absolute_links_and_so_no_job(tmp_path: Path, sqlite_url: str, host: str) -> None:
    """With keys; without them what is no host of ours is refused before (test_foreign_sites)."""
    web = Web(tmp_path, sqlite_url, auth="keys")
    assert_is_problem(web.submit(headers={"Host": host}), 400, "bad-request")
    assert web.count() == 0
    assert web.client.get("/health/live", headers={"Host": host}).status_code == 200
    web.close()
