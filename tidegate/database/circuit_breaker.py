"""A statement watchdog and a circuit breaker: bound how long a silent PostgreSQL server can hold a caller."""

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


class _Watched:
    """A connection under watch, and when its statement will have taken too long."""

    __slots__ = ("driver", "due", "seconds")

    def __init__(self, driver: psycopg.Connection, seconds: float) -> None:
        self.driver = driver
        self.seconds = seconds
        self.touch()

    def touch(self) -> None:
        self.due = clock.monotonic() + self.seconds


class Watchdog:
    """Shuts down the socket of a connection whose statement takes too long.

    A server that is stopped, or behind a network that swallows packets, leaves the client library waiting for an
    answer for ever; only its socket can be taken from it. With nothing to watch its thread rests.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watched: dict[int, _Watched] = {}
        self._lock = threading.Lock()
        self._is_wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, driver: object, more_seconds: float = 0.0) -> Iterator[None]:
        """Watches the driver's connection: a statement that takes too long is cut off and raises OperationalError.

        `more_seconds`: time beyond the usual, for a query that may take long.
        """
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"only psycopg connections can be watched, not {type(driver).__name__}")
        with self._lock:
            self._watched[id(driver)] = _Watched(driver, self._seconds + more_seconds)
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
        """Restarts the time of a watched connection, which begins a new statement; does nothing for another."""
        with self._lock:
            watched = self._watched.get(id(driver))
            if watched:
                watched.touch()

    def _look(self) -> None:
        while True:
            self._is_wanted.wait()
            clock.sleep(_LOOK_SECONDS)
            now = clock.monotonic()
            with self._lock:
                if not self._watched:
                    self._is_wanted.clear()
                for key, watched in list(self._watched.items()):
                    if now >= watched.due:
                        del self._watched[key]
                        _cut(watched.driver)


class CircuitBreaker:
    """A circuit breaker: after a failure it probes the database, and refuses at once while it can't be reached.

    One statement that took too long, or one connection that was ended, says nothing about the others: a probe on a
    connection of its own decides, and only when it fails, or has no answer soon, everybody is refused.
    """

    def __init__(self, probe: Callable[[], None], is_suspicious: Callable[[Exception], bool]) -> None:
        self._probe = probe
        self._is_suspicious = is_suspicious
        self._is_open = False
        self._closed = threading.Event()
        self._prober: threading.Thread | None = None
        self._answered: threading.Event | None = None
        self._lock = threading.Lock()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Raises DatabaseUnreachableError while the breaker is open; an error of a lost connection starts a probe."""
        if self._is_open:
            raise DatabaseUnreachableError("the database did not answer a moment ago")
        try:
            yield
        except Exception as error:
            if self._is_suspicious(error):
                self._suspect(error)
            raise

    def _suspect(self, error: Exception) -> None:
        """Waits for a probe's answer; opens the breaker when there is none in half a second."""
        with self._lock:
            if self._is_open:
                return
            if self._answered is None:
                self._answered = threading.Event()
                self._prober = threading.Thread(
                    target=self._look, args=(self._answered,), name="database-probe", daemon=True
                )
                self._prober.start()
            answered = self._answered
        if not answered.wait(_PROBE_SECONDS):
            self._open(answered, error)

    def _open(self, answered: threading.Event, error: Exception) -> None:
        with self._lock:
            if self._is_open or answered is not self._answered:
                return
            self._is_open = True
        log.warning("the database can't be reached, refusing until it is back: %s", error)

    def close(self) -> None:
        """Stops the probing thread."""
        self._closed.set()
        if self._prober is not None:
            self._prober.join()

    def _look(self, answered: threading.Event) -> None:
        """Probes until the database answers; each failed probe opens the breaker."""
        while not self._closed.is_set():
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it is, the database is not back
                self._open(answered, error)
                answered.set()
                self._closed.wait(_PROBE_SECONDS)
            else:
                break
        with self._lock:
            was_open, self._is_open, self._answered = self._is_open, False, None
        answered.set()
        if was_open:
            log.info("the database is back")


def _cut(driver: psycopg.Connection) -> None:
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error) as error:
        log.debug("the connection was gone already: %s", error)
