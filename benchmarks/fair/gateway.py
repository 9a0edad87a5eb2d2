"""The gateway under measurement: real processes, clients with keys, jobs of partitions submitted in bulk, and kills."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import select

from benchmarks.backlog.rows import fresh
from benchmarks.commands import await_scheduler, await_worker
from benchmarks.pacing.scenarios import Run
from benchmarks.pacing.stack import Shape, Stack
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.connection import Database
from tidegate.database.schema import clients

_IN_BULK = 1000
_SCHEDULER_AWAY_SECONDS = 2.0


def operation(lane: str, *, call_ms: str = "5", more: str = "") -> str:
    """TOML of an operation whose calls last so long at the downstream of the lane."""
    return (
        f'[operations.{lane}]\nurl = "http://127.0.0.1:{{port}}/{lane}/{call_ms}"\ntimeout = "24h"\n'
        f'attempt_timeout = "5s"\nadmission = false\n{more}\n'
    )


class Callers:
    """Clients with a key each, or without any the one that all callers are where keys are off."""

    def __init__(self, stack: Stack, names: Sequence[str]) -> None:
        self._stack = stack
        self._keys: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        database = Database(stack.database_url)
        keys = KeyStore(database)
        if names:
            _, operators = keys.create("operator", name="benchmark", role=Role.OPERATOR)
            stack.headers["Authorization"] = f"Bearer {operators}"
        for name in names:
            _, self._keys[name] = keys.create(name, name="benchmark", role=Role.CLIENT)
        for row in database.fetch_all(select(clients.c.id, clients.c.name)):
            self.ids[row.name] = row.id
        database.close()

    def submit(self, operation: str, partitions: Sequence[str | None], *, client: str | None = None) -> list[str]:
        """Submits a job for each, in this order, in bulk; their ids."""
        headers = self._headers_of(client)
        made: list[str] = []
        for first in range(0, len(partitions), _IN_BULK):
            some = partitions[first : first + _IN_BULK]
            document: list[dict[str, Any]] = [{"input": {}, "partition": name} for name in some]
            answer = self._stack.request("POST", f"/v1/operations/{operation}/jobs/bulk", document, headers)
            refused = [each for each in answer.document.get("jobs", [answer.document]) if each["status"] != 202]
            if refused:
                raise RuntimeError(f"{len(refused)} of {len(some)} were refused: {refused[0]}")
            made += [each["job"]["id"] for each in answer.document["jobs"]]
        return made

    def submit_one(self, operation: str, partition: str | None = None) -> str:
        """Submits one job as any caller would; its id."""
        headers = {"Job-Partition": partition} if partition else {}
        return str(self._stack.submit(operation, headers).document["id"])

    def change(self, lane: str, name: str, *, client: str | None = None, **changes: Any) -> None:
        """An operator's change of a partition; without a name, of a client's weight."""
        which = {"name": name, **({"client": self.ids[client]} if client else {})}
        answer = self._stack.request("PATCH", f"/v1/downstreams/{lane}/partitions?{urlencode(which)}", changes)
        if answer.status != 200:
            raise RuntimeError(f"the change was answered {answer.status}: {answer.document}")

    def _headers_of(self, client: str | None) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._keys[client]}"} if client else {}


@contextmanager
def running(
    database: str,
    operations: str,
    *,
    clients: Sequence[str] = (),
    strictness: Sequence[str] = (),
    shape: Shape | None = None,
) -> Iterator[tuple[Stack, Callers]]:
    """A gateway with a fresh database, ended afterwards; with keys if there are clients."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    settings = {"TIDEGATE_MAX_BACKLOG": "1000000"}
    if clients:
        settings |= {"TIDEGATE_AUTH": "keys", "TIDEGATE_SUBMIT_LIMIT": "1000000/m"}
    wanted = shape or Shape()
    made_of = Shape(workers=wanted.workers, threads=wanted.threads, settings={**settings, **wanted.settings})
    with fresh(database) as url:
        stack = Stack(folder / "stack", url, operations, made_of, strictness)
        callers = Callers(stack, clients)
        try:
            stack.start()
            yield stack, callers
        finally:
            stack.stop()


def kill_worker(run: Run, at: float) -> None:
    """So long after the run's beginning: kill -9. It is not replaced before `await_workers`."""
    run.sleep_until(at)
    run.note("kill -9 of a worker")
    run.stack.workers[0].kill()


def await_workers(stack: Stack) -> None:
    """Starts the workers that were killed."""
    dead = [worker for worker in stack.workers if not worker.is_running]
    for worker in dead:
        worker.start()
    await_worker(dead)


def kill_scheduler(run: Run, at: float) -> None:
    """So long after the run's beginning: kill -9, and back after a while."""
    run.sleep_until(at)
    with run.outage("kill -9 of the scheduler"):
        run.stack.scheduler.kill()
        time.sleep(_SCHEDULER_AWAY_SECONDS)
        run.stack.scheduler.start()
        await_scheduler(run.stack.scheduler)
