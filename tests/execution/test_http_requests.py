"""Requests that are made of an input: URL, body and headers as a real server receives them; failures in a 200."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.execution.test_http_operation import call, make_operation
from tests.support.http_server import HttpServer, respond, serving
from tidegate.errors import InvalidInput, MalformedBody, UnsupportedBody
from tidegate.operations.json_schema import JsonSchema
from tidegate.operations.operation import Body
from tidegate.operations.outcome import ErrorCode, Failed, Succeeded


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        running.answer = respond(200, b"{}", content_type="application/json")
        yield running


def body(text: str, **headers: str) -> Body:
    return Body(content=text.encode(), headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_path_and_query_come_from_the_input(server: HttpServer) -> None:
    made = make_operation(server.url + "/v1/customers/{customer}/orders?lang={lang}&open={open}&n={n}", method="GET")

    outcome = call(made, body('{"customer": "AC/DC & Söhne", "lang": "", "open": true, "n": 1.50, "more": [1]}'))

    assert isinstance(outcome, Succeeded)
    (received,) = server.received
    assert received.line == "GET /v1/customers/AC%2FDC%20%26%20S%C3%B6hne/orders?lang=&open=true&n=1.50 HTTP/1.1"
    assert received.body == b""
    assert "content-type" not in received.headers


def test_the_environment_is_put_in_beside_them(server: HttpServer) -> None:
    made = make_operation(
        "${CRM}/v1/{customer}?key=${KEY}", expand=lambda text: text.replace("${CRM}", server.url).replace("${KEY}", "k")
    )

    assert isinstance(call(made, body('{"customer": "${KEY}"}')), Succeeded)
    assert server.received[0].line == "POST /v1/%24%7BKEY%7D?key=k HTTP/1.1"


@pytest.mark.parametrize(
    ("method", "what", "sent", "content_type"),
    [
        ("POST", None, b'{"payload": {"a":  1.0} }', "application/json; v=1"),
        ("POST", False, b"", None),
        ("POST", ("payload",), b'{"a":  1.0}', "application/json"),
        ("POST", ("payload", "a"), b"1.0", "application/json"),
        ("GET", None, b"", None),
        ("DELETE", None, b"", None),
        ("DELETE", True, b'{"payload": {"a":  1.0} }', "application/json; v=1"),
        ("GET", ("payload",), b'{"a":  1.0}', "application/json"),
    ],
)
def test_the_body_is_what_the_file_says(
    server: HttpServer, method: str, what: Any, sent: bytes, content_type: str | None
) -> None:
    made = make_operation(server.url + "/", method=method, body=what)

    assert isinstance(
        call(made, Body(content=b'{"payload": {"a":  1.0} }', content_type="application/json; v=1")), Succeeded
    )
    (received,) = server.received
    assert received.body == sent
    assert received.headers.get("content-type") == content_type


def test_headers_of_the_submit_go_along_and_change_none_of_ours(server: HttpServer) -> None:
    made = make_operation(server.url + "/", headers={"X-Api-Key": "k"})

    call(made, body("{}", X_Customer="Müller & Co", idempotency_key="theirs"))

    (received,) = server.received
    assert received.headers["x-customer"] == "Müller & Co"
    assert received.headers["x-api-key"] == "k"
    assert received.headers["idempotency-key"] != "theirs"


@pytest.mark.parametrize(
    ("answer", "content_type", "fails"),
    [
        (b'{"error": {"code": 7}}', "application/json", True),
        (b'{"error": "no"}', "application/problem+json", True),
        (b'{"error": null, "price": 1}', "application/json", False),
        (b'{"error": ""}', "application/json", False),
        (b'{"price": 1}', "application/json", False),
        (b'[{"error": 1}]', "application/json", False),
        (b'{"error": 1', "application/json", False),
        (b'{"error": 1}', "text/plain", False),
        (b"", "application/json", False),
    ],
)
def test_a_good_answer_that_says_that_it_is_none_is_a_failure(
    server: HttpServer, answer: bytes, content_type: str, fails: bool
) -> None:
    server.answer = respond(200, answer, content_type=content_type)

    outcome = call(make_operation(server.url + "/", fail_when=("error",)))

    if not fails:
        assert isinstance(outcome, Succeeded)
        return
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.DOWNSTREAM_ERROR
    assert outcome.message == "the downstream answered 200 with something at /error"
    assert outcome.detail["downstream_body"] == answer.decode()


def test_an_input_that_no_longer_makes_a_request_fails_the_job_without_a_call(server: HttpServer) -> None:
    """The file was changed between the submit and the call."""
    outcome = call(make_operation(server.url + "/{customer}"), body('{"id": 1}'))

    assert isinstance(outcome, Failed)
    assert "customer" in str(outcome)
    assert not server.received


URL = "https://crm/v1/{customer}?lang={lang}"


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ("{}", "/customer"),
        ('{"customer": null, "lang": "x"}', "/customer"),
        ('{"customer": [], "lang": "x"}', "/customer"),
        ('{"customer": {}, "lang": "x"}', "/customer"),
        ('{"customer": "", "lang": "x"}', "/customer"),
        ('{"customer": "..", "lang": "x"}', "/customer"),
        ('{"customer": "a\\u0000", "lang": "x"}', "/customer"),
        ('{"customer": "a", "lang": null}', "/lang"),
        ('{"customer": "a", "customer": "b", "lang": "x"}', "/customer"),
        ("[1]", ""),
        ("7", ""),
    ],
)
def test_what_makes_no_request_is_refused_at_the_door_with_its_place(content: str, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_operation(URL).check(body(content))
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_what_is_read_has_to_be_json() -> None:
    made = make_operation(URL)
    with pytest.raises(MalformedBody):
        made.check(body("{"))
    with pytest.raises(UnsupportedBody):
        made.check(Body(content=b'{"customer": "a", "lang": "b"}', content_type="text/plain"))
    make_operation("https://crm/").check(Body(content=b"\xff", content_type="text/plain"))


def test_a_schema_is_held_at_the_door_and_shown() -> None:
    schema = {"type": "object", "required": ["customer"], "properties": {"customer": {"type": "string"}}}
    made = make_operation("https://crm/", schema=JsonSchema.of(schema))
    made.check(body('{"customer": "a"}'))
    assert made.input_schema() == schema
    assert made.content_types == ("application/json",)
    with pytest.raises(InvalidInput):
        made.check(body('{"customer": 1}'))


def test_without_a_schema_that_of_what_is_taken_out_is_shown() -> None:
    made = make_operation(URL, body=("order", "payload"))
    assert made.input_schema() == {
        "type": "object",
        "properties": {
            "customer": {"type": ["string", "number", "boolean"], "minLength": 1},
            "lang": {"type": ["string", "number", "boolean"]},
            "order": {"type": "object", "properties": {"payload": {}}, "required": ["payload"]},
        },
        "required": ["customer", "lang", "order"],
    }
    assert make_operation("https://crm/").input_schema() is None
