"""One delivery after the other: what goes over the wire, and what is recorded of it."""

import json
import socket
import threading
import time
from datetime import timedelta

import pytest

from tests.support.http_server import HttpServer, drip, respond, serving
from tests.support.jobs import open_lane, running, submit
from tests.support.webhooks import (
    attempts_at,
    change_delivery,
    delivery_of,
    ended_job,
    make_due,
    make_secret,
    receivers_of,
    secrets_of,
    send_due,
    to,
    verified,
)
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now
from tidegate.stores import Store

LONG_AGO = timedelta(hours=25)


def test_it_is_signed_and_carries_the_jobs_document(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, f"{receiver.url}/hook?token=t")
    assert send_due(store) == 1
    (received,) = receiver.received
    payload = verified(received, secret)
    assert received.line == "POST /hook?token=t HTTP/1.1"
    assert received.headers["webhook-id"] == job_id
    assert received.headers["host"] == receiver.url.removeprefix("http://")
    assert received.headers["content-type"] == "application/json"
    assert payload["type"] == "job.succeeded"
    job = payload["data"]
    assert (job["id"], job["state"], job["result"], job["progress"]["percent"]) == (
        job_id,
        "succeeded",
        {"sum": 3},
        100,
    )
    assert job["links"]["self"] == f"https://gateway.example/v1/jobs/{job_id}"
    assert payload["timestamp"] == job["finished_at"]
    assert delivery_of(store, job_id).state == "delivered"
    (attempt,) = attempts_at(store, job_id)
    assert (attempt.number, attempt.status, attempt.error) == (1, 200, None)
    assert 0 <= attempt.seconds < 15
    assert send_due(store) == 0, "once"


@pytest.mark.parametrize(("end", "code"), [("failed", "operation_error"), ("cancelled", "cancelled")])
def test_an_end_without_a_result_is_told_too(
    store: Store, receiver: HttpServer, secret: str, end: str, code: str
) -> None:
    open_lane(store)
    if end == "failed":
        claimed = running(store, webhook=to(receiver.url))
        store.workers.fail(claimed, {"code": code, "message": "no"}, call_seconds=None)
    else:
        store.callers.cancel(submit(store, webhook=to(receiver.url)), IMPLICIT_CLIENT)
    send_due(store)
    payload = verified(receiver.received[0], secret)
    assert (payload["type"], payload["data"]["error"]["code"], payload["data"]["result"]) == (f"job.{end}", code, None)


def test_while_a_secret_is_rotated_both_verify_and_an_ended_one_does_not(store: Store, receiver: HttpServer) -> None:
    first, second, third = (make_secret(store) for _ in range(3))
    ended_job(store, receiver.url)
    send_due(store)
    for secret in (second, third):
        verified(receiver.received[0], secret)
    with pytest.raises(Exception, match="No matching signature"):
        verified(receiver.received[0], first)
    newest = secrets_of(store).all_of(IMPLICIT_CLIENT)[0]
    assert secrets_of(store).end(newest.id, IMPLICIT_CLIENT)
    ended_job(store, receiver.url)
    send_due(store)
    verified(receiver.received[1], second)
    with pytest.raises(Exception, match="No matching signature"):
        verified(receiver.received[1], third)


def test_without_a_secret_nothing_is_sent_and_it_goes_on_when_there_is_one(store: Store, receiver: HttpServer) -> None:
    job_id = ended_job(store, receiver.url)
    send_due(store)
    assert receiver.received == []
    assert "no secret" in attempts_at(store, job_id)[0].error
    assert receivers_of(store) == {}, "which says nothing of the receiver"
    secret = make_secret(store)
    make_due(store, job_id)
    send_due(store)
    verified(receiver.received[0], secret)


def test_every_attempt_sends_the_same_bytes_under_the_same_id(store: Store, receiver: HttpServer, secret: str) -> None:
    receiver.answer = respond(500)
    job_id = ended_job(store, receiver.url)
    send_due(store)
    make_due(store, job_id)
    receiver.answer = respond(204)
    send_due(store)
    first, second = receiver.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    verified(second, secret)
    assert [(each.number, each.status) for each in attempts_at(store, job_id)] == [(1, 500), (2, 204)]
    assert delivery_of(store, job_id).state == "delivered"


@pytest.mark.parametrize("status", [301, 307, 400, 404, 429, 500, 503])
def test_any_other_answer_is_tried_again_later(store: Store, receiver: HttpServer, secret: str, status: int) -> None:
    with serving() as elsewhere:
        receiver.answer = respond(status, Location=elsewhere.url)
        job_id = ended_job(store, receiver.url)
        send_due(store)
        assert elsewhere.received == [], "redirects are not followed"
    delivery = delivery_of(store, job_id)
    assert (delivery.state, delivery.lease_until) == ("pending", None)
    waits = (delivery.run_at - attempts_at(store, job_id)[0].started_at).total_seconds()
    assert 3 <= waits <= 30
    assert send_due(store) == 0


def test_410_is_the_end(store: Store, receiver: HttpServer, secret: str) -> None:
    receiver.answer = respond(410)
    job_id = ended_job(store, receiver.url)
    send_due(store)
    assert delivery_of(store, job_id).state == "failed"


def test_after_a_day_it_is_given_up(store: Store, receiver: HttpServer, secret: str) -> None:
    receiver.answer = respond(500)
    job_id = ended_job(store, receiver.url)
    change_delivery(store, job_id, began_at=database_now(-LONG_AGO))
    send_due(store)
    delivery = delivery_of(store, job_id)
    assert (delivery.state, delivery.run_at) == ("failed", None)
    assert delivery.ended_at is not None


def test_a_dripping_receiver_is_cut_off_at_the_deadline(store: Store, receiver: HttpServer, secret: str) -> None:
    stopped = threading.Event()
    receiver.answer = drip(b"HTTP/1.1 200 OK\r\nX-Drip: ", stopped)
    job_id = ended_job(store, receiver.url)
    began = time.monotonic()
    send_due(store, timeout=0.5)
    stopped.set()
    assert time.monotonic() - began < 10
    (attempt,) = attempts_at(store, job_id)
    assert (attempt.status, attempt.error) == (None, "no answer in time")
    known = receivers_of(store)[f"{IMPLICIT_CLIENT} 127.0.0.1"]
    assert known.failures == 1
    assert known.rests_until is not None


@pytest.mark.parametrize("head", [b"", b"Content-Length: 1000000000\r\n"])
def test_an_answer_whose_body_never_ends_counts_by_its_status(
    store: Store, receiver: HttpServer, secret: str, head: bytes
) -> None:
    stopped = threading.Event()
    receiver.answer = drip(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", stopped, drop=b"x" * 10_000)
    job_id = ended_job(store, receiver.url)
    send_due(store)
    stopped.set()
    assert delivery_of(store, job_id).state == "delivered"


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000, b"\xff" * 100]
)
def test_nonsense_for_an_answer_is_a_failed_attempt(
    store: Store, receiver: HttpServer, secret: str, answer: bytes
) -> None:
    def cut_off(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    receiver.answer = cut_off
    job_id = ended_job(store, f"{receiver.url}/a?secret=hunter2")
    send_due(store)
    (attempt,) = attempts_at(store, job_id)
    assert attempt.status is None
    assert attempt.error
    assert "hunter2" not in attempt.error
    assert delivery_of(store, job_id).state == "pending"


def test_nobody_there_is_a_failed_attempt(store: Store, secret: str) -> None:
    with serving() as gone:
        url = gone.url
    job_id = ended_job(store, url)
    send_due(store)
    assert "refused" in attempts_at(store, job_id)[0].error


@pytest.mark.parametrize(("size", "told"), [(256 * 1024 - 2, True), (256 * 1024 - 1, False)])
def test_a_large_result_is_left_out_and_linked(
    store: Store, receiver: HttpServer, secret: str, size: int, told: bool
) -> None:
    ended_job(store, receiver.url, content=b'"' + b"x" * size + b'"')
    send_due(store)
    job = verified(receiver.received[0], secret)["data"]
    assert (job["result"] is not None) is told
    assert ("too long" in job.get("result_problem", "")) is not told
    assert job["result_content_type"] == "application/json"
    assert job["links"]["result"]


def test_a_result_that_is_not_json_is_linked(store: Store, receiver: HttpServer, secret: str) -> None:
    ended_job(store, receiver.url, content=b"a,b", is_json=False)
    send_due(store)
    job = verified(receiver.received[0], secret)["data"]
    assert (job["result"], job["result_content_type"]) == (None, "text/csv")


def test_the_payload_is_one_line_of_json_in_utf_8(store: Store, receiver: HttpServer, secret: str) -> None:
    ended_job(store, receiver.url, content='{"note":"später ☂"}'.encode())
    send_due(store)
    body = receiver.received[0].body
    assert "später ☂".encode() in body
    assert json.loads(body)["data"]["result"] == {"note": "später ☂"}
