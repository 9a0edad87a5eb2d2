"""Signs what webhooks send, as Standard Webhooks asks (standardwebhooks.com, specification 1.0), and makes secrets.

A client's secret is not stored, sealed or otherwise: it is HMAC-SHA256 of random bytes that are, under a key that is
not in the database. Who reads the database, or a copy of it, can sign nothing.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence

SALT_BYTES = 32
KEY_BYTES = 32
_PREFIX = "whsec_"
_PURPOSE = b"tidegate webhook secret 1\0"


class Keyring:
    """The keys that secrets are made from. The first makes new ones; the others still know those that they made."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id_of(key): key for key in keys}
        self.newest = key_id_of(keys[0])

    @property
    def ids(self) -> frozenset[str]:
        """Of the keys that are there."""
        return frozenset(self._keys)

    def secret(self, key_id: str, salt: bytes) -> bytes:
        """The signing secret that this key made of this salt, 32 bytes. Raises KeyError for a key that is not there."""
        return hmac.digest(self._keys[key_id], _PURPOSE + salt, hashlib.sha256)


def key_id_of(key: bytes) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"tidegate key id\0" + key).hexdigest()[:16]


def shown(secret: bytes) -> str:
    """The secret as a client is told it, once: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(secret).decode()


def sign(message_id: str, timestamp: int, body: bytes, secrets: Iterable[bytes]) -> str:
    """The value of `webhook-signature`: one signature for each secret. `timestamp`: whole seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
