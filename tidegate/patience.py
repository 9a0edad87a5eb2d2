"""Bounds how long a PostgreSQL server that does not answer can hold a caller: a watchdog and a breaker."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tidegate import clock
from tidegate.errors import DatabaseUnreachableError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_PROBE_SECONDS = 0.5


class Watchdog:
    """Cuts connections that have been at one thing for too long.

    A server that is stopped, or behind a network that swallows packets, leaves the client library waiting for an
    answer for ever; only its socket can be taken from it. With nothing to watch its thread rests.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watched: dict[int, tuple[float, psycopg.Connection]] = {}
        self._lock = threading.Lock()
        self._is_wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, driver: object) -> Iterator[None]:
        """Within it the driver's connection is cut when one statement takes too long; that then raises
        OperationalError."""
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"only psycopg connections can be watched, not {type(driver).__name__}")
        with self._lock:
            self._watched[id(driver)] = clock.monotonic() + self._seconds, driver
            if not self._is_wanted.is_set():
                self._is_wanted.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(id(driver), None)

    def touch(self, driver: object) -> None:
        """The connection begins something new: it has its whole time again. Nothing for one that is not watched."""
        with self._lock:
            if id(driver) in self._watched and isinstance(driver, psycopg.Connection):
                self._watched[id(driver)] = clock.monotonic() + self._seconds, driver

    def _look(self) -> None:
        while True:
            self._is_wanted.wait()
            clock.sleep(_LOOK_SECONDS)
            now = clock.monotonic()
            with self._lock:
                if not self._watched:
                    self._is_wanted.clear()
                for key, (due, driver) in list(self._watched.items()):
                    if now >= due:
                        del self._watched[key]
                        _cut(driver)


class Breaker:
    """After a failure refuses at once, until a probe of its own thread finds the database back."""

    def __init__(self, probe: Callable[[], None], is_unreachable: Callable[[Exception], bool]) -> None:
        self._probe = probe
        self._is_unreachable = is_unreachable
        self._is_open = False
        self._closed = threading.Event()
        self._prober: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Raises DatabaseUnreachableError while open; opens on what says that the database can't be reached."""
        if self._is_open:
            raise DatabaseUnreachableError("the database did not answer a moment ago")
        try:
            yield
        except Exception as error:
            if self._is_unreachable(error):
                self._open(error)
            raise

    def _open(self, error: Exception) -> None:
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
        log.warning("the database can't be reached, refusing until it is back: %s", error)
        self._prober = threading.Thread(target=self._wait, name="database-probe", daemon=True)
        self._prober.start()

    def close(self) -> None:
        """Ends the probing."""
        self._closed.set()
        if self._prober is not None:
            self._prober.join()

    def _wait(self) -> None:
        while not self._closed.wait(_PROBE_SECONDS):
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it is, the database is not back
                log.debug("the database is still away: %s", error)
            else:
                self._is_open = False
                log.info("the database is back")
                return


def _cut(driver: psycopg.Connection) -> None:
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error) as error:
        log.debug("the connection was gone already: %s", error)
