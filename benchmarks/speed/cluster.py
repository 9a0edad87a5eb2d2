"""Tidegate and its yardsticks beside each other: the same web server, the same size of workers, the same databases."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from benchmarks.chaos.checks import held_places
from benchmarks.commands import HOST, await_worker, python_process, web_arguments, worker_arguments
from benchmarks.pacing.stack import Shape, Stack
from benchmarks.speed.servers import Databases, databases
from benchmarks.yardsticks import rows
from benchmarks.yardsticks.worker import QUEUE
from tests.support import run
from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tidegate.database.connection import Database

NOTHING = "nothing"
CALL = "call"
OPERATIONS = """
[downstreams.call]
[operations.call]
url = "http://127.0.0.1:{port}/call/0"
timeout = "6h"

[downstreams.slow]
rate = "1/m"
[operations.slow]
url = "http://127.0.0.1:{port}/slow/0"
timeout = "100d"
"""
# As the embedded default has them.
_WEB_THREADS, _IO_THREADS = 64, 32
_SETTLED_SECONDS = 1.5


def shape(*, workers: int = 1, schedulers: int = 1, webs: int = 1) -> Shape:
    """So many processes of the size that the embedded default has."""
    settings = {"TIDEGATE_OPERATIONS": "benchmarks.speed.operations"}
    return Shape(
        workers=workers,
        threads=_IO_THREADS,
        webs=webs,
        web_threads=_WEB_THREADS,
        schedulers=schedulers,
        settings=settings,
    )


class Cluster:
    """Both sides, started. What one of them is not measured with lies idle."""

    def __init__(self, folder: Path, servers: Databases, wanted: Shape) -> None:
        self.servers = servers
        self.stack = Stack(folder / "tidegate", servers.make(), OPERATIONS, wanted)
        self.database = Database(self.stack.database_url)
        self.broker = Valkey(folder)
        self.yardstick_url = servers.make()
        self.yardstick_port = free_port()
        environment = {
            rows.DATABASE: self.yardstick_url,
            rows.BROKER: self.broker.url,
            rows.DOWNSTREAM: f"http://{HOST}:{self.stack.downstream_port}/call/0",
        }
        web = web_arguments(
            "benchmarks.yardsticks.web:app", self.yardstick_port, processes=wanted.webs, threads=wanted.web_threads
        )
        self.yardstick_web = python_process(folder, "yardstick-web", web, environment)
        self.yardstick_workers = [
            python_process(
                folder,
                name,
                worker_arguments("benchmarks.yardsticks.worker", name, QUEUE, size=wanted.threads),
                environment,
            )
            for name in (f"yardstick-{number}" for number in range(1, wanted.workers + 1))
        ]

    def start(self) -> None:
        """Starts everything and waits until it is ready."""
        engine = rows.connect(self.yardstick_url)
        rows.metadata.create_all(engine)
        engine.dispose()
        self.broker.start()
        for process in (self.yardstick_web, *self.yardstick_workers):
            process.start()
        self.stack.start()
        await_worker(self.yardstick_workers)
        wait_until(lambda: is_listening(self.yardstick_port), description="the yardstick listens", timeout_seconds=60)

    def stop(self) -> None:
        """Kills everything."""
        self.database.close()
        self.stack.stop()
        for process in (self.yardstick_web, *self.yardstick_workers):
            process.kill()
        self.broker.stop()

    def forget(self) -> None:
        """Takes every job away on both sides, so that each round begins with the same tables, and lets all come to
        rest. The lane of no-ops must be paused and the yardstick's workers must run."""
        with self.broker.client() as client:
            client.flushall()
        wait_until(lambda: held_places(self.database) == 0, description="no job runs", timeout_seconds=60)
        engine = rows.connect(self.yardstick_url)
        with self.database.transaction() as ours, engine.begin() as theirs:
            if self.database.is_sqlite:
                for table in ("jobs", "attempts"):
                    ours.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - nothing from outside
                theirs.execute(rows.requests.delete())
            else:
                ours.execute(text("TRUNCATE jobs, attempts CASCADE"))
                theirs.execute(text("TRUNCATE requests"))
        engine.dispose()
        time.sleep(_SETTLED_SECONDS)

    def pause(self, *, paused: bool) -> None:
        """Whether the lane of no-ops rests."""
        self.stack.limit(NOTHING, paused=paused)

    def freeze(self, workers: Sequence[ChildProcess], *, frozen: bool) -> None:
        """Whether these workers stand still: their messages wait in the broker."""
        for worker in workers:
            worker.freeze() if frozen else worker.thaw()


@contextmanager
def running(database: str, wanted: Shape | None = None, *, counts: bool = False) -> Iterator[Cluster]:
    """A started cluster on a server of its own, killed afterwards. `counts`: the server counts its statements."""
    folder = run.folder() / f"cluster-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
    with databases(database, folder, counts=counts) as servers:
        cluster = Cluster(folder, servers, wanted or shape())
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
