"""What no message will put right: expired jobs, lost leases, lost messages, places of the dead, old rows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tidegate import clock
from tidegate.store.upkeep import Outlook, UpkeepStore

BATCH = 500
# Erasing cascades to bodies and attempts; small batches let other writers in between.
PRUNE_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class Swept:
    """How many rows each step moved."""

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
        """Whether a step filled its batch: there is more to do at once."""
        return max(self.expired, self.rescued, self.unclaimed, self.freed) >= BATCH or self.pruned >= PRUNE_BATCH


def sweep(
    upkeep: UpkeepStore,
    *,
    retention: timedelta,
    may_rescue: Callable[[float], bool] = lambda _: True,
    prunes: bool = True,
    outlook: Outlook | None = None,
) -> Swept:
    """Does one batch of each step that has something to do. Each is one guarded UPDATE: any number of sweeps may run
    side by side.

    `may_rescue`: whether leases can be believed, by the database's clock; see ClockWatch. `prunes`: whether old rows
    are erased, too, which is in no hurry. `outlook`: what a look of this moment saw; None: it looks itself.
    """
    due = outlook or upkeep.look()
    leases_count = may_rescue(due.now.timestamp())
    return Swept(
        expired=upkeep.expire(BATCH) if due.deadlines else 0,
        rescued=upkeep.rescue(BATCH) if due.leases and leases_count else 0,
        unclaimed=upkeep.take_back_unclaimed(BATCH) if due.places else 0,
        freed=upkeep.free_places(BATCH) if due.places else 0,
        pruned=upkeep.prune(PRUNE_BATCH, retention=retention) if prunes else 0,
    )


class ClockWatch:
    """Notices that the database's clock jumped: leases then say nothing until they were all renewed once.

    A jump is a difference of more than half a lease to this process's monotonic clock since the last look.
    """

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease.total_seconds()
        self._difference: float | None = None
        self._trusted_from = 0.0

    def may_rescue(self, database_seconds: float) -> bool:
        """Whether leases can be believed now. Call it before every sweep."""
        monotonic = clock.monotonic()
        difference = database_seconds - monotonic
        if self._difference is not None and abs(difference - self._difference) > self._lease / 2:
            self._trusted_from = monotonic + self._lease
        self._difference = difference
        return monotonic >= self._trusted_from
