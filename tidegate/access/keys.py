"""API keys: create, list, revoke, look up. Only a hash of the secret is stored."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, func, insert, or_, select, update

from tidegate.access.tickets import Signer
from tidegate.database.connection import Database
from tidegate.database.schema import clients, keys
from tidegate.database.statement import required
from tidegate.database.time import database_now

_PREFIX = "tg_"


class Role(StrEnum):
    """The role of a key: its client's own jobs, everything, or GET /metrics and nothing else."""

    CLIENT = "client"
    OPERATOR = "operator"
    METRICS = "metrics"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The authenticated caller of a request.

    `signer` makes tickets in the name of the key; it and `key_id` are None where no key was needed.
    """

    client_id: str
    role: Role
    key_id: str | None = None
    signer: Signer | None = None

    @property
    def scope(self) -> str | None:
        """The client whose jobs the caller may see; None: every client's."""
        return None if self.role is Role.OPERATOR else self.client_id


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it may be shown: everything but the secret, which is not stored."""

    id: str
    client: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyStore:
    """Statements on API keys. A secret has 256 random bits, so a plain SHA-256 of it can't be searched."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, client: str, *, name: str, role: Role, expires_in: timedelta | None = None) -> tuple[str, str]:
        """Creates a key for the client of this name, and the client if there is none. Returns (id, secret).

        Nobody can show the secret again.
        """
        secret = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key_id = str(uuid_utils.uuid7())
        with self._database.transaction() as connection:
            client_id = connection.execute(select(clients.c.id).where(clients.c.name == client)).scalar_one_or_none()
            if client_id is None:
                client_id = str(uuid_utils.uuid7())
                connection.execute(insert(clients).values(id=client_id, name=client, created_at=database_now()))
            connection.execute(
                insert(keys).values(
                    id=key_id,
                    client_id=client_id,
                    name=name,
                    hash=digest_of(secret),
                    role=role,
                    created_at=database_now(),
                    expires_at=database_now(expires_in) if expires_in else None,
                )
            )
        return key_id, secret

    def list(self) -> Sequence[Key]:
        """Every key, newest first."""
        rows = self._database.fetch_all(
            select(keys, clients.c.name.label("client"))
            .join(clients, clients.c.id == keys.c.client_id)
            .order_by(keys.c.created_at.desc())
        )
        return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> bool:
        """Revokes the key, within seconds everywhere. False: there is none, or it was revoked before."""
        revoked = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        return self._database.execute(revoked.values(revoked_at=database_now())) == 1

    def count(self) -> int:
        """The number of keys that are neither revoked nor expired."""
        counted = self._database.fetch_one(select(func.count()).select_from(keys).where(is_good()))
        return required(counted)[0]

    def caller(self, digest: bytes) -> Caller | None:
        """The caller whose good key has this hash; None: there is none."""
        return self._caller(keys.c.hash == digest)

    def holder(self, key_id: str) -> Caller | None:
        """The caller whose good key has this id; None: there is none."""
        return self._caller(keys.c.id == key_id)

    def _caller(self, which: ColumnElement[bool]) -> Caller | None:
        row = self._database.fetch_one(select(keys.c.id, keys.c.client_id, keys.c.role).where(which, is_good()))
        return Caller(client_id=row.client_id, role=Role(row.role), key_id=row.id) if row else None


def digest_of(secret: str) -> bytes:
    """The SHA-256 that is stored of a key or session. With 256 random bits it needs no salt."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def is_good() -> Any:
    """Condition: the key is neither revoked nor expired."""
    return keys.c.revoked_at.is_(None) & or_(keys.c.expires_at.is_(None), keys.c.expires_at > database_now())


def _key(row: Any) -> Key:
    return Key(
        id=row.id,
        client=row.client,
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
