"""API keys: made, shown once, stored as a hash, checked, revoked; and tickets, which stand for one at one job."""

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import uuid_utils
from sqlalchemy import ColumnElement, func, insert, or_, select, update

from tidegate import clock
from tidegate.database import Database
from tidegate.database_time import database_now
from tidegate.models import clients, keys
from tidegate.tickets import Signer, Ticket

Name = TypeVar("Name", bytes, str)
"""A key's hash, or its id."""

_PREFIX = "tg_"
_FRESH_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


class Role(StrEnum):
    """What a key may do: its client's own jobs, or everything."""

    CLIENT = "client"
    OPERATOR = "operator"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who is asking. `signer` makes tickets in the name of the key; None where no key was needed."""

    client_id: str
    role: Role
    signer: Signer | None = None

    @property
    def scope(self) -> str | None:
        """Whose jobs the caller sees; None: everybody's."""
        return None if self.role is Role.OPERATOR else self.client_id


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it may be shown: everything but the secret, which nobody has."""

    id: str
    client: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyStore:
    """The keys in the database. A secret has 256 random bits, so that a plain SHA-256 of it can't be searched."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, client: str, *, name: str, role: Role, expires_in: timedelta | None = None) -> tuple[str, str]:
        """A new key for the client of this name, which is made if there is none. Returns (id, secret): nobody can
        show the secret again."""
        secret = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key_id = str(uuid_utils.uuid7())
        with self._database.writing() as connection:
            client_id = connection.execute(select(clients.c.id).where(clients.c.name == client)).scalar_one_or_none()
            if client_id is None:
                client_id = str(uuid_utils.uuid7())
                connection.execute(insert(clients).values(id=client_id, name=client, created_at=database_now()))
            connection.execute(
                insert(keys).values(
                    id=key_id,
                    client_id=client_id,
                    name=name,
                    hash=_hash(secret),
                    role=role,
                    created_at=database_now(),
                    expires_at=database_now(expires_in) if expires_in else None,
                )
            )
        return key_id, secret

    def list(self) -> Sequence[Key]:
        """Every key, newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(keys, clients.c.name.label("client"))
                .join(clients, clients.c.id == keys.c.client_id)
                .order_by(keys.c.created_at.desc())
            ).all()
        return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> bool:
        """Makes the key useless, within seconds everywhere. False: there is none, or it was revoked before."""
        with self._database.single_write() as connection:
            revoked = connection.execute(
                update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=database_now())
            )
        return revoked.rowcount == 1

    def count(self) -> int:
        """How many keys are good now."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(keys).where(_is_good())).scalar_one()

    def caller(self, digest: bytes) -> Caller | None:
        """Who has the good key of this hash."""
        caller = self._caller(keys.c.hash == digest)
        return caller if caller and caller.signer and hmac.compare_digest(caller.signer.secret, digest) else None

    def holder(self, key_id: str) -> Caller | None:
        """Who has the good key of this id."""
        return self._caller(keys.c.id == key_id)

    def _caller(self, which: ColumnElement[bool]) -> Caller | None:
        with self._database.reading() as connection:
            row = connection.execute(
                select(keys.c.id, keys.c.hash, keys.c.client_id, keys.c.role).where(which, _is_good())
            ).one_or_none()
        if row is None:
            return None
        # The hash is secret enough: who can read it can read every job.
        return Caller(client_id=row.client_id, role=Role(row.role), signer=Signer(key_id=row.id, secret=row.hash))


class Doorkeeper:
    """Knows who has which key, from the database at most every 2 s a key. Remembers hashes, never secrets."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._known: dict[bytes | str, tuple[float, Caller | None]] = {}
        self._lock = threading.Lock()

    def caller(self, secret: str) -> Caller | None:
        """Who has this key; None for one that is unknown, expired or revoked."""
        return self._remembered(_hash(secret), self._store.caller)

    def holder(self, text: str, job_id: str) -> Caller | None:
        """In whose name this ticket for the job was made; None unless it and its key are good."""
        return self._holder(text, lambda ticket, signer: ticket.is_good(signer, job_id))

    def visitor(self, text: str) -> Caller | None:
        """In whose name this session of the live page was begun; None unless it and its key are good."""
        return self._holder(text, Ticket.is_session)

    def _holder(self, text: str, is_good: Callable[[Ticket, Signer], bool]) -> Caller | None:
        ticket = Ticket.read(text)
        caller = self._remembered(ticket.key_id, self._store.holder) if ticket else None
        return caller if ticket and caller and caller.signer and is_good(ticket, caller.signer) else None

    def _remembered(self, name: Name, find: Callable[[Name], Caller | None]) -> Caller | None:
        with self._lock:
            at, caller = self._known.get(name, (float("-inf"), None))
        if clock.monotonic() - at <= _FRESH_SECONDS:
            return caller
        caller = find(name)
        with self._lock:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = clock.monotonic(), caller
        return caller


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _is_good() -> Any:
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
