"""A database as the first release left it: the schema of migration 0001 with rows in every table and every state.

It stands alone, so that it can be piped into a container: `python - < tests/support/first_release.py`. The columns are
written out, for models change and this does not.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from migrations.upgrade import upgrade
from tidegate.database.connection import Database

FIRST = "0001"
SECRET = "tg_of_the_first_release"
QUEUED, WAITING, SUCCEEDED, FAILED, EXPIRED, CANCELLED = (
    f"01890000-0000-7000-8000-00000000000{n}" for n in range(1, 7)
)
STATUSES = {QUEUED: 202, WAITING: 202, SUCCEEDED: 200, FAILED: 502, EXPIRED: 504, CANCELLED: 410}
INPUT, RESULT = b'{"sku": "A-100", "quantity": 3}', b'{"total": 954.84}'
KEY = b"first-release"

_UUIDS = {
    ("jobs", "id"),
    ("jobs", "retry_of"),
    ("bodies", "job_id"),
    ("attempts", "job_id"),
    ("idempotency_keys", "job_id"),
}
_SECOND = 1_000_000


def rows(operation: str, downstream: str) -> dict[str, list[dict[str, Any]]]:
    """What the tables hold, in an order that their foreign keys allow; two of the jobs are not final."""
    now = time.time_ns() // 1000
    job = {
        "client_id": "shop",
        "operation": operation,
        "downstream": downstream,
        "queue": "io",
        "created_at": now - 60 * _SECOND,
        "run_at": now - 60 * _SECOND,
        "deadline": now + 3600 * _SECOND,
        "max_attempts": 5,
    }
    ended = {
        "started_at": now - 50 * _SECOND,
        "finished_at": now - 40 * _SECOND,
        "fence": 1,
        "attempt": 1,
        "version": 3,
    }
    error = '{"code": "downstream_error", "message": "the downstream answered 400", "downstream_status": 400}'
    attempt = {
        "downstream": downstream,
        "queue": "io",
        "released_at": now - 51 * _SECOND,
        "slot_at": now - 50 * _SECOND,
        "claimed_at": now - 50 * _SECOND,
        "worker": "gone",
        "worker_pid": 7,
        "place_until": now - 40 * _SECOND,
    }
    return {
        "clients": [{"id": "shop", "name": "shop", "created_at": now - 90 * _SECOND}],
        "keys": [
            {
                "id": "01890000-0000-7000-8000-0000000000aa",
                "client_id": "shop",
                "name": "till",
                "hash": hashlib.sha256(SECRET.encode()).digest(),
                "role": "operator",
                "created_at": now - 90 * _SECOND,
            }
        ],
        "downstreams": [
            {
                "name": "forgotten",
                "rates": '["10/s"]',
                "burst": 1,
                "concurrency": 4,
                "breaker_after": 10,
                "declared": '{"rates": ["10/s"], "burst": 1, "concurrency": 4, "breaker_after": 10}',
                "pace": "{}",
            }
        ],
        "workers": [{"id": "gone", "queue": "io", "size": 8, "seen_until": now - 30 * _SECOND}],
        "jobs": [
            {**job, "id": QUEUED},
            {
                **job,
                "id": WAITING,
                "attempt": 1,
                "fence": 1,
                "waits_for": "retry",
                "percent": 40,
                "done": 2,
                "total": 5,
            },
            {**job, **ended, "id": SUCCEEDED, "state": "succeeded", "percent": 100},
            {**job, **ended, "id": FAILED, "state": "failed", "error": error},
            {
                **job,
                "id": EXPIRED,
                "state": "expired",
                "deadline": now - 45 * _SECOND,
                "finished_at": now - 45 * _SECOND,
            },
            {**job, "id": CANCELLED, "state": "cancelled", "cancel_requested": True, "finished_at": now - 45 * _SECOND},
        ],
        "bodies": [
            *(
                {"job_id": each, "kind": "input", "content_type": "application/json", "is_json": True, "content": INPUT}
                for each in STATUSES
            ),
            {
                "job_id": SUCCEEDED,
                "kind": "result",
                "content_type": "application/json",
                "is_json": True,
                "content": RESULT,
            },
        ],
        "attempts": [
            {**attempt, "job_id": WAITING, "fence": 1, "ended_at": now - 40 * _SECOND, "outcome": "error"},
            {**attempt, "job_id": SUCCEEDED, "fence": 1, "ended_at": now - 40 * _SECOND, "outcome": "succeeded"},
        ],
        "idempotency_keys": [
            {"client_id": "shop", "key": KEY.decode(), "fingerprint": hashlib.sha256(KEY).digest(), "job_id": SUCCEEDED}
        ],
    }


def table(name: str, columns: Sequence[str]) -> sa.TableClause:
    """A table by name, with what the first release knew of these columns."""
    return sa.table(
        name, *(sa.column(each, sa.Uuid(as_uuid=False) if (name, each) in _UUIDS else None) for each in columns)
    )


def insert(database: Database, content: dict[str, list[dict[str, Any]]]) -> None:
    """Writes the rows with statements that name the first release's columns and no others, as its code does."""
    with database.transaction() as connection:
        for name, each in content.items():
            for row in each:
                connection.execute(sa.insert(table(name, list(row))).values(row))


def make(url: str, *, operation: str, downstream: str) -> dict[str, list[dict[str, Any]]]:
    """Makes the schema of the first release in an empty database, and the rows, which it returns."""
    upgrade(url, FIRST)
    content = rows(operation, downstream)
    database = Database(url, pool_size=1)
    try:
        insert(database, content)
    finally:
        database.close()
    return content


if __name__ == "__main__":
    from config.settings import settings

    make(settings().database, operation="quote", downstream="sample")
