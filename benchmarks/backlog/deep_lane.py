"""A database with so many queued jobs in one lane, and the two things whose cost is measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection, event, text

from tidegate.database import Database
from tidegate.forecast import retry_after_seconds, waiting_of
from tidegate.gate import Gate
from tidegate.lanes import Lanes
from tidegate.models import IMPLICIT_CLIENT
from tidegate.operations import Limits
from tidegate.outcomes import Succeeded
from tidegate.store import Store

_LANE = "deep"
_WORKER = "io-1"
_LEASE = timedelta(hours=1)
# Job ids that say their number, so that any can be asked for.
_NUMBERS = {
    "postgresql": ("generate_series(1, :rows) AS numbers(i)", "CAST(lpad(to_hex(i), 32, '0') AS uuid)"),
    "sqlite": (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) SELECT i FROM n)",
        "printf('%032x', i)",
    ),
}
_ALONE = ("BEGIN", "ROLLBACK")
_INSERT = """
INSERT INTO jobs (id, client_id, operation, downstream, queue, created_at, run_at, deadline, max_attempts)
SELECT {id}, :client, 'call', :lane, 'io', :now + i, :now + i, :now + 360000000000, 5 FROM {numbers}
"""


class DeepLane:
    """One lane with a backlog. Each release is of one job, which is finished before the next."""

    def __init__(self, url: str, rows: int) -> None:
        self.database = Database(url)
        self.rows = rows
        self._store = Store(self.database)
        self._gate = Gate(self._store.lanes)
        # One place: the gate finds room for one job.
        self._store.limits.declare([Limits(name=_LANE, rates=("1000/s",), concurrency=1)])
        self._store.presence.seen(_WORKER, queue="io", size=1, until=_LEASE)
        self._fill()
        self.sample()

    def sample(self) -> float:
        """What the steward does once a second, and all that may cost more with a larger backlog; the seconds of it."""
        time.sleep(1)
        began = time.perf_counter()
        self._store.samples.take()
        return time.perf_counter() - began

    def release(self) -> str:
        """One turn of the gate, which releases one job; its id and fence."""
        released = self._gate.run_once().released
        assert len(released) == 1, released
        self._released = released[0]
        return self._released.job_id

    def finish(self) -> None:
        """What a worker does with the released job, so that its place is free again."""
        claim = self._store.workers.claim(
            self._released.job_id, self._released.fence, worker=_WORKER, pid=1, lease=_LEASE, attempt_timeouts={}
        )
        assert claim is not None
        result = Succeeded(content=b"{}", content_type="application/json", is_json=True)
        assert self._store.workers.succeed(claim, result, call_seconds=None)

    def poll(self) -> None:
        """What the API reads for one poll of a job in the middle of the backlog; its lanes are not read before."""
        job = self._store.callers.get(f"{self.rows // 2:032x}", IMPLICIT_CLIENT)
        assert job is not None
        view = Lanes(self._store).view(job.downstream)
        waiting = waiting_of(job, view)
        assert waiting is not None
        assert waiting.position, waiting
        retry_after_seconds(job, waiting, view)

    @contextmanager
    def buffers(self) -> Iterator[list[int]]:
        """Shared buffers, hit or read, that PostgreSQL touches for each statement executed within it.

        Each is explained, undone, and then really executed; of one with many sets of parameters the first counts.
        """
        touched: list[int] = []

        def explain(
            connection: Connection, cursor: Any, statement: str, parameters: Any, _: Any, executemany: bool
        ) -> None:
            begin, undo = ("SAVEPOINT before", "ROLLBACK TO before") if _in_transaction(connection) else _ALONE
            cursor.execute(begin)
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters[0] if executemany else parameters
            )
            plan = cursor.fetchone()[0][0]["Plan"]
            touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            cursor.execute(undo)

        event.listen(self.database.engine, "before_cursor_execute", explain)
        yield touched
        event.remove(self.database.engine, "before_cursor_execute", explain)

    def _fill(self) -> None:
        kind = "sqlite" if self.database.is_sqlite else "postgresql"
        numbers, job_id = _NUMBERS[kind]
        with self.database.writing() as connection:
            now = int(self._store.upkeep.now() * 1_000_000) - self.rows - 1_000_000
            connection.execute(
                text(_INSERT.format(id=job_id, numbers=numbers)),
                {"client": IMPLICIT_CLIENT, "lane": _LANE, "now": now, "rows": self.rows},
            )
        with self.database.single_write() as connection:
            for statement in ("ANALYZE",) if kind == "sqlite" else ("VACUUM (ANALYZE)", "CHECKPOINT"):
                connection.exec_driver_sql(statement)


def _in_transaction(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return not driver.autocommit
