"""What a scheduler does for the metrics alone: says that it lives, and counts final jobs, so that no scrape has to."""

import uuid
from datetime import timedelta

from tidegate import clock
from tidegate.stores import FactStore

_BEAT_SECONDS = 5.0
_SILENT_AFTER = timedelta(seconds=15)
_COUNT_SECONDS = 60.0
# With millions of jobs kept one count takes seconds: the database is left alone for ninety-nine hundredths of the time.
_REST_FACTOR = 99


class Presence:
    """Says that this scheduler does its turns."""

    def __init__(self, facts: FactStore) -> None:
        self._facts = facts
        self._id = uuid.uuid4().hex
        self._due = 0.0

    def beat(self) -> None:
        """To be called at every turn; says it every 5 s."""
        if clock.monotonic() >= self._due:
            self._facts.scheduler_seen(self._id, until=_SILENT_AFTER)
            self._due = clock.monotonic() + _BEAT_SECONDS

    def end(self) -> None:
        """It stops in order."""
        self._facts.scheduler_gone(self._id)


class Census:
    """Counts the final jobs that are kept."""

    def __init__(self, facts: FactStore) -> None:
        self._facts = facts

    def run_once(self) -> float:
        """One count; the seconds after which the next is due."""
        started = clock.monotonic()
        self._facts.count_final()
        return max(_COUNT_SECONDS, _REST_FACTOR * (clock.monotonic() - started))
