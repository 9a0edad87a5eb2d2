"""API keys: their roles, the caller that a key stands for, new secrets and their hash, which alone is stored."""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tidegate.access.tickets import Signer

_PREFIX = "tg_"


class Role(StrEnum):
    """The role of a key: its client's own jobs, everything, or GET /metrics and nothing else."""

    CLIENT = "client"
    OPERATOR = "operator"
    METRICS = "metrics"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The authenticated caller of a request.

    `signer` makes tickets in the name of the key; it and `key_id` are None where no key was needed. `names_shared`: the
    partitions that it names are shared with other clients, and not its own.
    """

    client_id: str
    role: Role
    key_id: str | None = None
    signer: Signer | None = None
    names_shared: bool = False

    @property
    def scope(self) -> str | None:
        """The client whose jobs the caller may see; None: every client's."""
        return None if self.role is Role.OPERATOR else self.client_id


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it may be shown: everything but the secret, which is not stored.

    `names_shared`: submits with it name partitions that are shared with other clients.
    """

    id: str
    client: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    names_shared: bool = False


def new_secret() -> str:
    """Makes the secret of a new key: 256 random bits, so that a plain SHA-256 of it can't be searched."""
    return _PREFIX + random_text()


def random_text() -> str:
    """256 random bits as base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def digest_of(secret: str) -> bytes:
    """The SHA-256 that is stored of a key or session. With 256 random bits it needs no salt."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
