"""Clock synchronization: the database's clock translated to this process's monotonic clock."""

import threading

# So much may two clocks drift apart at most, a second: NTP corrects a clock by up to 500 millionths.
_DRIFT = 5e-4


class DatabaseClock:
    """The distance between the database's clock and ours, bounded by each exchange.

    The database read its clock after it was asked and before it answered. What is known is the intersection of those
    bounds, which grow as they age (the idea of Cristian, "Probabilistic clock synchronization", 1989, and of Marzullo
    and Owicki, "Maintaining the time in a distributed system", 1983). Where it leaves a choice, instants come out late
    and never early. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._least, self._most = 0.0, 0.0  # monotonic - database
        self._known_at = float("-inf")

    def update(self, microseconds: int, *, asked_at: float, answered_at: float) -> None:
        """Takes in one reading of the database's clock, with the monotonic instants before and after it."""
        least, most = asked_at - microseconds / 1e6, answered_at - microseconds / 1e6
        with self._lock:
            drift = max(0.0, answered_at - self._known_at) * _DRIFT
            if most < self._least - drift or self._most + drift < least:  # one of the clocks was set
                self._least, self._most = least, most
            else:
                self._least, self._most = max(least, self._least - drift), min(most, self._most + drift)
            self._known_at = answered_at

    @property
    def error(self) -> float:
        """Seconds that an instant may come out late by: what is not known of the distance."""
        with self._lock:
            return self._most - self._least

    def shown(self, monotonic: float) -> int:
        """What the database's clock shows at the most at this monotonic instant; only after a first reading."""
        with self._lock:
            return round((monotonic - self._least) * 1e6)

    def due(self, microseconds: int) -> float:
        """The monotonic instant at which the database's clock will surely show this; only after a first reading."""
        with self._lock:
            return microseconds / 1e6 + self._most
