"""Statements on API keys: create, list, revoke, look up. Only a hash of the secret is stored."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, func, insert, or_, select, update

from tidegate.access.keys import Caller, Key, Role, digest_of, new_secret
from tidegate.database.connection import Database
from tidegate.database.schema import clients, keys
from tidegate.database.statement import required
from tidegate.database.time import database_now


class KeyStore:
    """Statements on API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, client: str, *, name: str, role: Role, expires_in: timedelta | None = None, names_shared: bool = False
    ) -> tuple[str, str]:
        """Creates a key for the client of this name, and the client if there is none. Returns (id, secret).

        Nobody can show the secret again. `names_shared`: what its submits name are partitions of all clients.
        """
        secret = new_secret()
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
                    names_shared=names_shared,
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
        columns = (keys.c.id, keys.c.client_id, keys.c.role, keys.c.names_shared)
        row = self._database.fetch_one(select(*columns).where(which, is_good()))
        if row is None:
            return None
        return Caller(client_id=row.client_id, role=Role(row.role), key_id=row.id, names_shared=bool(row.names_shared))


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
        names_shared=bool(row.names_shared),
    )
