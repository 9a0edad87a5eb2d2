"""Signatures as the verifier of Standard Webhooks wants them, and secrets that the database does not know."""

import base64
import os
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tidegate.webhooks.signing import Keyring, key_id_of, shown, sign

BODY = '{"type":"job.succeeded","data":{"note":"später"}}'.encode()


def headers(secrets: list[bytes], *, message_id: str = "m1", body: bytes = BODY) -> dict[str, str]:
    """As a receiver gets them."""
    now = int(time.time())
    signature = sign(message_id, now, body, secrets)
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}


def test_the_verifier_takes_what_was_signed() -> None:
    secret = os.urandom(32)
    assert Webhook(shown(secret)).verify(BODY, headers([secret]))["type"] == "job.succeeded"


def test_while_a_secret_is_rotated_both_verify() -> None:
    old, new = os.urandom(32), os.urandom(32)
    sent = headers([new, old])
    for secret in (old, new):
        Webhook(shown(secret)).verify(BODY, sent)
    assert len(sent["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("changed", ["body", "id", "secret"])
def test_anything_else_is_refused(changed: str) -> None:
    secret = os.urandom(32)
    sent = headers([secret])
    if changed == "id":
        sent["webhook-id"] = "m2"
    verifier = Webhook(shown(os.urandom(32) if changed == "secret" else secret))
    with pytest.raises(WebhookVerificationError):
        verifier.verify(BODY + b" " if changed == "body" else BODY, sent)


def test_a_secret_is_made_of_key_and_salt_alone() -> None:
    key, other, salt = os.urandom(32), os.urandom(32), os.urandom(32)
    secret = Keyring([key]).secret(key_id_of(key), salt)
    assert Keyring([other, key]).secret(key_id_of(key), salt) == secret
    assert Keyring([other]).secret(key_id_of(other), salt) != secret
    assert Keyring([key]).secret(key_id_of(key), os.urandom(32)) != secret
    assert len(base64.b64decode(shown(secret).removeprefix("whsec_"))) == 32


def test_a_key_that_is_not_there_makes_nothing() -> None:
    with pytest.raises(KeyError):
        Keyring([os.urandom(32)]).secret(key_id_of(os.urandom(32)), b"salt")
