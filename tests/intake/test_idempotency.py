"""The same key from the same client is the same job, however often, however fast, and whatever became of it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select, update
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from tests.support.web import Web, assert_is_problem
from tidegate.database.schema import idempotency_keys
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.intake import admission
from tidegate.operations.python_operation import PythonOperation
from tidegate.states import State
from webapp.app import create_app

on_both = pytest.mark.both_databases("a key is held by a constraint, whoever comes at once")

TOGETHER = 20
KEY = {"Idempotency-Key": "order-17"}


@pytest.fixture
def app(web: Web) -> Iterator[Flask]:
    """The application as production makes it: with connections and patience of its own."""
    made = create_app(web.settings)
    yield made
    made.extensions["tidegate"].store.database.close()


def keys_of(web: Web) -> int:
    """How many keys are recorded."""
    return required(web.database.fetch_one(select(func.count()).select_from(idempotency_keys)))[0]


def at_once(asks: Sequence[Callable[[], TestResponse]]) -> list[TestResponse]:
    """All of them together, each in a thread, none before the last is ready."""
    barrier = threading.Barrier(len(asks))

    def ask(one: Callable[[], TestResponse]) -> TestResponse:
        barrier.wait(timeout=30)
        return one()

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(ask, asks))


def submitting(app: Flask, content: bytes, key: str = "together") -> Callable[[], TestResponse]:
    """A submit by a client of its own."""
    return lambda: app.test_client().post(
        "/v1/operations/echo/jobs", data=content, content_type="application/json", headers={"Idempotency-Key": key}
    )


@pytest.mark.parametrize("state", State)
def test_the_same_key_is_the_same_job_whatever_its_state(web: Web, state: State) -> None:
    first = web.submit(headers=KEY)
    job_id = first.get_json()["id"]
    match state:
        case State.RUNNING:
            web.claim(job_id)
        case State.SUCCEEDED:
            web.succeed(job_id, b"1", is_json=True)
        case State.FAILED:
            error = {"code": "operation_error", "message": "no"}
            assert web.store.workers.fail(web.claim(job_id), error, call_seconds=None)
        case State.EXPIRED:
            web.pass_deadline(job_id)
        case State.CANCELLED:
            web.client.post(f"/v1/jobs/{job_id}/cancel")
        case State.QUEUED:
            pass

    again = web.submit(headers=KEY)

    assert again.status_code == 202
    assert again.content_type == "application/json"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Retry-After"].isdecimal()
    assert int(again.headers["Retry-After"]) >= 1
    assert again.headers["Tidegate-Job-State"] == again.get_json()["state"] == state
    assert again.get_json()["id"] == job_id
    assert "ETag" not in again.headers
    assert (web.count(), keys_of(web)) == (1, 1)


@pytest.mark.parametrize(
    ("operation", "content", "content_type", "headers"),
    [
        ("raw_echo", b"1", "application/json", {}),
        ("quote", b"1", "application/json", {}),
        ("echo", b"2", "application/json", {}),
        ("echo", b" 1", "application/json", {}),
        ("echo", b"1", "application/json; charset=utf-8", {}),
        ("echo", b"1", "application/json", {"Job-Timeout": "599"}),
        ("echo", b"1", "application/json", {"Job-Timeout": "600"}),
        ("echo", b"1", "application/json", {"Job-Not-Before": "2020-01-01T00:00:00Z"}),
        ("sleepy_io", b'{"seconds": "soon"}', "application/json", {}),
    ],
)
def test_the_same_key_for_another_request_is_a_422_and_changes_nothing(
    web: Web, operation: str, content: bytes, content_type: str, headers: dict[str, str]
) -> None:
    job_id = web.submit(headers=KEY).get_json()["id"]
    before = web.row(job_id)

    answer = web.submit(operation, content, content_type, {**KEY, **headers})

    assert_is_problem(answer, 422, "idempotency-conflict")
    assert (web.count(), keys_of(web), web.row(job_id)) == (1, 1, before)


def test_what_only_names_the_trace_is_no_other_request(web: Web) -> None:
    traces = [f"00-{digit * 32}-{digit * 16}-01" for digit in "12"]
    ids = {web.submit(headers={**KEY, "traceparent": trace}).get_json()["id"] for trace in traces}
    assert len(ids) == 1


def test_one_instant_in_two_writings_is_one_request(web: Web) -> None:
    writings = ["2020-01-01T12:00:00Z", "2020-01-01T14:00:00+02:00", "Wed, 01 Jan 2020 12:00:00 GMT"]
    ids = {web.submit(headers={**KEY, "Job-Not-Before": writing}).get_json()["id"] for writing in writings}
    assert len(ids) == 1


@on_both
def test_keys_are_compared_to_the_letter(web: Web) -> None:
    ids = [web.accepted(Idempotency_Key=key) for key in ("a", "A", "a ".strip() + "-", "~" * 255)]
    assert len(set(ids)) == len(ids) == web.count()


@on_both
def test_after_the_job_was_deleted_its_key_is_a_410(web: Web) -> None:
    job_id = web.accepted(Idempotency_Key="order-17")
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204

    assert_is_problem(web.submit(headers=KEY), 410, "job-erased")
    assert_is_problem(web.submit("echo", b"2", headers=KEY), 422, "idempotency-conflict")
    assert (web.count(), keys_of(web)) == (0, 1)


@on_both
def test_the_key_of_a_deleted_job_is_free_again_after_the_retention(web: Web) -> None:
    job_id = web.accepted(Idempotency_Key="order-17")
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    web.client.delete(f"/v1/jobs/{job_id}")
    web.store.upkeep.prune(10, retention=timedelta(days=7))
    assert keys_of(web) == 1
    with web.database.transaction() as connection:
        expires_at = connection.execute(select(idempotency_keys.c.expires_at)).scalar_one()
        assert abs(expires_at - web.store.callers.now() - timedelta(days=7)) < timedelta(minutes=1)
        connection.execute(update(idempotency_keys).values(expires_at=database_now()))

    web.store.upkeep.prune(10, retention=timedelta(days=7))

    assert keys_of(web) == 0
    assert web.submit(headers=KEY).get_json()["id"] != job_id


@on_both
def test_a_key_goes_with_its_job_after_the_retention_and_not_before(web: Web) -> None:
    job_id = web.accepted(Idempotency_Key="order-17")
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    assert web.store.upkeep.prune(10, retention=timedelta(days=7)) == 0
    assert web.submit(headers=KEY).get_json()["id"] == job_id

    assert web.store.upkeep.prune(10, retention=timedelta(0)) == 1

    assert (web.count(), keys_of(web)) == (0, 0)
    assert web.submit(headers=KEY).get_json()["id"] != job_id


@pytest.mark.parametrize(
    ("operation", "content", "content_type", "headers", "status"),
    [
        ("nothing", b"1", "application/json", {}, 404),
        ("echo", b"{", "application/json", {}, 400),
        ("sleepy_io", b"{}", "application/json", {}, 422),
        ("echo", b"1", "text/plain", {}, 415),
        ("echo", b"1", "application/json", {"Job-Timeout": "601"}, 400),
        ("echo", b"1", "application/json", {"Job-Not-Before": "soon"}, 400),
        ("echo", b"[" * 1_100_000, "application/json", {}, 413),
    ],
)
def test_a_refusal_uses_up_no_key(  # noqa: PLR0917 - one argument a column of the table
    web: Web, operation: str, content: bytes, content_type: str, headers: dict[str, str], status: int
) -> None:
    assert web.submit(operation, content, content_type, {**KEY, **headers}).status_code == status
    assert (web.count(), keys_of(web)) == (0, 0)
    assert web.submit(headers=KEY).status_code == 202


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"k1"', "k1"),
        ("k1", "k1"),
        ('  "k1" ', "k1"),
        ('"a key, with blanks; and more"', "a key, with blanks; and more"),
        (r'"a \"quote\" and a \\"', 'a "quote" and a ' + "\\"),
        ('"' + "x" * 255 + '"', "x" * 255),
        ("a=b/c:d@e", "a=b/c:d@e"),
    ],
)
def test_a_key_in_quotes_and_the_same_bare_are_one(web: Web, header: str, key: str) -> None:
    first = web.submit(headers={"Idempotency-Key": header})
    assert first.status_code == 202, first.get_data(as_text=True)
    assert [each.key for each in web.database.fetch_all(select(idempotency_keys.c.key))] == [key]
    for again in {header, key} if key == "k1" else {header}:
        assert web.submit(headers={"Idempotency-Key": again}).get_json()["id"] == first.get_json()["id"]


def test_a_key_that_was_stored_with_its_quotes_is_still_found(web: Web) -> None:
    job_id = web.accepted(Idempotency_Key="k1")
    web.database.execute(update(idempotency_keys).values(key='"k1"'))  # as an earlier version did
    assert web.submit(headers={"Idempotency-Key": '"k1"'}).get_json()["id"] == job_id
    assert web.submit(content=b"2", headers={"Idempotency-Key": '"k1"'}).status_code == 422
    assert (web.count(), keys_of(web)) == (1, 1)
    assert web.submit(headers={"Idempotency-Key": "k1"}).get_json()["id"] != job_id, "which was another key then"


@pytest.mark.parametrize("key", ["k1", '"k1"'])
def test_two_lines_are_not_one_key(web: Web, key: str) -> None:
    headers = Headers([("Idempotency-Key", key), ("Idempotency-Key", key)])
    answer = web.client.post("/v1/operations/echo/jobs", data=b"1", content_type="application/json", headers=headers)
    assert_is_problem(answer, 400, "invalid-header")
    assert (web.count(), keys_of(web)) == (0, 0)


def test_a_retry_reads_its_key_likewise(web: Web) -> None:
    job_id = web.job_in(State.FAILED)
    ask = [web.client.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": key}) for key in ('"r 1"', '"r 1"')]
    assert [answer.status_code for answer in ask] == [202, 202]
    assert ask[0].get_json()["id"] == ask[1].get_json()["id"]
    assert_is_problem(
        web.client.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "a,b"}), 400, "invalid-header"
    )


UNUSABLE = ["", " ", "a b", "a\tb", "\u00fc", "x" * 256, "\x7f", "x" * 10_000]
MALFORMED = ["a,b", "a;b", 'a"b', '"a', 'a"', '""', '"a";p=1', '"a", "b"', r'"a\b"', '"' + "x" * 256 + '"']


@pytest.mark.parametrize("key", [*UNUSABLE, *MALFORMED])
def test_a_key_that_can_not_be_used_is_a_400(web: Web, key: str) -> None:
    document = assert_is_problem(web.submit(headers={"Idempotency-Key": key}), 400, "invalid-header")
    assert len(document["detail"]) < 200
    assert (web.count(), keys_of(web)) == (0, 0)


def test_a_replay_is_answered_when_the_lane_is_full_and_nothing_new_is_taken(tmp_path: Path, database_url: str) -> None:
    web = Web(tmp_path, database_url, max_backlog=1)
    job_id = web.accepted(Idempotency_Key="order-17")
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
    web.store.samples.sample()
    web.app.extensions["tidegate"].lanes.views(fresh=True)

    assert_is_problem(web.submit(headers={"Idempotency-Key": "order-18"}), 429, "backlog-full")

    assert web.submit(headers=KEY).get_json()["id"] == job_id
    web.close()


def test_a_replay_is_answered_when_the_operation_would_not_take_it_any_more(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = web.submit("sleepy_io", b'{"seconds": 1}', headers={**KEY, "Job-Timeout": "9"}).get_json()["id"]
    # A full disk, and that can't be had without one.
    monkeypatch.setattr(admission.Disk, "left", lambda _: 0)
    registry = web.app.extensions["tidegate"].registry
    made: PythonOperation = registry.operations["sleepy_io"]
    changed = replace(made, timeout=timedelta(seconds=1), max_body=1, content_types=("text/plain",))
    monkeypatch.setitem(registry.operations, "sleepy_io", changed)

    again = web.submit("sleepy_io", b'{"seconds": 1}', headers={**KEY, "Job-Timeout": "9"})

    assert (again.status_code, again.get_json()["id"]) == (202, job_id)


@on_both
def test_twenty_first_requests_together_make_one_job(web: Web, app: Flask) -> None:
    answers = at_once([submitting(app, b'{"a": 1}')] * TOGETHER)

    assert [answer.status_code for answer in answers] == [202] * TOGETHER
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert (web.count(), keys_of(web)) == (1, 1)
    body = web.input_of(answers[0].get_json()["id"])
    assert body is not None
    assert body.content == b'{"a": 1}'


@on_both
def test_of_two_requests_under_one_key_that_come_together_one_wins_and_the_other_is_a_422(web: Web, app: Flask) -> None:
    contents = [b"1", b"2"] * (TOGETHER // 2)

    answers = at_once([submitting(app, content) for content in contents])

    taken = [content for content, answer in zip(contents, answers, strict=True) if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(taken) == len(refused) == TOGETHER // 2
    assert len(set(taken)) == 1, "all that were taken are the same request"
    for answer in refused:
        assert_is_problem(answer, 422, "idempotency-conflict")
    assert (web.count(), keys_of(web)) == (1, 1)
    (job_id,) = {answer.get_json()["id"] for answer in answers if answer.status_code == 202}
    body = web.input_of(job_id)
    assert body is not None
    assert body.content == taken[0]


@on_both
def test_bulk_submits_that_use_the_same_keys_in_other_orders_do_not_block_each_other(web: Web, app: Flask) -> None:
    items = [{"input": number, "idempotency_key": f"key-{number}"} for number in range(30)]

    def bulk(rows: list[dict[str, object]]) -> Callable[[], TestResponse]:
        return lambda: app.test_client().post("/v1/operations/echo/jobs/bulk", json=rows)

    answers = at_once([bulk(items if number % 2 else items[::-1]) for number in range(6)])

    assert [answer.status_code for answer in answers] == [202] * 6
    ids = [{job["job"]["id"] for job in answer.get_json()["jobs"]} for answer in answers]
    assert ids == [ids[0]] * 6
    assert (web.count(), keys_of(web)) == (30, 30)
