"""Idempotency keys: which job a client's key stands for. A key lives as long as its job, of an erased job longer."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database.schema import idempotency_keys
from tidegate.database.time import statement_now
from tidegate.intake.submission import KeyUse, StoredKey


def stored(names: Iterable[tuple[str, str]]) -> Select[Any]:
    """SELECT of the stored keys among these (client id, key)."""
    columns = idempotency_keys.c
    return select(columns.client_id, columns.key, columns.job_id, columns.fingerprint).where(
        tuple_(columns.client_id, columns.key).in_(list(names))
    )


def by_name(rows: Iterable[Row[Any]]) -> dict[tuple[str, str], StoredKey]:
    """What was `stored`, by client id and key."""
    return {(row.client_id, row.key): StoredKey(row.job_id, row.fingerprint) for row in rows}


def use(connection: Connection, wanted: Iterable[KeyUse], *, is_sqlite: bool) -> dict[str, StoredKey]:
    """Inserts each key for its job (ON CONFLICT DO NOTHING); returns the stored keys of the jobs that came too late.

    Waits for other requests that insert the same keys. The answer is by the id of the job that did not get its key. Of
    jobs with the same key the first gets it.
    """
    insert: Any = sqlite_insert if is_sqlite else postgresql_insert
    statement = insert(idempotency_keys).on_conflict_do_nothing().returning(idempotency_keys.c.job_id)
    # Sorted: two bulk submits that insert the same keys in different orders would deadlock.
    left: Sequence[KeyUse] = sorted(wanted, key=lambda use: (use.client_id, use.key))
    others: dict[str, StoredKey] = {}
    while left:
        taken = set(connection.execute(statement, [asdict(use) for use in left]).scalars())
        late = [use for use in left if use.job_id not in taken]
        found = by_name(connection.execute(stored({(use.client_id, use.key) for use in late}))) if late else {}
        others |= {use.job_id: found[use.client_id, use.key] for use in late if (use.client_id, use.key) in found}
        left = [use for use in late if use.job_id not in others]  # deleted between INSERT and SELECT: it is free again
    return others


def prune(connection: Connection, job_ids: list[str]) -> None:
    """Deletes the keys of these jobs, and those of erased jobs whose time is over."""
    if job_ids:
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.job_id.in_(job_ids)))
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at <= statement_now()))
