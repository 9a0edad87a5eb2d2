"""pytest-celery's nodes as real processes in place of containers, so that its fixtures work without Docker.

A node asks its "container" for little: start, logs, kill, restart, ready. Its classes are derived from only because
pytest-celery checks the type; Docker's own __init__ is never called. `containers.py` has the same nodes in containers.
"""

import signal as signals
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_celery import CeleryTestContainer, CeleryTestNode, CeleryTestWorker, CeleryWorkerContainer, RedisContainer

from tests.support.processes import ChildProcess
from tests.support.valkey import Valkey

STOP_SECONDS = 20
HOST = "tidegate"


def worker_command(queue: str, *, name: str, concurrency: int) -> list[str]:
    """Python's arguments for a Celery worker of tasks.app for one queue: processes for cpu, threads for the others."""
    pool = {"io": "threads", "cpu": "prefork", "webhooks": "threads"}[queue]
    command = ["-m", "celery", "-A", "tasks.app", "worker", "--pool", pool]
    command += ["--concurrency", str(concurrency), "-Q", queue, "-n", f"{name}@{HOST}"]
    return [*command, "--loglevel", "INFO", "--without-gossip", "--without-mingle"]


SCHEDULER_COMMAND = ["-m", "tasks.scheduler"]


class ProcessContainer:
    """The part of a container's interface that pytest-celery's nodes use, over a child process."""

    ready_prompt: str | None = None

    def __init__(self, name: str, process: ChildProcess) -> None:
        self._name = name
        self.process = process

    @property
    def id(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int:
        """Of the process that the node's others descend from, as this machine numbers it."""
        return self.process.pid

    @property
    def status(self) -> str:
        return "running" if self.process.is_running else "exited"

    def start(self) -> None:
        """Starts it and waits until it says that it is ready."""
        self.process.start()
        self.ready()

    def ready(self) -> bool:
        """Waits for the prompt since the last start; raises AssertionError when the process ended."""
        if self.ready_prompt:
            self.process.wait_for_log(self.ready_prompt)
        return self.process.is_running

    def logs(self) -> str:
        return self.process.logs()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        self.process.kill(number)

    def restart(self, timeout: float = STOP_SECONDS) -> None:
        """Ends it if it runs, as `docker restart` does, and starts it again."""
        self.process.stop(timeout_seconds=timeout)
        self.start()

    def pause(self) -> None:
        self.process.freeze()

    def unpause(self) -> None:
        self.process.thaw()

    def reload(self) -> None:
        """Docker's objects are snapshots and need this; a process is always fresh."""

    def teardown(self) -> None:
        """Kills it and its children: by now the test is over."""
        self.process.kill()


class RedisProcess(ProcessContainer, RedisContainer):
    """A test's Valkey as pytest-celery's Redis."""

    ready_prompt = "Ready to accept connections"

    def __init__(self, server: Valkey) -> None:
        super().__init__("redis", server.process)
        self._server = server

    @property
    def hostname(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def host_url(self) -> str:
        return self._server.url


class WorkerProcess(ProcessContainer, CeleryWorkerContainer):
    """A Celery worker of tasks.app for one queue: threads for io and webhooks, processes for cpu."""

    ready_prompt = "ready."

    def __init__(
        self, queue: str, *, name: str, concurrency: int, environment: Mapping[str, str], folder: Path
    ) -> None:
        command = [sys.executable, *worker_command(queue, name=name, concurrency=concurrency)]
        super().__init__(HOST, ChildProcess(command, log=folder / f"{name}.log", environment=environment))
        self._worker_name = name
        self._queue = queue

    def worker_name(self) -> str:
        return self._worker_name

    def worker_queue(self) -> str:
        return self._queue


class SchedulerProcess(ProcessContainer, CeleryTestContainer):
    """The scheduler."""

    ready_prompt = "scheduler of "

    def __init__(self, *, environment: Mapping[str, str], folder: Path) -> None:
        command = [sys.executable, *SCHEDULER_COMMAND]
        super().__init__("scheduler", ChildProcess(command, log=folder / "scheduler.log", environment=environment))


class _Freezable:
    container: Any

    def freeze(self) -> None:
        """SIGSTOP for it and its children: its leases run out, its connections stay open."""
        self.container.pause()

    def thaw(self) -> None:
        """SIGCONT: goes on after `freeze` as if no time had passed."""
        self.container.unpause()


class WorkerNode(_Freezable, CeleryTestWorker):
    """pytest-celery's worker node; what `celery_worker` is here."""

    def hostname(self) -> str:
        """The name that it answers to, which is ours in both modes."""
        return f"{self.worker_name}@{HOST}"


class SchedulerNode(_Freezable, CeleryTestNode):
    """The scheduler as a node: logs, kill, restart, freeze."""
