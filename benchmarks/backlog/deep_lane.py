"""A database with so many rows, and the things whose cost with few and with many is measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import event

from benchmarks.backlog.rows import LANE, fill, job_id
from tests.support.present import present
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.dispatch.forecast import retry_after_seconds, waiting_of
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.partitions.cache import PartitionCache
from tidegate.gateway import Gateway
from tidegate.intake.admission import Admission
from tidegate.intake.submission import Submission
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.limits import Limits
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from tidegate.operations.registry import Registry
from tidegate.stores import Store
from tidegate.webhooks.checks import WebhookChecks
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore

_WORKER = "io-1"
_LEASE = timedelta(hours=1)
_ALONE = ("BEGIN", "ROLLBACK")
# Between the final jobs that are asked for one after the other: each lies on another page.
_STRIDE = 7919


@operation(queue=Queue.IO, timeout="6h", downstream=LANE)
def call(body: Body) -> Body:
    """Only submitted, never run."""
    return body


class DeepLane:
    """One lane with a backlog, and final jobs. Each release is of one job, which is finished before the next."""

    def __init__(self, url: str, queued: int, *, final: int = 0) -> None:
        self.database = Database(url)
        self.queued = queued
        self._final = final
        self._asked = 0
        self._store = Store(self.database)
        self._gate = Gate(self._store.lanes)
        # One place: the gate finds room for one job.
        self._store.limits.declare([Limits(name=LANE, rates=("1000/s",), concurrency=1)])
        self._store.heartbeats.beat(_WORKER, queue="io", size=1, until=_LEASE)
        fill(self.database, queued=queued, final=final)
        self.sample()

    def sample(self) -> float:
        """What the scheduler does once a second, all that may cost more with a larger backlog; the seconds of it."""
        time.sleep(1)
        began = time.perf_counter()
        self._store.samples.sample()
        return time.perf_counter() - began

    def submit(self) -> None:
        """What the API does for one submit; its lanes are not read before."""
        lanes = LaneCache(self._store)
        admission = Admission(lanes=lanes, partitions=PartitionCache(self._store, {}), max_backlog=10 * self.queued)
        store, door = self._store, WebhookChecks(Egress(()), SecretStore(self.database, _no_keyring))
        gateway = Gateway(
            store.callers,
            store.submissions,
            Registry.of([call]),
            lanes,
            admission,
            SilentNotifier(),
            store.deliveries,
            door,
        )
        gateway.submit(Submission(operation=call.name, body=Body(content=b"{}"), client_id=IMPLICIT_CLIENT))

    def run(self) -> None:
        """All of a job: its release, its claim with its input, its outcome."""
        self.release()
        self.finish()

    def poll_final(self) -> None:
        """What the API reads for one poll of a job that succeeded."""
        self._asked = (self._asked + _STRIDE) % self._final
        job = self._store.callers.get(job_id(1 + self._asked), IMPLICIT_CLIENT)
        assert job is not None
        assert self._store.callers.body(job.id, "result") is not None

    def release(self) -> str:
        """One turn of the gate, which releases one job; its id and fence."""
        released = self._gate.run_once().released
        assert len(released) == 1, released
        self._released = released[0]
        return self._released.job_id

    def look(self) -> None:
        """What the gate asks at each turn before all else: which lanes have work."""
        assert self._store.lanes.due()

    def finish(self) -> None:
        """What a worker does with the released job, so that its place is free again."""
        claim = self._store.claims.claim(
            self._released.job_id, self._released.fence, worker=_WORKER, pid=1, lease=_LEASE, attempt_timeouts={}
        )
        assert claim is not None
        result = Succeeded(content=b"{}", content_type="application/json", is_json=True)
        assert self._store.workers.succeed(claim, result, call_seconds=None)

    def poll(self) -> None:
        """What the API reads for one poll of a job in the middle of the backlog; its lanes are not read before."""
        job = self._store.callers.get(job_id(self._final + self.queued // 2), IMPLICIT_CLIENT)
        assert job is not None
        view = LaneCache(self._store).view(job.downstream)
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

        class Explaining(psycopg.Cursor[Any]):
            """In the driver, for hot statements go past SQLAlchemy."""

            def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                if _is_explained(query):
                    touched.append(_buffers_of(self.connection, query, params))
                return super().execute(query, params, **options)

            def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
                if _is_explained(query):
                    touched.append(_buffers_of(self.connection, query, params_seq[0]))
                super().executemany(query, params_seq, **options)

        def explain(driver: psycopg.Connection[Any], _: object) -> None:
            driver.cursor_factory = Explaining

        engine = self.database.engine
        event.listen(engine, "connect", explain)
        engine.dispose()
        yield touched
        event.remove(engine, "connect", explain)
        engine.dispose()


def _is_explained(query: str) -> bool:
    return query.lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"))


def _buffers_of(driver: psycopg.Connection[Any], query: str, parameters: Any) -> int:
    is_alone = driver.info.transaction_status == TransactionStatus.IDLE
    begin, undo = _ALONE if is_alone else ("SAVEPOINT before", "ROLLBACK TO before")
    with psycopg.Cursor(driver) as cursor:
        cursor.execute(begin)
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", parameters)
        plan = present(cursor.fetchone())[0][0]["Plan"]
        cursor.execute(undo)
    touched: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return touched


def _no_keyring() -> NoReturn:
    raise AssertionError("no webhook is asked for")
