"""Counters in memory, and a thread that adds them to the database's counters every two seconds."""

import bisect
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tidegate.database.connection import UNREACHABLE
from tidegate.metrics.families import Family

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, tuple[str, ...]]
"""A series: the family's name with `_bucket` or `_sum` for those of a histogram, and the labels' values; a bucket's
upper bound is the last of them. A bucket counts what falls into it and not into the one before."""
APART_SECONDS = 2.0
_HURRIED_SECONDS = 0.1
_INFINITE = "+Inf"


class Counts:
    """The counts of this process since they were last drained. A count costs a lock and no statement."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Key, float] = {}
        self.are_there = threading.Event()

    def add(self, family: Family, *labels: str, by: float = 1) -> None:
        """Adds to a counter; `labels` in the family's order."""
        if by:
            self._add({(family.name, labels): by})

    def observe(self, family: Family, seconds: float, *labels: str) -> None:
        """Adds one observation to a histogram."""
        seconds = max(0.0, seconds)
        found = bisect.bisect_left(family.buckets, seconds)
        bound = bound_text(family.buckets[found]) if found < len(family.buckets) else _INFINITE
        self._add({(f"{family.name}_bucket", (*labels, bound)): 1, (f"{family.name}_sum", labels): seconds})

    def drain(self) -> dict[Key, float]:
        """Returns the counts and starts from nothing again."""
        with self._lock:
            taken, self._counts = self._counts, {}
            self.are_there.clear()
        return taken

    def put_back(self, taken: Mapping[Key, float]) -> None:
        """Adds counts back that could not be written."""
        self._add(taken)

    def _add(self, more: Mapping[Key, float]) -> None:
        with self._lock:
            for key, by in more.items():
                self._counts[key] = self._counts.get(key, 0) + by
            self.are_there.set()


def bound_text(bound: float) -> str:
    """A histogram bucket's upper bound as the text of its label."""
    return _INFINITE if bound == float("inf") else repr(float(bound))


class CountWriter:
    """Writes the counts to the database at most every two seconds; nothing while nothing is counted.

    What a process that is killed had not written is lost: its last two seconds. What can't be written because the
    database is away is kept until it is back; if only the answer was lost it is counted twice.
    """

    def __init__(self, counts: Counts, write: Callable[[Mapping[Key, float]], None]) -> None:
        self._counts = counts
        self._write = write
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="counts", daemon=True)

    def start(self) -> None:
        """Starts the writing thread."""
        self._thread.start()

    def run_once(self) -> int:
        """Writes the counts now; returns the number of series. Raises one of UNREACHABLE, and keeps them then."""
        with self._writing:
            taken = self._counts.drain()
            if not taken:
                return 0
            try:
                self._write(taken)
            except BaseException:
                self._counts.put_back(taken)
                raise
        return len(taken)

    def turn(self) -> None:
        """As `run_once`; a failure is logged and not raised."""
        try:
            self.run_once()
        except UNREACHABLE as error:
            log.warning("counts are not written, the database can't be reached: %s", error)
        except Exception:  # what is counted must not end with one bad turn
            log.exception("counts could not be written")

    def stop(self) -> None:
        """Writes what is left and stops the thread. Gives up at once when the database is away."""
        self._stopped.set()
        self._hurried.set()
        self.turn()

    def hurry(self) -> None:
        """Writes the counts as they come from now on: the process may end soon without notice."""
        self._hurried.set()

    def _loop(self) -> None:
        while not self._stopped.is_set():
            if self._hurried.wait(APART_SECONDS):
                self._stopped.wait(_HURRIED_SECONDS)
            self._counts.are_there.wait()
            self.turn()
