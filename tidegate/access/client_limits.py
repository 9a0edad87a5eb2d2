"""The rate limiter of clients' requests, submits and polls: the excess is refused, in each process by itself."""

import threading
from dataclasses import dataclass

from tidegate import clock
from tidegate.rate import Rate

_MOST_CLIENTS = 100_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The rate limiter's answer: whether the request is within the limit, and what the RateLimit fields say.

    `remaining`: how many more are allowed now. `more_in_seconds`: until it is one more; for a refused request that is
    when to come again.
    """

    allowed: bool
    rate: Rate
    remaining: int
    more_in_seconds: float


class ClientLimit:
    """One limit for each client: so many requests a period, all at once if it likes.

    The generic cell rate algorithm (ITU-T I.371, 1994) with a full burst: it has one number to keep for each client.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._free_at: dict[str, int] = {}
        self._lock = threading.Lock()

    def ask(self, client_id: str) -> Verdict:
        """Counts one request of the client if it is allowed; says whether it is."""
        now = int(clock.monotonic() * 1e6)
        with self._lock:
            if len(self._free_at) >= _MOST_CLIENTS:
                self._free_at = {client: free_at for client, free_at in self._free_at.items() if free_at > now}
            free_at = max(self._free_at.get(client_id, 0), now)
            is_allowed = free_at - (self._rate.calls - 1) * self._rate.interval <= now
            if is_allowed:
                free_at += self._rate.interval
            self._free_at[client_id] = free_at
        debt = free_at - now
        used = -(-debt // self._rate.interval)
        return Verdict(
            allowed=is_allowed,
            rate=self._rate,
            remaining=max(0, self._rate.calls - used),
            more_in_seconds=max(0, debt - (used - 1) * self._rate.interval) / 1e6 if used else 0.0,
        )
