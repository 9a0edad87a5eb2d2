"""A command in a real terminal (a pty): what it shows, keys that are pressed, Ctrl-C."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support import run
from tests.support.waiting import wait_until

CTRL_C = "\x03"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
# Makes the terminal the session's own, so that Ctrl-C reaches the command and /dev/tty opens. Tests that a shell runs
# in the background ignore SIGINT, and so would the command.
_LAUNCH = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """Runs a command in a terminal of 24 lines; a context manager, at whose end it is killed if it still runs."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], columns: int = 120) -> None:
        self._main, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(terminal)
        run.will_end(self._process.pid)
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)
        os.close(self._main)

    @property
    def text(self) -> str:
        """All that it has shown so far, without colours and movements."""
        return _ESCAPES.sub("", self._shown.decode(errors="replace"))

    def wait_for(self, pattern: str, *, timeout_seconds: float = 30) -> str:
        """Waits until it has shown this (a regular expression) and returns the match."""

        def found() -> str:
            match = re.search(pattern, self.text)
            return match[0] if match else ""

        try:
            return wait_until(found, description=f"it shows {pattern!r}", timeout_seconds=timeout_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text[-3000:]}") from None

    def press(self, keys: str) -> None:
        """Types; CTRL_C interrupts."""
        os.write(self._main, keys.encode())

    def exit_code(self, *, timeout_seconds: float = 30) -> int:
        """Waits for its end."""
        code = self._process.wait(timeout_seconds)
        self._reader.join(timeout=5)
        return code

    def _read(self) -> None:
        with suppress(OSError):  # the end of a terminal whose last user is gone
            while read := os.read(self._main, 4096):
                self._shown += read
