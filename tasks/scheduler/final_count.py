"""Work of a scheduler for the metrics alone: its heartbeat, and a count of final jobs each minute."""

from datetime import timedelta

import uuid_utils

from tidegate import clock
from tidegate.stores import FactStore

_BEAT_SECONDS = 5.0
_SILENT_AFTER = timedelta(seconds=15)
_COUNT_SECONDS = 60.0
# With millions of jobs one count takes seconds: it pauses for 99 times as long, so it uses 1 % of the time.
_REST_FACTOR = 99


class SchedulerHeartbeat:
    """The scheduler's heartbeat in the database."""

    def __init__(self, facts: FactStore) -> None:
        self._facts = facts
        self.id = str(uuid_utils.uuid7())
        self._due = 0.0

    def beat(self) -> None:
        """Writes the heartbeat if 5 s have passed. Call it at every turn."""
        if clock.monotonic() >= self._due:
            self._facts.beat_scheduler(self.id, until=_SILENT_AFTER)
            self._due = clock.monotonic() + _BEAT_SECONDS

    def end(self) -> None:
        """Removes the scheduler's row, when it stops in order."""
        self._facts.remove_scheduler(self.id)


class FinalJobCounter:
    """Counts the finished jobs in the database, by state."""

    def __init__(self, facts: FactStore) -> None:
        self._facts = facts

    def run_once(self) -> float:
        """Counts once; returns the seconds until the next count is due."""
        started = clock.monotonic()
        self._facts.count_final()
        return max(_COUNT_SECONDS, _REST_FACTOR * (clock.monotonic() - started))
