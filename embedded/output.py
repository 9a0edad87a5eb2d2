"""Output of `make run`: the lines of all processes in one format, text behind the process's name or JSON."""

import json
import logging
import os
import sys
from collections.abc import Iterable
from threading import Lock
from typing import TextIO

from config.logs import JsonFormatter, TextFormatter

OWN_NAME = "tidegate"
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95)
_RED = 31


class Output:
    """Writes whole lines, from any thread. After the reader is gone it drops them, for the processes must go on.

    With `is_json` each is a JSON object, of those processes too that write text, and nothing stands before it.
    """

    def __init__(self, names: Iterable[str], stream: TextIO | None = None, *, is_json: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._is_json = is_json
        self._colours: dict[str, int] = {}
        for name in (OWN_NAME, *names):
            self._colour(name)
        self._width = max(map(len, self._colours))
        self._is_terminal = self._stream.isatty()
        self._lock = Lock()

    def line(self, name: str, text: str) -> None:
        """Writes one line of the process `name` as it is; a blank one is left out."""
        if text.strip():
            as_is = not self._is_json or _is_object(text)
            self._write(name, text if as_is else _json(name, logging.INFO, text), self._colour(name))

    def event(self, name: str, level: int, message: str) -> None:
        """Writes what the process `name` said in a format of its own, in ours."""
        text = _json(name, level, message) if self._is_json else _text(name, level, message)
        self._write(name, text, self._colour(name))

    def say(self, text: str) -> None:
        """Writes a message of our own."""
        self._write_own(text, logging.INFO, _COLOURS[0])

    def complain(self, text: str) -> None:
        """Writes an error message of our own."""
        self._write_own(text, logging.ERROR, _RED)

    def _write_own(self, text: str, level: int, colour: int) -> None:
        for line in text.splitlines():
            if not self._is_json:
                self._write(OWN_NAME, line, colour)
            elif line.strip():
                self._write(OWN_NAME, _json(OWN_NAME, level, line.strip()), colour)

    def _colour(self, name: str) -> int:
        """The next one for a name that was not heard of before: a worker that was started later."""
        return self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])

    def _write(self, name: str, text: str, colour: int) -> None:
        label = f"{name:<{self._width}} |"
        if self._is_terminal:
            label = f"\033[{colour}m{label}\033[0m"
        with self._lock:
            try:
                self._stream.write(f"{text}\n" if self._is_json else f"{label} {text}".rstrip() + "\n")
                self._stream.flush()
            except OSError:
                # The reader is gone (`make run | head`, a closed terminal). Python's own flush at the end must not
                # fail on it either: https://docs.python.org/3/library/signal.html#note-on-sigpipe
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, self._stream.fileno())
                os.close(devnull)


def _record(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, None, None)


def _json(name: str, level: int, message: str) -> str:
    return JsonFormatter(name).format(_record(name, level, message))


def _text(name: str, level: int, message: str) -> str:
    return TextFormatter(name).format(_record(name, level, message))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
