"""Which job a client's idempotency key stands for. A key lives as long as its job's row, erased ones a while longer."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database.schema import idempotency_keys
from tidegate.database.time import statement_now


@dataclass(frozen=True)
class StoredKey:
    """What a key stands for; `job_id` None: its job was erased."""

    job_id: str | None
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True)
class KeyUse:
    """A key that a client wants to use for a new job."""

    client_id: str
    key: str
    fingerprint: bytes
    job_id: str


def find(connection: Connection, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoredKey]:
    """Those of the (client id, key) that were used."""
    columns = idempotency_keys.c
    rows = connection.execute(
        select(columns.client_id, columns.key, columns.job_id, columns.fingerprint).where(
            tuple_(columns.client_id, columns.key).in_(list(names))
        )
    )
    return {(row.client_id, row.key): StoredKey(row.job_id, row.fingerprint) for row in rows}


def use(connection: Connection, wanted: Iterable[KeyUse], *, is_sqlite: bool) -> dict[str, StoredKey]:
    """Takes each key for its job. Other requests that are taking one are waited for; where one was faster, what it
    took, by the id of the job that did not get it. Of jobs with the same key the first gets it."""
    insert: Any = sqlite_insert if is_sqlite else postgresql_insert
    statement = insert(idempotency_keys).on_conflict_do_nothing().returning(idempotency_keys.c.job_id)
    # Everybody takes them in the same order: else two batches could wait for each other.
    left: Sequence[KeyUse] = sorted(wanted, key=lambda use: (use.client_id, use.key))
    stored: dict[str, StoredKey] = {}
    while left:
        taken = set(connection.execute(statement, [asdict(use) for use in left]).scalars())
        late = [use for use in left if use.job_id not in taken]
        found = find(connection, {(use.client_id, use.key) for use in late}) if late else {}
        stored |= {use.job_id: found[use.client_id, use.key] for use in late if (use.client_id, use.key) in found}
        left = [use for use in late if use.job_id not in stored]  # pruned between the two looks: it is free again
    return stored


def prune(connection: Connection, job_ids: list[str]) -> None:
    """Forgets the keys of these jobs, and those that only said that a job was erased."""
    if job_ids:
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.job_id.in_(job_ids)))
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= statement_now()))
