"""Which job a client's idempotency key stands for. A key lives as long as its job's row, erased ones a while longer."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database import database_now
from tidegate.models import idempotency_keys


@dataclass(frozen=True)
class StoredKey:
    """What a key stands for; `job_id` None: its job was erased."""

    job_id: str | None
    fingerprint: bytes


def find(connection: Connection, client_id: str, key: str) -> StoredKey | None:
    """The key, if the client has used it."""
    row = connection.execute(
        select(idempotency_keys.c.job_id, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.client_id == client_id, idempotency_keys.c.key == key
        )
    ).one_or_none()
    return StoredKey(row.job_id, row.fingerprint) if row else None


def use(
    connection: Connection, *, client_id: str, key: str, fingerprint: bytes | None, job_id: str, is_sqlite: bool
) -> StoredKey | None:
    """Takes the key for this job. Another request that is taking it is waited for; if it was faster, what it took."""
    insert: Any = sqlite_insert if is_sqlite else postgresql_insert
    taken = connection.execute(
        insert(idempotency_keys)
        .values(client_id=client_id, key=key, fingerprint=fingerprint, job_id=job_id)
        .on_conflict_do_nothing()
    )
    return None if taken.rowcount == 1 else find(connection, client_id, key)


def job_erased(connection: Connection, job_id: str, keep: timedelta) -> None:
    """The job is erased by its client: the key stays for a while and says so."""
    connection.execute(
        update(idempotency_keys)
        .where(idempotency_keys.c.job_id == job_id)
        .values(job_id=None, expires_at=database_now(keep))
    )


def prune(connection: Connection, job_ids: list[str]) -> None:
    """Forgets the keys of these jobs, and those that only said that a job was erased."""
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.job_id.in_(job_ids)))
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= database_now()))
