"""Terminal output: each child process's lines behind its name."""

import os
import sys
from collections.abc import Iterable
from threading import Lock
from typing import TextIO

OWN_NAME = "tidegate"
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95)
_RED = 31


class Output:
    """Writes whole lines, from any thread. After the reader is gone it drops them, for the processes must go on."""

    def __init__(self, names: Iterable[str], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._names = (OWN_NAME, *names)
        self._width = max(map(len, self._names))
        self._is_terminal = self._stream.isatty()
        self._lock = Lock()

    def line(self, name: str, text: str) -> None:
        """Writes one line of the process `name`."""
        self._write(name, text, _COLOURS[self._names.index(name) % len(_COLOURS)])

    def say(self, text: str) -> None:
        """Writes a message of our own."""
        for line in text.splitlines():
            self._write(OWN_NAME, line, _COLOURS[0])

    def complain(self, text: str) -> None:
        """Writes an error message of our own."""
        for line in text.splitlines():
            self._write(OWN_NAME, line, _RED)

    def _write(self, name: str, text: str, colour: int) -> None:
        label = f"{name:<{self._width}} |"
        if self._is_terminal:
            label = f"\033[{colour}m{label}\033[0m"
        with self._lock:
            try:
                self._stream.write(f"{label} {text}\n")
                self._stream.flush()
            except OSError:
                # The reader is gone (`make run | head`, a closed terminal). Python's own flush at the end must not
                # fail on it either: https://docs.python.org/3/library/signal.html#note-on-sigpipe
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, self._stream.fileno())
                os.close(devnull)
