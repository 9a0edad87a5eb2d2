"""Many rows at once, as the jobs of a long time leave them behind."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import BigInteger, select, text, type_coerce

from tests.support import postgresql, sqlite
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now

LANE = "deep"
# Job ids that say their number, so that any can be asked for.
_NUMBERS = {
    "postgresql": (
        "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS numbers(i)",
        "CAST(lpad(to_hex(i), 32, '0') AS uuid)",
    ),
    "sqlite": (
        "(WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) SELECT i FROM n)",
        "printf('%032x', i)",
    ),
}
_BYTES = {"postgresql": "convert_to('{}', 'UTF8')", "sqlite": "CAST('{}' AS BLOB)"}
_COLUMNS = "id, client_id, operation, downstream, queue, created_at, run_at, deadline, max_attempts"
_VALUES = "{id}, :client, 'call', :lane, 'io', :then + i, :then + i, :then + i + 360000000000, 5"
_QUEUED = f"INSERT INTO jobs ({_COLUMNS}) SELECT {_VALUES} FROM {{numbers}}"  # noqa: S608 - nothing from outside
_FINAL = f"""
INSERT INTO jobs ({_COLUMNS}, state, version, percent, fence, attempt, slot_at, started_at, finished_at)
SELECT {_VALUES}, 'succeeded', 3, 100, 1, 1, :then + i, :then + i, :then + i FROM {{numbers}}
"""  # noqa: S608 - nothing from outside
_BODIES = """
INSERT INTO bodies (job_id, kind, content_type, is_json, content)
SELECT {id}, '{kind}', 'application/json', true, {content} FROM {numbers}
"""
_ATTEMPTS = """
INSERT INTO attempts (job_id, fence, downstream, queue, released_at, slot_at, claimed_at, worker, worker_pid,
call_started_at, ends_at, place_until, ended_at, outcome)
SELECT {id}, 1, :lane, 'io', :then + i, :then + i, :then + i, 'gone', 1, :then + i, :then + i, :then + i, :then + i,
'succeeded' FROM {numbers}
"""


def job_id(number: int) -> str:
    """The final jobs have the first numbers, from 1 on; then come the queued ones."""
    return str(uuid.UUID(int=number))


def fill(database: Database, *, queued: int, final: int) -> None:
    """Queued jobs with their inputs; before them jobs that succeeded, with their inputs, results and attempts."""
    kind = "sqlite" if database.is_sqlite else "postgresql"
    numbers, number = _NUMBERS[kind]
    words = {"id": number, "numbers": numbers, "content": _BYTES[kind]}
    with database.transaction() as connection:
        now = connection.execute(select(type_coerce(database_now(), BigInteger))).scalar_one()
        # All of them lie in the past, a microsecond apart.
        values = {"client": IMPLICIT_CLIENT, "lane": LANE, "then": now - queued - final - 1_000_000}
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # no look for each foreign key
        parts = [
            (_FINAL, {}, 1, final),
            (_BODIES, {"kind": "input"}, 1, final),
            (_BODIES, {"kind": "result"}, 1, final),
            (_ATTEMPTS, {}, 1, final),
            (_QUEUED, {}, final + 1, final + queued),
            (_BODIES, {"kind": "input"}, final + 1, final + queued),
        ]
        for statement, further, first, last in parts:
            if first <= last:
                made = text(statement.format(**words, **further))
                wanted = {**values, "first": first, "last": last}
                connection.execute(made, {name: wanted[name] for name in made._bindparams})  # noqa: SLF001 - those it has
    for statement in ("ANALYZE",) if database.is_sqlite else ("VACUUM (ANALYZE)", "CHECKPOINT"):
        database.execute(text(statement))


@contextmanager
def fresh(database: str) -> Iterator[str]:
    """URL of an empty database of this kind, dropped afterwards."""
    if database == "postgresql":
        with postgresql.fresh_database() as url:
            yield url
    else:
        with tempfile.TemporaryDirectory(prefix="tidegate-benchmark-") as folder:
            yield sqlite.fresh_database(Path(folder))
