"""Submits to HTTP operations that read their input: what is refused, what is kept beside it, what is described."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web import Web, assert_is_problem
from tidegate.database.statement import required
from tidegate.states import State

OPERATIONS = """
[operations.orders]
url = "http://127.0.0.1:1/v1/customers/{customer}/orders"
pass_headers = ["X-Customer", "X-Trace"]
input_schema = "order.schema.json"
body = "json:/order"

[operations.plain]
url = "http://127.0.0.1:1/plain"
"""
SCHEMA = {
    "type": "object",
    "required": ["customer", "order"],
    "properties": {
        "customer": {"type": "string"},
        "next": {"$ref": "#"},
        "same": {"$ref": "#/properties/order"},
        "order": {"$ref": "#/$defs/order"},
    },
    "$defs": {
        "order": {"type": "object", "properties": {"lines": {"type": "integer"}, "again": {"$ref": "#/$defs/order"}}}
    },
}
GOOD = '{"customer": "a", "order": {"lines": 1}}'


@pytest.fixture
def web(tmp_path: Path, database_url: str) -> Iterator[Web]:
    (tmp_path / "order.schema.json").write_text(json.dumps(SCHEMA))
    face = Web(tmp_path, database_url, operations_toml=OPERATIONS)
    yield face
    face.close()


def headers_of(web: Web, job_id: str) -> dict[str, str]:
    return dict(required(web.input_of(job_id)).headers)


def test_what_breaks_schema_or_url_is_a_422_that_names_the_places(web: Web) -> None:
    problem = assert_is_problem(web.submit("orders", '{"customer": 1}'), 422, "invalid-input")
    assert [fault["pointer"] for fault in problem["errors"]] == ["", "/customer"]
    problem = assert_is_problem(web.submit("orders", '{"customer": "..", "order": {}}'), 422, "invalid-input")
    assert [fault["pointer"] for fault in problem["errors"]] == ["/customer"]
    assert_is_problem(web.submit("orders", "{"), 400, "malformed-body")
    assert_is_problem(web.submit("orders", GOOD, content_type="text/plain"), 415, "unsupported-media-type")
    assert web.count() == 0


@pytest.mark.both_databases("headers are a column of the input, and another way of inserting it")
def test_declared_headers_are_kept_with_the_input_and_no_others(web: Web) -> None:
    sent = {"X-Customer": "Müller".encode().decode("latin-1"), "X-Other": "no", "Cookie": "secret"}
    answer = web.submit("orders", GOOD, headers=sent)
    assert answer.status_code == 202
    assert headers_of(web, answer.get_json()["id"]) == {"X-Customer": sent["X-Customer"]}
    assert headers_of(web, web.accepted("plain", X_Customer="no")) == {}
    assert headers_of(web, web.accepted("orders", GOOD)) == {}


@pytest.mark.both_databases("the worker's claim reads them")
def test_a_worker_gets_them(web: Web) -> None:
    job_id = web.accepted("orders", GOOD, X_Customer="a", X_Trace="b")
    assert dict(required(web.claim(job_id).input).headers) == {"X-Customer": "a", "X-Trace": "b"}


def test_a_retry_has_them_too(web: Web) -> None:
    job_id = web.job_in(State.FAILED, "plain")
    assert web.client.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    first = web.accepted("orders", GOOD, X_Customer="a")
    assert web.client.post(f"/v1/jobs/{first}/cancel").status_code == 200
    again = web.client.post(f"/v1/jobs/{first}/retry").get_json()["id"]
    assert headers_of(web, again) == {"X-Customer": "a"}


def test_all_jobs_of_one_request_have_them(web: Web) -> None:
    items = [{"input": json.loads(GOOD)}, {"input": json.loads(GOOD)}]
    answer = web.client.post("/v1/operations/orders/jobs/bulk", json=items, headers={"X-Customer": "a"})
    ids = [each["job"]["id"] for each in answer.get_json()["jobs"]]
    assert [headers_of(web, job_id) for job_id in ids] == [{"X-Customer": "a"}] * 2


def test_they_are_part_of_what_an_idempotency_key_stands_for(web: Web) -> None:
    first = web.submit("orders", GOOD, headers={"Idempotency-Key": "k", "X-Customer": "a"})
    same = web.submit("orders", GOOD, headers={"Idempotency-Key": "k", "X-Customer": "a", "X-Other": "b"})
    assert same.get_json()["id"] == first.get_json()["id"]
    for other in ({"X-Customer": "b"}, {}, {"X-Customer": "a", "X-Trace": "b"}):
        assert_is_problem(
            web.submit("orders", GOOD, headers={"Idempotency-Key": "k", **other}), 422, "idempotency-conflict"
        )


@pytest.mark.parametrize("value", ["x" * 5000, "a\x7fb", "a\x01b"])
def test_too_much_and_what_is_no_header_is_refused_by_name(web: Web, value: str) -> None:
    problem = assert_is_problem(web.submit("orders", GOOD, headers={"X-Customer": value}), 400, "invalid-header")
    assert problem["detail"].startswith("X-Customer")


def test_the_schema_stands_in_the_description_with_its_references_in_place(web: Web) -> None:
    assert web.client.get("/v1/operations/orders").get_json()["input_schema"] == SCHEMA
    document = web.client.get("/openapi.json").get_json()
    schemas = document["components"]["schemas"]
    assert schemas["orders_input"]["properties"]["order"] == {"$ref": "#/components/schemas/orders_order"}
    assert schemas["orders_order"]["properties"]["again"] == {"$ref": "#/components/schemas/orders_order"}
    assert schemas["orders_input"]["properties"]["next"] == {"$ref": "#/components/schemas/orders_input"}
    assert schemas["orders_input"]["properties"]["same"]["$ref"] == "#/components/schemas/orders_input/properties/order"
    submit = document["paths"]["/v1/operations/orders/jobs"]["post"]
    assert {"X-Customer", "X-Trace"} <= {each["name"] for each in submit["parameters"] if "name" in each}
