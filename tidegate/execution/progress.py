"""Reports of progress: written at most four times a second; they stop an attempt that no longer counts."""

import logging
from collections.abc import Callable

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import AttemptStopped
from tidegate.operations.attempt_outcome import TIMED_OUT
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import TryAgain

log = logging.getLogger(__name__)

REPORT_EVERY_SECONDS = 0.25


class ProgressReporter:
    """Writes the progress of one attempt. `write`, and `read`, which writes nothing: whether it still counts.

    `ends`: when it must end (monotonic).
    """

    def __init__(self, write: Callable[[Progress], bool], read: Callable[[], bool], ends: Callable[[], float]) -> None:
        self._write = write
        self._read = read
        self._ends = ends
        self._next_write = 0.0
        self.timed_out: TryAgain | None = None

    def check_time(self) -> None:
        """Raises AttemptStopped when the attempt's time is over: that is a failed attempt, unlike any other stop."""
        if clock.monotonic() >= self._ends():
            self.timed_out = TIMED_OUT
            raise AttemptStopped("timed out")

    def report(self, progress: Progress) -> None:
        self.check_time()
        now = clock.monotonic()
        if now < self._next_write:
            return
        self._next_write = now + REPORT_EVERY_SECONDS
        self._stop_unless(lambda: self._write(progress), "progress not written")

    def check(self) -> None:
        """Raises AttemptStopped when the attempt no longer counts, without a report."""
        self.check_time()
        self._stop_unless(self._read, "not known whether the attempt still counts")

    def _stop_unless(self, counts: Callable[[], bool], what_if_not: str) -> None:
        try:
            if counts():
                return
        except UNREACHABLE as error:
            log.warning("%s, the database can't be reached: %s", what_if_not, error)
            return
        raise AttemptStopped("stopped")
