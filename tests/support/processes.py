"""A real child process: its own session, its output in a file, and nothing left of it afterwards."""

import os
import pwd
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import run
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]

# Below the ports that systems hand out for outgoing connections (Linux from 32768, macOS from 49152): a client that
# keeps calling a dead server's port could be given that very port, reach itself, and keep the server from restarting.
_PORTS = range(20_000, 32_000)
_RANDOM = random.SystemRandom()
# To all of the group: a worker's children die, freeze and wake with it, as they would with their container.
_WHOLE_GROUP = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    while True:
        port = _RANDOM.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Whether something answers on this port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def privileges_of(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments for subprocess that run the child as this account; None: as ourselves."""
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


class ChildProcess:
    """A command that runs in the repository's root; `start` it, and again after its end. Also a context manager.

    `environment` is laid over this process's own, of which settings of Tidegate are left out.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        account: pwd.struct_passwd | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        self.environment |= {"PYTHONUNBUFFERED": "1", **(environment or {})}
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it; the log goes on in the same file."""
        if self.is_running:
            raise RuntimeError(f"already running: {self.command}")
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **privileges_of(self._account),
            )
        run.will_end(self._process.pid)

    @property
    def pid(self) -> int:
        """Of the running process, else of the last one."""
        if self._process is None:
            raise RuntimeError(f"never started: {self.command}")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N when signal N ended it."""
        return self._process.poll() if self._process else None

    def kill(self, signal_number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal; SIGKILL to its whole process group, and then waits for its end."""
        if signal_number in _WHOLE_GROUP:
            self._signal_group(signal_number)
        elif self.is_running:
            os.kill(self.pid, signal_number)
        if signal_number is signal.SIGKILL:
            self._reap(timeout_seconds=10)

    def freeze(self) -> None:
        """SIGSTOP: alive, holding its connections, doing nothing."""
        self.kill(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: goes on after `freeze`."""
        self.kill(signal.SIGCONT)

    def stop(self, *, timeout_seconds: float = 10, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end and returns its exit code; kills it, and raises AssertionError, when it does not.

        Whatever of its process group is still there afterwards is killed.
        """
        if self.is_running:
            self.thaw()
            self.kill(signal_number)
        try:
            return self._reap(timeout_seconds=timeout_seconds)
        except subprocess.TimeoutExpired:
            ordered = f"{self.command} did not end within {timeout_seconds:g} s of {signal_number.name}"
            raise AssertionError(f"{ordered}:\n{self.logs()[-3000:]}") from None
        finally:
            self.kill()

    def logs(self) -> str:
        """All it wrote, stdout and stderr, since its first start."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def logs_since_start(self) -> str:
        """What it wrote since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as output:
            output.seek(self._log_start)
            return output.read().decode(errors="replace")

    def wait_for_log(self, words: str, *, timeout_seconds: float = 60) -> None:
        """Waits until it has written these words since its last start; raises AssertionError when it ended first."""

        def is_written() -> bool:
            ended = not self.is_running  # asked first: what was written just before the end counts
            if words in self.logs_since_start():
                return True
            if ended:
                raise AssertionError(f"{self.command} ended with {self.exit_code}:\n{self.logs()[-3000:]}")
            return False

        wait_until(is_written, description=f"{self.command} writes {words!r}", timeout_seconds=timeout_seconds)

    def _signal_group(self, signal_number: signal.Signals) -> None:
        # The group outlives its leader as long as a member lives; macOS refuses when only zombies are left.
        if self._process:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal_number)

    def _reap(self, *, timeout_seconds: float) -> int:
        if self._process is None:
            return 0
        code = self._process.wait(timeout=timeout_seconds)
        run.has_ended(self._process.pid)
        return code
