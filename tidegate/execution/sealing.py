"""Seals what is kept in the database (AES-256-GCM) by keys that are not there: a copy of it is of no use alone."""

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Sealer:
    """Seals by the first key of 32 bytes, and opens what any of them has sealed."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, text: str, name: bytes) -> bytes:
        """Seals a text for the row of this name: in another one it can't be opened."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, text.encode(), name)

    def open(self, sealed: bytes, name: bytes) -> str | None:
        """The text; None: no key that is here has sealed it, or it was changed since."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name).decode()
            except (InvalidTag, ValueError):
                continue
        return None
