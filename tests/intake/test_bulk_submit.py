"""Many jobs in one request: each taken or refused for itself, or all or none."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from tests.support.web import Web, assert_is_problem
from tidegate.database.schema import idempotency_keys, jobs
from tidegate.database.statement import required
from tidegate.operations.limits import Limits
from tidegate.operations.operation import Body

on_both = pytest.mark.both_databases("many rows are one statement, one transaction")

URL = "/v1/operations/echo/jobs/bulk"
ALL_OR_NONE = f"{URL}?all_or_none=true"


def bulk(web: Web, items: Any, url: str = URL) -> TestResponse:
    """POSTs the items as JSON."""
    return web.client.post(url, data=json.dumps(items), content_type="application/json")


def answers(response: TestResponse) -> list[dict[str, Any]]:
    """What became of each job."""
    assert response.status_code == 202, response.get_data(as_text=True)
    found: list[dict[str, Any]] = response.get_json()["jobs"]
    return found


def statuses(response: TestResponse) -> list[int]:
    """The status of each job."""
    return [answer["status"] for answer in answers(response)]


def inputs(web: Web, response: TestResponse) -> list[Body | None]:
    """What was recorded as each job's body."""
    return [web.input_of(answer["job"]["id"]) for answer in answers(response)]


def keys_of(web: Web) -> int:
    """How many keys are recorded."""
    return required(web.database.fetch_one(select(func.count()).select_from(idempotency_keys)))[0]


def test_each_job_of_an_array_is_recorded_and_answered_in_order(web: Web) -> None:
    response = bulk(web, [{"input": {"number": number}} for number in range(5)])

    found = answers(response)
    assert len({answer["job"]["id"] for answer in found}) == 5 == web.count()
    for answer in found:
        assert (answer["status"], answer["problem"]) == (202, None)
        assert answer["location"] == answer["job"]["links"]["self"]
        assert answer["job"] == web.client.get(answer["location"]).get_json()
    bodies = [Body(content=b'{"number":%d}' % number) for number in range(5)]
    assert inputs(web, response) == bodies


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl", "application/x-ndjson; x=y"])
def test_ndjson_is_a_job_a_line(web: Web, content_type: str) -> None:
    content = b'{"input": 1}\n\n  \r\n{"input": "\xc3\xbc"}\r\n{"input": null}'
    response = web.client.post(URL, data=content, content_type=content_type)
    assert statuses(response) == [202] * 3
    assert [body and body.content for body in inputs(web, response)] == [b"1", b'"\xc3\xbc"', b"null"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"input":\n1}',
        b'{"input": 1}, {"input": 2}',
        b'{"input": 1} {"input": 2}',
        b'{"input": 1},\n{"input": 2}',
        b'{"input": 1}\n]',
        b"NaN",
    ],
)
def test_a_line_that_is_no_json_value_of_its_own_is_a_400(web: Web, content: bytes) -> None:
    assert_is_problem(web.client.post(URL, data=content, content_type="application/x-ndjson"), 400, "malformed-body")
    assert web.count() == 0


@on_both
def test_a_thousand_jobs_are_taken_at_once_and_again_under_their_keys(web: Web) -> None:
    items = [{"input": number, "idempotency_key": f"key-{number}"} for number in range(1000)]
    first, again = (bulk(web, items) for _ in range(2))
    assert statuses(first) == statuses(again) == [202] * 1000
    ids = [[answer["job"]["id"] for answer in answers(response)] for response in (first, again)]
    assert ids[0] == ids[1]
    assert (web.count(), keys_of(web)) == (1000, 1000)
    assert sorted(ids[0]) == ids[0], "first come, first served"


def test_a_thousand_and_one_are_refused(web: Web) -> None:
    document = assert_is_problem(bulk(web, [{"input": 1}] * 1001), 422, "invalid-input")
    assert document["errors"][0]["pointer"] == ""
    assert web.count() == 0


def test_each_job_has_its_own_key_and_timeout(web: Web) -> None:
    items = [{"input": 1, "timeout": 7}, {"input": 2, "idempotency_key": "b", "timeout": 600}, {"input": 3}]
    found = answers(bulk(web, items))
    rows = [web.row(answer["job"]["id"]) for answer in found]
    assert [(row.deadline - row.created_at).total_seconds() for row in rows] == [7, 600, 600]
    assert keys_of(web) == 1


def test_a_job_of_a_bulk_submit_and_a_single_one_are_the_same_under_one_key(web: Web) -> None:
    single = web.submit("echo", b'{"a":1}', headers={"Idempotency-Key": "k", "Job-Timeout": "9"}).get_json()["id"]
    (answer,) = answers(bulk(web, [{"input": {"a": 1}, "idempotency_key": "k", "timeout": 9}]))
    assert answer["job"]["id"] == single


MIXED: list[dict[str, Any]] = [
    {"input": {"seconds": 1}},
    {"input": {"seconds": "soon"}},
    {"input": {"seconds": 1}, "timeout": 601},
    {"input": {"seconds": 1}, "idempotency_key": "used"},
    {"input": {"seconds": 2}},
]


def test_what_is_refused_is_answered_in_its_place_and_the_others_are_taken(web: Web) -> None:
    web.submit("sleepy_io", b'{"seconds":9}', headers={"Idempotency-Key": "used"})

    found = answers(bulk(web, MIXED, URL.replace("echo", "sleepy_io")))

    assert [answer["status"] for answer in found] == [202, 422, 400, 422, 202]
    assert [answer["problem"] and answer["problem"]["type"].rsplit(":", 1)[1] for answer in found] == [
        None,
        "invalid-input",
        "invalid-header",
        "idempotency-conflict",
        None,
    ]
    assert found[1]["problem"]["errors"][0]["pointer"] == "/seconds"
    assert [answer["job"] is None for answer in found] == [answer["location"] is None for answer in found]
    assert web.count() == 3


@pytest.mark.parametrize("left_out", [(), (1,), (1, 2)])
def test_all_or_none_records_nothing_when_one_is_refused(web: Web, left_out: tuple[int, ...]) -> None:
    web.submit("sleepy_io", b'{"seconds":9}', headers={"Idempotency-Key": "used"})
    items = [item for number, item in enumerate(MIXED) if number not in left_out]
    response = bulk(web, items, ALL_OR_NONE.replace("echo", "sleepy_io"))
    assert response.status_code in (400, 422)
    assert response.content_type == "application/problem+json"
    assert (web.count(), keys_of(web)) == (1, 1)


def test_all_or_none_takes_all_when_nothing_is_refused(web: Web) -> None:
    assert statuses(bulk(web, [{"input": number} for number in range(3)], ALL_OR_NONE)) == [202] * 3
    assert web.count() == 3


@on_both
def test_the_same_request_twice_in_a_bulk_submit_is_one_job(web: Web) -> None:
    found = answers(bulk(web, [{"input": 1, "idempotency_key": "k"}] * 3))
    assert [answer["status"] for answer in found] == [202] * 3
    assert len({answer["job"]["id"] for answer in found}) == 1
    assert (web.count(), keys_of(web)) == (1, 1)


TWO_OF_A_KEY = [{"input": 0}, {"input": 1, "idempotency_key": "k"}, {"input": 2, "idempotency_key": "k"}]


def test_of_two_requests_under_one_key_in_a_bulk_submit_the_first_is_taken(web: Web) -> None:
    assert statuses(bulk(web, TWO_OF_A_KEY)) == [202, 202, 422]
    assert (web.count(), keys_of(web)) == (2, 1)


@on_both
def test_all_or_none_records_nothing_when_a_key_stands_for_two_requests(web: Web) -> None:
    assert_is_problem(bulk(web, TWO_OF_A_KEY, ALL_OR_NONE), 422, "idempotency-conflict")
    assert (web.count(), keys_of(web)) == (0, 0)


def test_a_job_of_a_bulk_submit_counts_against_the_backlog_of_the_next(web: Web) -> None:
    web.store.limits.declare([Limits(name="sample", rates=("20/s",))])
    quote = URL.replace("echo", "quote")
    found = answers(bulk(web, [{"input": number, "timeout": 2} for number in range(100)], quote))
    taken = [answer["status"] for answer in found].count(202)
    assert {answer["status"] for answer in found} == {202, 503}
    assert 38 <= taken <= 42, "20 a second for 2 seconds"
    assert found[-1]["problem"]["earliest_finish"]
    assert web.count() == taken


@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        ([], ""),
        ({"input": 1}, ""),
        (1, ""),
        ([1], "/0"),
        ([{"input": 1}, {}], "/1/input"),
        ([{"input": 1, "inputs": 2}], "/0/inputs"),
        ([{"input": 1, "timeout": 0}], "/0/timeout"),
        ([{"input": 1, "timeout": "5"}], "/0/timeout"),
        ([{"input": 1, "timeout": True}], "/0/timeout"),
        ([{"input": 1, "timeout": 1.5}], "/0/timeout"),
        ([{"input": 1, "timeout": 10**12}], "/0/timeout"),
        ([{"input": 1}, {"input": 1, "idempotency_key": ""}], "/1/idempotency_key"),
        ([{"input": 1, "idempotency_key": "a b"}], "/0/idempotency_key"),
        ([{"input": 1, "idempotency_key": "x" * 256}], "/0/idempotency_key"),
        ([{"input": 1, "idempotency_key": "k\n"}], "/0/idempotency_key"),
        ([{"input": 1, "idempotency_key": 1}], "/0/idempotency_key"),
        ([{"input": 1, "not_before": "2026-11-23T10:00:00Z"}], "/0/not_before"),
    ],
)
def test_another_shape_is_a_422_that_points_at_the_fault(web: Web, items: Any, pointer: str) -> None:
    document = assert_is_problem(bulk(web, items), 422, "invalid-input")
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert web.count() == 0


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"[", "application/json", 400),
        (b'[{"input": NaN}]', "application/json", 400),
        (b"[]", "text/plain", 415),
        (b"[]", "", 415),
        (b'{"input": 1}\n{', "application/x-ndjson", 400),
        (b"", "application/x-ndjson", 422),
    ],
)
def test_what_is_no_bulk_submit_at_all_is_refused(web: Web, content: bytes, content_type: str, status: int) -> None:
    assert web.client.post(URL, data=content, content_type=content_type).status_code == status
    assert web.count() == 0


def test_a_number_that_is_too_large_for_a_machine_word_is_passed_on_and_one_beyond_all_is_refused(web: Web) -> None:
    big = b"123456789012345678901234567890"
    response = web.client.post(URL, data=b'[{"input": %s}]' % big, content_type="application/json")
    assert [body and body.content for body in inputs(web, response)] == [big]
    beyond = web.client.post(URL, data=b'[{"input": 1}, {"input": [1e400]}]', content_type="application/json")
    document = assert_is_problem(beyond, 422, "invalid-input")
    assert document["errors"][0]["pointer"] == "/1/input"


def test_an_unknown_operation_and_a_wrong_flag_are_refused(web: Web) -> None:
    assert_is_problem(bulk(web, [{"input": 1}], URL.replace("echo", "nothing")), 404, "unknown-operation")
    assert_is_problem(bulk(web, [{"input": 1}], f"{URL}?all_or_none=yes"), 400, "invalid-query")
    assert web.client.get(URL).status_code == 405
    assert web.count() == 0


def test_jobs_of_an_http_operation_get_their_input_as_json(web: Web) -> None:
    response = bulk(web, [{"input": {"place": "\u00fc"}}], URL.replace("echo", "quote"))
    assert inputs(web, response) == [Body(content='{"place":"\u00fc"}'.encode(), content_type="application/json")]
    row = web.row(answers(response)[0]["job"]["id"])
    assert (row.operation, row.downstream) == ("quote", "sample")


def test_a_trace_goes_with_every_job(web: Web) -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    web.client.post(URL, json=[{"input": 1}, {"input": 2}], headers={"traceparent": trace})
    with web.database.transaction() as connection:
        assert set(connection.execute(select(jobs.c.traceparent)).scalars()) == {trace}


def test_the_older_path_takes_and_answers_the_same_and_names_the_newer_one(web: Web) -> None:
    items = [{"input": number, "idempotency_key": f"k{number}"} for number in range(3)]
    older = URL.removesuffix("bulk") + "batch"
    first, again = bulk(web, items, older), bulk(web, items)
    assert [each["job"]["id"] for each in answers(first)] == [each["job"]["id"] for each in answers(again)]
    assert web.count() == 3
    assert first.headers["Deprecation"] == "@1796083200"
    assert f'<http://localhost{URL}>; rel="successor-version"' in first.headers["Link"]
    assert {"Deprecation", "Link"}.isdisjoint(dict(again.headers))


@pytest.mark.parametrize(
    ("name", "body", "status"), [("nothing", b"[]", 404), ("echo", b"{", 400), ("a%0d%0aX: y", b"[]", 404)]
)
def test_a_refusal_on_the_older_path_names_the_newer_one(web: Web, name: str, body: bytes, status: int) -> None:
    answer = web.client.post(f"/v1/operations/{name}/jobs/batch", data=body, content_type="application/json")
    assert answer.status_code == status
    assert answer.headers["Deprecation"].startswith("@")
    name = name.replace(" ", "%20").replace("0d", "0D").replace("0a", "0A").replace(":", "%3A")
    assert f"/v1/operations/{name}/jobs/bulk>" in answer.headers["Link"]
