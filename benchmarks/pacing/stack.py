"""All of Tidegate as real processes that a scenario may kill, freeze and restart, and a downstream that keeps a log."""

import http.client
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.commands import (
    DOWNSTREAM,
    HOST,
    THREADS,
    await_scheduler,
    await_worker,
    downstream_arguments,
    python_process,
    web_arguments,
    worker_arguments,
)
from tests.support import postgresql, sqlite
from tests.support.processes import ChildProcess, free_port
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

WORKERS = 3
_SUBMITTERS = 8
_LONGEST_REST_SECONDS = 5.0
_WARM_UP = """
[downstreams.warm-up]
[operations.warm-up]
url = "http://127.0.0.1:{port}/warm-up/50"
"""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many there are of everything; what is not said is what the pacing was measured with.

    `workers` of `threads` each; `webs` server processes with `web_threads` each. `settings`: further ones, for all.
    `downstream`: the module that is run as it.
    """

    workers: int = WORKERS
    threads: int = THREADS
    webs: int = 1
    web_threads: int = 8
    schedulers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    downstream: str = DOWNSTREAM


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the web server answered, and when; header names in lower case."""

    at: float
    status: int
    headers: Mapping[str, str]
    document: Any


class Stack:
    """Valkey, web, scheduler, three io workers of eight threads (or another `shape`), downstream. All lies in `folder`.

    `operations` is the operations file; `{port}` in it becomes the downstream's, whose `strictness` are further options
    of its command line. `headers` go with each request.

    An operation of our own beside it warms a new stack up, so that no measurement begins with the
    making of connections.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        operations: str,
        shape: Shape | None = None,
        strictness: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True)
        shape = shape or Shape()
        self.folder = folder
        self.database_url = database_url
        self.log = folder / "arrivals.jsonl"
        self.broker = Valkey(folder)
        self.downstream_port = free_port()
        self.port = free_port()
        (folder / "operations.toml").write_text((operations + _WARM_UP).replace("{port}", str(self.downstream_port)))
        self.environment = {
            "TIDEGATE_DATA": str(folder),
            "TIDEGATE_DATABASE_URL": database_url,
            "TIDEGATE_BROKER_URL": self.broker.url,
            "TIDEGATE_OPERATIONS_FILE": str(folder / "operations.toml"),
            "TIDEGATE_IO_CONCURRENCY": str(shape.threads),
            **shape.settings,
        }

        def process(name: str, arguments: Sequence[str]) -> ChildProcess:
            return python_process(folder, name, arguments, self.environment)

        self.downstream = process(
            "downstream", downstream_arguments(self.downstream_port, self.log, *strictness, module=shape.downstream)
        )
        self.scheduler, *self.spare_schedulers = (
            process("scheduler" if number == 1 else f"scheduler-{number}", ("tasks.scheduler",))
            for number in range(1, shape.schedulers + 1)
        )
        self.web = process(
            "web", web_arguments("webapp.wsgi:app", self.port, processes=shape.webs, threads=shape.web_threads)
        )
        self.workers = [
            process(f"io-{number}", worker_arguments("tasks.app", f"io-{number}", "io", size=shape.threads))
            for number in range(1, shape.workers + 1)
        ]
        self.headers: dict[str, str] = {}
        self._warm_up_jobs = 3 * shape.workers * shape.threads
        self._local = threading.local()

    def start(self) -> None:
        """Starts everything and waits until it is ready."""
        self.downstream.start()
        self.broker.start()
        for process in self._own:
            process.start()
        self.downstream.wait_for_log("listening on")
        await_worker(self.workers)
        for scheduler in (self.scheduler, *self.spare_schedulers):
            await_scheduler(scheduler)
        wait_until(self._is_ready, description="the web server is ready", timeout_seconds=30)
        for answer in self.submit_many("warm-up", self._warm_up_jobs):
            self._await_success(f"/v1/jobs/{answer.document['id']}")

    def stop(self) -> None:
        """Kills everything: what was to be measured is in the log and in the database."""
        for process in (*self._own, self.downstream):
            process.kill()
        self.broker.stop()

    @property
    def _own(self) -> tuple[ChildProcess, ...]:
        return (self.web, self.scheduler, *self.spare_schedulers, *self.workers)

    def request(self, method: str, path: str, document: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request to the web server, over this thread's own connection."""
        connection = self._connection()
        content = None if document is None else json.dumps(document)
        connection.request(
            method, path, content, {"Content-Type": "application/json", **self.headers, **(headers or {})}
        )
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(at=time.time(), status=answer.status, headers=told, document=json.loads(answer.read()))

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's; a new one after a rest, in which the server may have closed it."""
        used_at, self._local.used_at = getattr(self._local, "used_at", 0.0), time.monotonic()
        if time.monotonic() - used_at > _LONGEST_REST_SECONDS:
            self._local.connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def submit(self, operation: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Submits one job; 202 or an exception."""
        answer = self.request("POST", f"/v1/operations/{operation}/jobs", {}, headers)
        if answer.status != 202:
            raise RuntimeError(f"{operation} was answered {answer.status}: {answer.document}")
        return answer

    def submit_many(self, operation: str, count: int) -> list[Answer]:
        """Submits so many jobs as fast as eight callers can; in the order of their ids."""
        # Callers are on other machines; here they at least do not take the processor from what is measured.
        with ThreadPoolExecutor(_SUBMITTERS, initializer=_be_nice) as pool:
            answers = list(pool.map(lambda _: self.submit(operation), range(count)))
        return sorted(answers, key=lambda answer: str(answer.document["id"]))

    def limit(self, downstream: str, **changes: Any) -> None:
        """An operator's change."""
        answer = self.request("PATCH", f"/v1/downstreams/{downstream}", changes)
        if answer.status != 200:
            raise RuntimeError(f"the change was answered {answer.status}: {answer.document}")

    def _await_success(self, path: str) -> None:
        wait_until(lambda: self.request("GET", path).status == 200, description=f"{path} is done", timeout_seconds=60)

    def _is_ready(self) -> bool:
        try:
            return self.request("GET", "/health/ready").status == 200
        except OSError:
            self._local.used_at = -math.inf  # a connection that was refused is no connection
            return False


def _be_nice() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)


@contextmanager
def running(folder: Path, database: str, operations: str, strictness: Sequence[str] = ()) -> Iterator[Stack]:
    """A stack with a fresh database, ended and dropped afterwards."""
    with ExitStack() as stack:
        if database == "postgresql":
            url = stack.enter_context(postgresql.fresh_database())
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            (folder.parent / f"{folder.name}.db").mkdir()
            url = sqlite.fresh_database(folder.parent / f"{folder.name}.db")
        made = Stack(folder, url, operations, strictness=strictness)
        stack.callback(made.stop)
        made.start()
        yield made
