"""The sweep: repairs what no message will (expired jobs, lost leases, lost messages, places of the dead, old rows)."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.maintenance.cluster_facts import Outlook
from tidegate.maintenance.store import MaintenanceStore

# Rows that one step moves at the most.
MOST_MOVED = 500
# Erasing cascades to bodies and attempts; a small number lets other writers in between.
MOST_ERASED = 100
# Seconds from one sweep to the next.
SWEEP_SECONDS = 1.0
_NEARLY = 0.8
LONGEST_WAIT = timedelta(minutes=5)
"""Before a job is tried again, where its operation says nothing longer: the longest Retry-After that is obeyed."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """The number of rows that each step of a sweep moved."""

    expired: int
    rescued: int
    unclaimed: int
    freed: int
    pruned: int

    @property
    def total(self) -> int:
        return self.expired + self.rescued + self.unclaimed + self.freed + self.pruned

    @property
    def is_full(self) -> bool:
        """Whether a step moved as many as it may: there is more to do at once."""
        return max(self.expired, self.rescued, self.unclaimed, self.freed) >= MOST_MOVED or self.pruned >= MOST_ERASED


def sweep(
    upkeep: MaintenanceStore,
    *,
    retention: timedelta,
    watch: "ClockWatch | None" = None,
    longest_wait: timedelta = LONGEST_WAIT,
    prunes: bool = True,
    outlook: Outlook | None = None,
) -> Swept:
    """Runs each step that has something to do, once; it moves at most `MOST_MOVED` or `MOST_ERASED` rows.

    Each is one guarded UPDATE: any number of sweeps may run side by side.
    `watch`: says what can be believed of leases and places; None: all. `longest_wait`: before a job is tried again.
    `prunes`: whether old rows are erased, too, which is in no hurry. `outlook`: what a look of this moment saw; None:
    it looks itself.
    """
    due = outlook or upkeep.read_outlook()
    until = watch.believed_until(due.now) if watch else due.now
    if watch and (watch.may_be_behind or watch.is_behind):
        if behind := upkeep.put_right(lease=watch.lease, longest_wait=longest_wait, is_known=watch.is_behind):
            log.warning(
                "the database's clock was set back; %d instant(s) that it left in the future are put right", behind
            )
        watch.may_be_behind = watch.is_behind = False
    expired = upkeep.expire(MOST_MOVED) if due.deadlines else 0
    try:
        rescued = upkeep.rescue(MOST_MOVED, until=until) if until and due.leases else 0
        freed = upkeep.free_places(MOST_MOVED, until=until) if until and due.places else 0
    except UNREACHABLE:
        if watch:
            watch.distrust()
        raise
    return Swept(
        expired=expired,
        rescued=rescued,
        unclaimed=upkeep.take_back_unclaimed(MOST_MOVED) if due.places else 0,
        freed=freed,
        pruned=upkeep.prune(MOST_ERASED, retention=retention) if prunes else 0,
    )


class ClockWatch:
    """Decides whether a lease that ran out by the database's clock means a dead worker.

    A lease or place that ran out says so only if it could have been renewed. While the database stood still, was away
    or locked, it could not; nor when the clock was set. So nothing is believed for one lease after a look that came
    late, failed or showed that the clock jumped: in that time every live worker renews its own. The same holds at the
    start, before which nothing is known. And what is believed had run out at an earlier look already: a database that
    is just back has had time for those who waited for it.
    """

    def __init__(self, lease: timedelta) -> None:
        self.lease = lease
        self.may_be_behind, self.is_behind = True, False
        """Whether the clock may have been set back, or surely was, since what that leaves ahead of it was put right."""
        self._lease = lease.total_seconds()
        self._looks: list[tuple[datetime, float]] = []  # the last two that lie apart, the older first
        self._trusted_from = float("inf")

    def distrust(self) -> None:
        """Believes no expiry for one lease from now on: workers may have been unable to renew theirs."""
        self._trusted_from = clock.monotonic() + self._lease

    def believed_until(self, now: datetime) -> datetime | None:
        """The instant up to which an expired lease or place can be believed to have expired; None: none can, now.

        To be called after every look, with the database's clock as it was then.
        """
        monotonic = clock.monotonic()
        if self._looks:
            before, then = self._looks[-1]
            passed = monotonic - then
            jump = (now - before).total_seconds() - passed
            if passed > self._lease / 2 + SWEEP_SECONDS or abs(jump) > self._lease / 2:
                self.distrust()
            self.is_behind |= jump < -self._lease / 2
            if passed < SWEEP_SECONDS * _NEARLY:  # a look right after another one replaces it
                self._looks.pop()
        else:
            self.distrust()  # also if there could be no look for long since the start
        self._looks = [*self._looks[-1:], (now, monotonic)]
        if monotonic < self._trusted_from:
            return None
        return self._looks[0][0]
