"""pytest-celery's nodes in containers of the product's image, with all that tests do to the processes of `nodes.py`.

They share the host's network, for a test's database, its HTTP servers and its port of Redis are on 127.0.0.1, and the
test's folder at its own path, for SQLite is a file. What is tried beside the code is the image: its Python, its
packages, an init process that passes signals on, an end that takes every process of the node with it.
"""

import os
import signal as signals
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound, NotFound
from pytest_celery import CeleryTestContainer, CeleryWorkerContainer, RedisContainer

from tests.support import run
from tests.support.compose import images
from tests.support.nodes import SCHEDULER_COMMAND, STOP_SECONDS, worker_command
from tests.support.processes import REPOSITORY, free_port
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

IMAGE = os.environ.get("CELERY_IMAGE", "tidegate:test")
_READY_SECONDS = 60


def why_not() -> str | None:
    """Why there can be no containers here; None: there can."""
    try:
        _engine().images.get(IMAGE)
    except ImageNotFound:
        return f"there is no image {IMAGE}: STACK_IMAGE={IMAGE} docker compose build"
    except DockerException as error:
        return f"no Docker engine answers: {error}"
    return None


class EngineContainer:
    """A container that is made now and started later; the part over pytest-celery's own that tests use.

    Comes before one of pytest-celery's classes in a list of bases.
    """

    ready_prompt = ""
    _log_start = 0

    def __init__(self, image: str, command: Sequence[str], **options: Any) -> None:
        super().__init__(  # type: ignore[call-arg] # pytest-celery's, which wraps Docker's own
            _engine().containers.create(
                image, list(command), network_mode="host", init=True, labels={"tidegate": "tests"}, **options
            )
        )
        self._container: Any

    @property
    def pid(self) -> int:
        """Of the process that the node's others descend from, as this machine numbers it."""
        return int(self._state()["Pid"])

    @property
    def status(self) -> str:
        # Docker's word for a frozen one is "paused", and pytest-celery kills only what is "running".
        return "running" if self.is_running else "exited"

    @property
    def is_running(self) -> bool:
        return bool(self._state()["Running"])

    def start(self) -> None:
        """Starts it and waits until it says that it is ready."""
        self._mark_log()
        self._container.start()
        self.ready()

    def ready(self) -> bool:
        """Waits for the prompt since the last start; raises AssertionError when the container ended."""
        self.wait_for_log(self.ready_prompt)
        return self.is_running

    def wait_for_log(self, words: str, *, timeout_seconds: float = _READY_SECONDS) -> None:
        """Waits until it has written these words since its last start; raises AssertionError when it ended first."""

        def is_written() -> bool:
            is_running = self.is_running  # asked first: what was written just before the end counts
            if words in self.logs()[self._log_start :]:
                return True
            assert is_running, f"{self._container.name} ended:\n{self.logs()[-3000:]}"
            return False

        wait_until(is_written, description=f"it writes {words!r}", timeout_seconds=timeout_seconds)

    def logs(self) -> str:
        return str(self._container.logs().decode(errors="replace"))

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        if not self.is_running:
            return
        if number is signals.SIGKILL and self._state()["Paused"]:
            self._kill_frozen()
        self._container.kill(int(number))
        if number is signals.SIGKILL:
            self._container.wait(timeout=STOP_SECONDS)

    def restart(self, timeout: float = STOP_SECONDS) -> None:
        """Ends it if it runs, and starts it again."""
        self._mark_log()
        self._container.restart(timeout=int(timeout))
        self.ready()

    def _mark_log(self) -> None:
        # Not by the engine's StartedAt: it is written down later, and by then a quick process may have said its words.
        self._log_start = len(self.logs())

    def pause(self) -> None:
        self._container.pause()

    def unpause(self) -> None:
        with suppress(NotFound):
            if self._state()["Paused"]:
                self._container.unpause()

    freeze, thaw = pause, unpause

    def teardown(self) -> None:
        """Kills and removes it: by now the test is over. A second time does nothing."""
        with suppress(NotFound):
            self._container.remove(force=True, v=True)

    def _kill_frozen(self) -> None:
        """The engine thaws what it kills, and in those milliseconds a worker would run what lies before it."""
        top = self._container.top()
        column = top["Titles"].index("PID")
        for process in top["Processes"]:
            with suppress(PermissionError, ProcessLookupError):  # not root, or Docker in a virtual machine
                os.kill(int(process[column]), signals.SIGKILL)

    def _state(self) -> dict[str, Any]:
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state


class WorkerContainer(EngineContainer, CeleryWorkerContainer):
    """A Celery worker for one queue."""

    ready_prompt = "ready."

    def __init__(
        self, queue: str, *, name: str, concurrency: int, environment: Mapping[str, str], folder: Path
    ) -> None:
        command = ["python", *worker_command(queue, name=name, concurrency=concurrency)]
        super().__init__(IMAGE, command, **_surroundings(environment, folder))
        self._worker_name = name
        self._queue = queue

    def worker_name(self) -> str:  # a class method there
        return self._worker_name

    def worker_queue(self) -> str:  # a class method there
        return self._queue


class SchedulerContainer(EngineContainer, CeleryTestContainer):
    """The scheduler."""

    ready_prompt = "scheduler of "

    def __init__(self, *, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(IMAGE, ["python", *SCHEDULER_COMMAND], **_surroundings(environment, folder.parent))


class RedisNode(EngineContainer, RedisContainer):
    """An empty Redis on a port of 127.0.0.1; it keeps nothing on disk."""

    ready_prompt = "Ready to accept connections"

    def __init__(self, port: int) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(port)]
        super().__init__(images()["STACK_REDIS_IMAGE"], RedisContainer.command(*options))
        self._port = port

    @property
    def hostname(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def host_url(self) -> str:
        return self.url


class ContainerRedis(Valkey):
    """A Redis in a container that a test may kill, freeze and restart as it does a Valkey process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.container = RedisNode(self.port)
        self.process = self.container  # it has all that Valkey asks of one


def _surroundings(environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    return {
        "environment": dict(environment),
        "user": f"{os.getuid()}:{os.getgid()}",  # who may write the test's folder
        "volumes": {
            str(REPOSITORY / "tests"): {"bind": "/app/tests", "mode": "ro"},
            str(folder): {"bind": str(folder), "mode": "rw"},
            str(run.folder()): {"bind": str(run.folder()), "mode": "rw"},
        },
    }


@cache
def _engine() -> docker.DockerClient:
    return docker.from_env()
