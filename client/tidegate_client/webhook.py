"""Checks what arrives as a webhook: that the gateway has sent it, and lately."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidegate_client import clock
from tidegate_client.errors import InvalidWebhook
from tidegate_client.snapshot import Snapshot

_PREFIX = "whsec_"
_LONGEST_TIMESTAMP = 12


class Headers(Protocol):
    """The headers of a request, as every web framework and `http.server` have them."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""


@dataclass(frozen=True, kw_only=True)
class WebhookEvent:
    """How a job ended. The same event may arrive more than once, each time with the same `id`, which is the job's.

    `kind`: "job.succeeded", "job.failed", "job.expired" or "job.cancelled". `at`: when it ended. `result`: of a job
    that succeeded, when that is JSON; `result_problem` says why it is left out, `client.job(event.id).result()` has it.
    """

    id: str
    kind: str
    at: datetime
    job: Snapshot
    result: Any
    result_problem: str | None


def verify_webhook(
    headers: Headers, body: bytes, secret: str | Iterable[str], *, tolerance: float = 300.0
) -> WebhookEvent:
    """Checks signature and age of a webhook, and returns what it tells.

    `body`: the bytes that arrived, and not JSON made of them. `secret`: `whsec_…`, or several while one is being
    rotated, of which any will do. `tolerance`: seconds that it may be old, or new by a clock that is ahead; an older
    one may be somebody's replay. Raises InvalidWebhook, to be answered with 400.
    """
    if not isinstance(body, bytes):
        raise TypeError(f"body has to be the bytes that arrived, not {type(body).__name__}")
    keys = [_key(each) for each in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("there is no secret to check the webhook with")
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not given.get(name)]
    if missing:
        raise InvalidWebhook(f"it has no header {missing[0]}")
    message_id, timestamp = given["webhook-id"], given["webhook-timestamp"]
    if not _is_signed(f"{message_id}.{timestamp}.".encode(errors="replace") + body, given["webhook-signature"], keys):
        raise InvalidWebhook("its signature is of another secret, or it was changed on its way")
    _check_age(timestamp, tolerance)
    return _event_of(message_id, body)


def _key(secret: str) -> bytes:
    """The bytes of a secret; an error does not tell them."""
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"a webhook secret is {_PREFIX} and base64, as the gateway showed it")
    return key


def _is_signed(signed: bytes, signatures: str, keys: list[bytes]) -> bool:
    """Whether one of the signatures is by one of the keys. How long it takes does not tell how much of one is right."""
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    given = [each.encode(errors="replace") for each in signatures.split()]
    return any([hmac.compare_digest(ours, theirs) for ours in expected for theirs in given])  # noqa: C419 - all of them


def _check_age(timestamp: str, tolerance: float) -> None:
    """Raises InvalidWebhook."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        raise InvalidWebhook("its timestamp is no number of seconds")
    age = clock.now().timestamp() - int(timestamp)
    if abs(age) > tolerance:
        raise InvalidWebhook(
            f"it is of {abs(age):.0f} s {'ago' if age > 0 else 'from now'}: a replay, or a wrong clock"
        )


def _event_of(message_id: str, body: bytes) -> WebhookEvent:
    try:
        event = json.loads(body)
        document = event["data"]
        return WebhookEvent(
            id=message_id,
            kind=event["type"],
            at=datetime.fromisoformat(event["timestamp"]),
            job=Snapshot.of(document),
            result=document["result"],
            result_problem=document.get("result_problem"),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InvalidWebhook("it is signed, and tells no end of a job as this client knows it") from None
