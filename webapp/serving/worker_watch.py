"""A watchdog that kills a web worker which answers nothing for a minute; granian starts another.

A worker that stands still goes on as a process, so nobody would notice: not granian, not the supervisor, and Docker
restarts nothing that is unhealthy. The main process asks for /health/live as anybody would, over new connections, and
each answer says which worker gave it. One that has answered before and is not heard of any more is killed; granian then
starts another.
"""

import http.client
import logging
import os
import signal
import socket
import threading
from contextlib import suppress

import psutil

from tidegate import clock

log = logging.getLogger(__name__)

PROBE = "Tidegate-Probe"
"""Request header that asks which process answers; the answer's header of the same name has its pid."""
SILENT_SECONDS = 60.0
_ROUNDS = 12
# The system gives connections to workers at random. A round makes at most so many tries for each worker, while it
# lasts; the time for one answer leaves room for two more tries beside a worker that hangs.
_TRIES = 4
_SILENT_TRIES = 3


class WorkerWatch:
    """Probes the web workers, children of this process; `host`: a literal address, or localhost."""

    def __init__(self, host: str, port: int, *, workers: int, silent_seconds: float = SILENT_SECONDS) -> None:
        self._address = _reachable(host), port
        self._workers = workers
        self._round_seconds = silent_seconds / _ROUNDS
        self._answer_seconds = self._round_seconds / min(workers, _SILENT_TRIES)
        # Rounds since its last answer, of each worker that gave one.
        self._silent_rounds: dict[int, int] = {}

    def start(self) -> None:
        """Starts probing in a thread, as long as the process lives."""
        threading.Thread(target=self._run, name="worker-watch", daemon=True).start()

    def run_once(self) -> list[int]:
        """Probes all workers, and kills those that have been silent for too long; returns their pids."""
        answered = self._answered()
        children = {child.pid for child in psutil.Process().children()}
        silent = {pid: 0 if pid in answered else rounds + 1 for pid, rounds in self._silent_rounds.items()}
        self._silent_rounds = {pid: rounds for pid, rounds in silent.items() if pid in children}
        self._silent_rounds |= dict.fromkeys(answered & children, 0)
        late = [pid for pid, rounds in self._silent_rounds.items() if rounds >= _ROUNDS]
        for pid in late:
            log.error("worker %d has answered nothing in %g s and is killed", pid, self._round_seconds * _ROUNDS)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            del self._silent_rounds[pid]
        return late

    def _run(self) -> None:
        # The first workers are being forked now: a fork must not copy a lock that this thread holds.
        clock.sleep(self._round_seconds)
        while True:
            began = clock.monotonic()
            try:
                self.run_once()
            except Exception:  # without its watch a worker that stands still would do so for ever
                log.exception("the workers could not be asked whether they live")
            clock.sleep(max(0, began + self._round_seconds - clock.monotonic()))

    def _answered(self) -> set[int]:
        """The pids of the workers that answered, out of enough tries to find nearly always all of them."""
        found: set[int] = set()
        ends_at = clock.monotonic() + self._round_seconds
        for _ in range(_TRIES * self._workers):
            if (pid := self._ask()) is not None:
                found.add(pid)
            if len(found) >= self._workers or clock.monotonic() >= ends_at:
                break
        return found

    def _ask(self) -> int | None:
        connection = http.client.HTTPConnection(*self._address, timeout=self._answer_seconds)
        try:
            connection.request("GET", "/health/live", headers={PROBE: "1"})
            return int(connection.getresponse().headers.get(PROBE, ""))
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()


def _reachable(host: str) -> str:
    """The address to connect to for a server that listens on this one: loopback for 0.0.0.0 and ::."""
    with suppress(OSError):
        if socket.inet_pton(socket.AF_INET, host) == bytes(4):
            return "127.0.0.1"
    with suppress(OSError):
        if socket.inet_pton(socket.AF_INET6, host) == bytes(16):
            return "::1"
    return host
