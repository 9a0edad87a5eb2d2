"""Whether a job is taken at all: one that could not be done in time, or for which there is no room, is refused."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tidegate import clock
from tidegate.errors import CannotFinishInTime, Unavailable
from tidegate.forecast import LaneView, earliest_finish
from tidegate.lanes import Lanes
from tidegate.operations import Operation

_BACKLOG_RETRY = timedelta(seconds=30)
_DISK_RETRY = timedelta(minutes=1)
_DISK_LOOK_SECONDS = 5.0
_DISK_FULL = 0.9


class Disk:
    """The disk of the data folder, looked at every few seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = float("-inf")
        self._is_full = False

    def is_full(self) -> bool:
        """Whether 90 % of it are used: the database needs the rest to bring accepted jobs to their end."""
        if clock.monotonic() - self._looked_at > _DISK_LOOK_SECONDS:
            try:
                usage = shutil.disk_usage(self._folder)
            except OSError:
                return False  # no such folder yet: the database will say what is wrong
            self._is_full = usage.used / usage.total >= _DISK_FULL
            self._looked_at = clock.monotonic()
        return self._is_full


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The rules of the door. `max_backlog`: jobs that wait, for one client in one lane. `disk` None: not ours."""

    lanes: Lanes
    max_backlog: int
    disk: Disk | None = None

    def check(
        self, operation: Operation, *, client_id: str, timeout: timedelta, delay: timedelta, ahead: int = 0
    ) -> None:
        """Raises Unavailable or CannotFinishInTime. `delay`: how far ahead the job may start at the earliest;
        `ahead`: how many jobs of the same request go before it.

        Advisory: it decides by the lanes' last sample and by what this process submitted since.
        """
        if self.disk and self.disk.is_full():
            raise Unavailable("the data disk is 90 % full", _DISK_RETRY)
        lane = self.lanes.view(operation.downstream)
        if lane is None:
            return
        own = self.lanes.submitted_since_sample(operation.downstream, client_id) + ahead
        if lane.backlog_of(client_id) + own >= self.max_backlog:
            raise Unavailable(
                f"{self.max_backlog} of your jobs wait for {operation.downstream}, more are not taken", _BACKLOG_RETRY
            )
        if operation.admission:
            submitted = self.lanes.submitted_since_sample(operation.downstream) + ahead
            self._check_time(operation, lane, timeout, delay, submitted)

    def _check_time(
        self, operation: Operation, lane: LaneView, timeout: timedelta, delay: timedelta, submitted: int
    ) -> None:
        now = lane.downstream.seen_at
        finish = earliest_finish(lane, now + delay, submitted)
        if finish is not None and finish > now + timeout:
            raise CannotFinishInTime(
                f"{operation.downstream} is busy: it would not be done within its {timeout.total_seconds():g} seconds",
                retry_after=finish - now - timeout,
                earliest_finish=finish,
            )
