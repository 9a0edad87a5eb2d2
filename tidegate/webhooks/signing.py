"""Signs webhooks as Standard Webhooks asks (standardwebhooks.com, specification 1.0), and derives signing secrets.

A client's secret is not stored, sealed or otherwise: it is HMAC-SHA256 of random bytes that are, under a key that is
not in the database. Who reads the database, or a copy of it, can sign nothing.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

SALT_BYTES = 32
KEY_BYTES = 32
_PREFIX = "whsec_"
_PURPOSE = b"tidegate webhook secret 1\0"


@dataclass(frozen=True, kw_only=True)
class WebhookSecret:
    """A signing secret without its text. `signs_until` None: until it is rotated or ended."""

    id: str
    client_id: str
    created_at: datetime
    signs_until: datetime | None


class Keyring:
    """The keys that signing secrets are derived from. The first makes new ones; the others still derive old ones."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id_of(key): key for key in keys}
        self.newest = key_id_of(keys[0])

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the keys in the ring."""
        return frozenset(self._keys)

    def secret(self, key_id: str, salt: bytes) -> bytes:
        """Derives the signing secret of this key and salt, 32 bytes. Raises KeyError for a key that is not there."""
        return hmac.digest(self._keys[key_id], _PURPOSE + salt, hashlib.sha256)


def key_id_of(key: bytes) -> str:
    """The id of a key: part of its hash, which does not tell the key."""
    return hashlib.sha256(b"tidegate key id\0" + key).hexdigest()[:16]


def shown(secret: bytes) -> str:
    """The text of a secret for its client, shown once: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(secret).decode()


def sign(message_id: str, timestamp: int, body: bytes, secrets: Iterable[bytes]) -> str:
    """Signs a webhook: returns the value of `webhook-signature`, one signature for each secret.

    `timestamp`: whole seconds since 1970.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
