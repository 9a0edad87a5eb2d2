"""Webhooks that were really sent, checked by the Python client; and what was not sent so."""

import base64
import hmac
import pickle
import time
from collections.abc import Mapping
from datetime import timedelta
from email.message import Message
from typing import Any

import pytest
from werkzeug.datastructures import EnvironHeaders

from tests.support.http_server import HttpServer, Received
from tests.support.jobs import submit
from tests.support.webhooks import ended_job, secrets_of, send_due, to
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.stores import Store
from tidegate_client import InvalidWebhook, State, verify_webhook

BODY = b'{"type":"job.succeeded"}'


def cancelled_job(store: Store, url: str) -> None:
    """A job that has ended and is told there."""
    store.callers.cancel(submit(store, webhook=to(url)), IMPLICIT_CLIENT)


@pytest.fixture
def received(store: Store, receiver: HttpServer, secret: str) -> Received:
    """A webhook as it arrived; there is a secret that signs it."""
    cancelled_job(store, receiver.url)
    assert send_due(store) == 1
    return receiver.received[0]


def signed_at(secret: str, timestamp: str, body: bytes = BODY) -> Mapping[str, str]:
    """Headers with a good signature."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"m1.{timestamp}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": "m1", "webhook-timestamp": timestamp, "webhook-signature": signature}


def test_what_the_gateway_sends_is_a_typed_event(received: Received, secret: str) -> None:
    event = verify_webhook(received.headers, received.body, secret)
    assert (event.kind, event.id) == ("job.cancelled", event.job.id)
    assert event.job.state is State.CANCELLED
    assert event.job.error
    assert event.job.error.code == "cancelled"
    assert event.at == event.job.finished_at
    assert (event.result, event.result_problem) == (None, None)


def test_a_result_comes_along(store: Store, receiver: HttpServer, secret: str) -> None:
    ended_job(store, receiver.url, content=b'{"total": 954.84}')
    send_due(store)
    event = verify_webhook(receiver.received[0].headers, receiver.received[0].body, secret)
    assert (event.kind, event.result) == ("job.succeeded", {"total": 954.84})


def test_headers_may_be_of_any_framework(received: Received, secret: str) -> None:
    message = Message()
    for name, value in received.headers.items():
        message[name.title()] = value
    of_flask = EnvironHeaders(
        {f"HTTP_{name.upper().replace('-', '_')}": each for name, each in received.headers.items()}
    )
    for headers in (message, of_flask, {name.upper(): value for name, value in received.headers.items()}):
        assert verify_webhook(headers, received.body, secret).kind == "job.cancelled"


def test_while_a_secret_is_rotated_either_will_do(store: Store, receiver: HttpServer, secret: str) -> None:
    newer = secrets_of(store).rotate(IMPLICIT_CLIENT, overlap=timedelta(days=1))[1]
    cancelled_job(store, receiver.url)
    send_due(store)
    (both,) = receiver.received
    assert len(both.headers["webhook-signature"].split()) == 2
    stranger = "whsec_" + base64.b64encode(b"s" * 32).decode()
    for secrets in (secret, newer, [stranger, newer], (secret, stranger), iter([stranger, secret])):
        assert verify_webhook(both.headers, both.body, secrets)
    with pytest.raises(InvalidWebhook, match="another secret"):
        verify_webhook(both.headers, both.body, [stranger, "whsec_" + base64.b64encode(b"t" * 32).decode()])


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize(
    "value", [None, "", "x", "1", "v1,", "v1", "v2,abc", "v1,é", "\udcff", "1e3", "-5", "٣", "1" * 400]
)
def test_a_header_that_was_changed_is_refused(received: Received, secret: str, name: str, value: str | None) -> None:
    changed = {**received.headers, **({name: value} if value is not None else {})}
    if value is None:
        del changed[name]
    with pytest.raises(InvalidWebhook):
        verify_webhook(changed, received.body, secret)


def test_a_body_that_was_changed_is_refused(received: Received, secret: str) -> None:
    for body in (received.body + b" ", received.body[:-1], b"", received.body.replace(b"cancelled", b"succeeded")):
        with pytest.raises(InvalidWebhook, match="signature") as invalid:
            verify_webhook(received.headers, body, secret)
    assert isinstance(invalid.value, ValueError)
    assert str(pickle.loads(pickle.dumps(invalid.value))) == str(invalid.value)  # noqa: S301 - made here
    with pytest.raises(TypeError, match="bytes that arrived"):
        verify_webhook(received.headers, received.body.decode(), secret)  # type: ignore[arg-type]  # as many would


@pytest.mark.parametrize(("seconds", "tolerance", "is_good"), [
    (0, 300, True), (-290, 300, True), (290, 300, True), (-310, 300, False), (310, 300, False),
    (-310, 400, True), (-20, 10, False), (-86_400 * 400, 300, False),
])  # fmt: skip
def test_an_old_one_is_refused_and_so_is_one_of_later(
    received: Received, secret: str, seconds: int, tolerance: float, is_good: bool
) -> None:
    headers = signed_at(secret, str(int(time.time()) + seconds), received.body)
    if is_good:
        assert verify_webhook(headers, received.body, secret, tolerance=tolerance).kind == "job.cancelled"
    else:
        with pytest.raises(InvalidWebhook, match="ago" if seconds < 0 else "from now"):
            verify_webhook(headers, received.body, secret, tolerance=tolerance)


@pytest.mark.parametrize("timestamp", ["1e9", "-5", "٣", "1" * 400, "1.5", "nan", " 1"])
def test_a_signed_timestamp_that_is_no_number_is_refused(secret: str, timestamp: str) -> None:
    with pytest.raises(InvalidWebhook, match="no number of seconds"):
        verify_webhook(signed_at(secret, timestamp), BODY, secret)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", BODY, b'{"type":"a","timestamp":"b","data":{}}'])
def test_what_is_signed_and_no_event_is_refused_too(secret: str, body: bytes) -> None:
    headers = signed_at(secret, str(int(time.time())), body)
    with pytest.raises(InvalidWebhook, match="tells no end of a job"):
        verify_webhook(headers, body, secret)


@pytest.mark.parametrize("wrong", ["", "whsec_", "whsec_no base64!", "whsec_a", "   ", []])
def test_what_is_no_secret_is_the_callers_fault_and_is_not_repeated(received: Received, wrong: Any) -> None:
    with pytest.raises(ValueError, match="secret") as error:
        verify_webhook(received.headers, received.body, wrong)
    assert not isinstance(error.value, InvalidWebhook)
    assert "no base64" not in str(error.value)


def test_a_secret_may_come_from_a_file_with_a_line_end(received: Received, secret: str) -> None:
    for written in (f"{secret}\n", secret.removeprefix("whsec_"), secret.rstrip("=")):
        assert verify_webhook(received.headers, received.body, written)
