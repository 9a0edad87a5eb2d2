"""Tells a shortage of this process (files, ports, memory, its name server) from a failure of whom it calls."""

import errno
import socket
import ssl
from collections import Counter
from contextlib import closing
from datetime import timedelta
from random import SystemRandom
from threading import Lock

_RANDOM = SystemRandom()
_LONGEST_SECONDS = 15.0
_FIRST_SECONDS = 1.0
_ERRNOS = {
    errno.EMFILE: "open files (EMFILE)",
    errno.ENFILE: "open files of the machine (ENFILE)",
    errno.EADDRNOTAVAIL: "local ports (EADDRNOTAVAIL)",
    errno.ENOMEM: "memory (ENOMEM)",
    errno.ENOBUFS: "memory for sockets (ENOBUFS)",
}
_LOOK_UPS = {
    socket.EAI_AGAIN: "an answer of its name server (EAI_AGAIN)",
    socket.EAI_SYSTEM: "what a look-up of a name needs (EAI_SYSTEM)",
    socket.EAI_MEMORY: "memory for the look-up of a name (EAI_MEMORY)",
}


def own_shortage(error: BaseException | None) -> str | None:
    """What this process is short of, if that is what an exception, or one that caused it, is about; else None."""
    while error is not None:
        if what := _shortage_of(error):
            return what
        error = error.__cause__ or error.__context__
    return None


def _shortage_of(error: BaseException) -> str | None:
    match error:
        case MemoryError():
            return "memory"
        case RuntimeError() if "can't start new thread" in str(error):
            return "threads"
        case socket.gaierror():
            # "No such name", "no address" and others are also what the C library says when it can't open the files and
            # sockets that it asks with.
            return _LOOK_UPS.get(error.errno or 0) or _short_of_sockets()
        case OSError() if not isinstance(error, ssl.SSLError):  # whose numbers are its own
            return _ERRNOS.get(error.errno or 0)
    return None


def _short_of_sockets() -> str | None:
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)):
            return None
    except OSError as error:
        return _ERRNOS.get(error.errno or 0)


class ShortageBackoff:
    """How long calls to a downstream wait after a shortage: twice as long after each in a row, in all threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._in_a_row: Counter[str] = Counter()

    def pause(self, downstream: str) -> timedelta:
        """The pause after one more shortage: 1 s, 2 s, … 15 s, a half more or less."""
        with self._lock:
            doublings = min(self._in_a_row[downstream], 10)
            self._in_a_row[downstream] += 1
        seconds = min(_FIRST_SECONDS * 2**doublings, _LONGEST_SECONDS)
        return timedelta(seconds=seconds * _RANDOM.uniform(0.5, 1.5))

    def end(self, downstream: str) -> None:
        """Begins anew: a call got through."""
        if self._in_a_row:
            with self._lock:
                self._in_a_row.pop(downstream, None)
