"""Clock synchronization: the database's clock translated to this process's monotonic clock."""

import threading

# Clocks drift apart, and a clock may be set: an offset that is older than this is measured anew.
_REMEMBERED_SECONDS = 10.0


class DatabaseClock:
    """The offset between the database's clock and ours, bounded by each exchange.

    The database read its clock after it was asked and before it answered. An answer that comes late, after a slow
    commit, says little; a quick one before it says more (the idea of Cristian, "Probabilistic clock synchronization",
    1989).
    Where the bounds leave a choice, instants come out late and never early. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._distance = 0.0  # monotonic - database, an upper bound
        self._known_at = float("-inf")

    def update(self, microseconds: int, *, asked_at: float, answered_at: float) -> None:
        """Takes in one reading of the database's clock, with the monotonic instants before and after it."""
        least, most = asked_at - microseconds / 1e6, answered_at - microseconds / 1e6
        with self._lock:
            is_old = answered_at - self._known_at > _REMEMBERED_SECONDS
            if is_old or not least <= self._distance <= most:
                self._distance, self._known_at = most, answered_at

    def due(self, microseconds: int) -> float:
        """The monotonic instant at which the database's clock will show this; only after a first reading."""
        with self._lock:
            return microseconds / 1e6 + self._distance
