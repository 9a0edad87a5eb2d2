"""moto's server, which answers as SQS does: a stand-in, and the only one without an account. See docs/brokers.md."""

import sys
from pathlib import Path

from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until


class Sqs:
    """The server; it keeps its queues in memory and has none at every start."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"sqs://test:test@127.0.0.1:{self.port}/?region=eu-central-1"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = ChildProcess(command, log=folder / "moto.log")

    def start(self) -> None:
        """Starts it, a second time on the same port, and waits until it listens."""
        self.process.start()
        wait_until(lambda: is_listening(self.port), description=f"moto listens on {self.port}", timeout_seconds=60)

    def kill(self) -> None:
        """kill -9: its queues are gone, as those of SQS never are."""
        self.process.kill()

    def restart(self) -> None:
        """Kills it and starts one without queues on the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Ends it, at once."""
        self.process.kill()
