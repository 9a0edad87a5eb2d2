"""All of Tidegate as real processes that may be killed and frozen, some of them behind a network that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from benchmarks.commands import downstream_arguments, python_process, worker_arguments
from tests.support import postgresql, run, sqlite
from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.proxy import Proxy
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

LEASE_SECONDS = 5
GRACE_SECONDS = 3
RATE_PER_SECOND = 60
QUOTA_PER_HOUR = 100_000  # never used up: what is looked at is whether it forgets a call
CONCURRENCY = 16
OPERATIONS = f"""
[downstreams.paced]
rate = ["{RATE_PER_SECOND}/s", "{QUOTA_PER_HOUR}/h"]
concurrency = {CONCURRENCY}

[operations.paced]
url = "http://127.0.0.1:PORT/paced/20-80"
timeout = "5m"
attempt_timeout = "5s"
retry = {{ attempts = 5, delay = "200ms", max_delay = "2s" }}

[operations.free]
url = "http://127.0.0.1:PORT/free/5-50"
timeout = "5m"
attempt_timeout = "5s"
retry = {{ attempts = 5, delay = "200ms", max_delay = "2s" }}
"""
WEB, BROKER, DATABASE = "web", "broker", "database"
WORKERS = ("io-1", "io-2", "io-3", "cpu-1")
SCHEDULERS = ("scheduler-1", "scheduler-2")


@dataclass
class Member:
    """One process of the stack; `wires` are its own ways to the broker and the database, if it has such.

    `pids`: of its main process, one for each start.
    """

    name: str
    process: ChildProcess
    wires: dict[str, Proxy] = field(default_factory=dict)
    server: Valkey | postgresql.Server | None = None
    pids: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Starts it, after whatever is left of it was killed; of servers, waits until they answer."""
        self.process.kill()
        (self.server or self.process).start()
        self.pids.add(self.process.pid)


class Stack:
    """Valkey, web, two schedulers, three io workers, a cpu worker with two children, a downstream, the database.

    One worker of each queue and one scheduler reach broker and database only through wires of their own; the other
    workers reach the broker so.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port, self.downstream_port = free_port(), free_port()
        self.log = folder / "arrivals.jsonl"
        self.broker = Valkey(folder)
        self.members = {BROKER: Member(BROKER, self.broker.process, server=self.broker)}
        self._wires: list[Proxy] = []
        if database == "postgresql":
            # Else a connection that stalls before it says who it is holds up a shutdown for a minute.
            settings = {**postgresql.LOOPBACK, "authentication_timeout": "5s"}
            server = postgresql.Server(run.folder(), settings=settings)
            server.start()
            self.members[DATABASE] = Member(DATABASE, server.process, server=server)
            self.database_url = server.make_database()
        else:
            self.database_url = sqlite.fresh_database(folder)
        (folder / "operations.toml").write_text(OPERATIONS.replace("PORT", str(self.downstream_port)))
        listen = downstream_arguments(self.downstream_port, self.log)
        self.downstream = python_process(folder, "downstream", listen, {})
        self._add(WEB, "webapp")
        self._add("scheduler-1", "tasks.scheduler")
        self._add("scheduler-2", "tasks.scheduler", wired=True)
        self._add("io-1", *worker_arguments("tasks.app", "io-1", "io"), wired=True)
        for name in ("io-2", "io-3"):
            self._add(name, *worker_arguments("tasks.app", name, "io"), wired_to_broker=True)
        self._add("cpu-1", *worker_arguments("tasks.app", "cpu-1", "cpu", pool="prefork", size=2), wired=True)

    def start(self) -> None:
        """Starts everything and waits until jobs can be accepted and run."""
        self.downstream.start()
        for member in self.members.values():
            if not member.process.is_running:
                member.start()
        self.downstream.wait_for_log("listening on")
        wait_until(lambda: is_listening(self.port), description="the web server listens", timeout_seconds=60)
        for name, member in self.members.items():
            words = {"io": "ready.", "cpu": "ready.", "scheduler": "scheduler of "}.get(name.partition("-")[0])
            if words:
                member.process.wait_for_log(words, timeout_seconds=60)

    def stop(self) -> list[str]:
        """SIGTERM for all but the servers; what did not end well, and what it left behind."""
        faults = []
        for member in [member for member in self.members.values() if member.server is None]:
            try:
                member.process.stop(timeout_seconds=GRACE_SECONDS + 10)
            except AssertionError as error:
                faults.append(f"{member.name}: {str(error).splitlines()[0]}")
        self.downstream.stop()
        return faults + [f"left behind: {process}" for process in self.processes()]

    def close(self) -> None:
        """Kills whatever is left."""
        for process in (self.downstream, *(member.process for member in self.members.values())):
            process.kill()
        for wire in self._wires:
            wire.__exit__(None, None, None)

    def processes(self) -> list[str]:
        """Every process that runs with this stack's settings, whoever its parent is."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TIDEGATE_DATA") == str(self.folder) and process.status() != "zombie":
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
            except psutil.Error:
                continue
        return found

    def _add(self, name: str, *module: str, wired: bool = False, wired_to_broker: bool = False) -> None:
        wires = {}
        broker_url, database_url = self.broker.url, self.database_url
        if wired or wired_to_broker:
            wires[BROKER] = Proxy(self.broker.port)
            broker_url = f"redis://127.0.0.1:{wires[BROKER].port}/0"
        if wired and DATABASE in self.members:
            url = make_url(database_url)
            wires[DATABASE] = Proxy(url.port or 5432)
            database_url = url.set(port=wires[DATABASE].port).render_as_string(hide_password=False)
        self._wires += wires.values()
        settings = self.settings(broker_url, database_url)
        self.members[name] = Member(name, python_process(self.folder, name, module, settings), wires)

    def settings(self, broker_url: str, database_url: str) -> dict[str, str]:
        """The environment of one of its processes, with its own ways to the broker and the database."""
        return {
            "TIDEGATE_DATA": str(self.folder),
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_WEB_THREADS": "8",
            "TIDEGATE_DATABASE_URL": database_url,
            "TIDEGATE_BROKER_URL": broker_url,
            "TIDEGATE_OPERATIONS_FILE": str(self.folder / "operations.toml"),
            "TIDEGATE_OPERATIONS": "benchmarks.chaos.operations",
            "TIDEGATE_LEASE_SECONDS": str(LEASE_SECONDS),
            "TIDEGATE_GRACE_SECONDS": str(GRACE_SECONDS),
            "TIDEGATE_IO_CONCURRENCY": "8",
        }


def queue_length(stack: Stack) -> int:
    """How many messages wait in the broker."""
    with redis.Redis.from_url(stack.broker.url, retry=Retry(NoBackoff(), 0), socket_timeout=2) as client:
        return sum(int(client.llen(queue)) for queue in ("io", "cpu"))


@contextmanager
def running(folder: Path, database: str) -> Iterator[Stack]:
    """A started stack, killed afterwards."""
    stack = Stack(folder, database)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()
