"""The rate limiter of clients' requests, submits and polls: the excess is refused, in each process by itself."""

import threading
from dataclasses import dataclass

from tidegate import clock, rate_limit

_MOST_CLIENTS = 100_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The rate limiter's answer: whether the request is within the limit, and what the RateLimit fields say.

    `remaining`: how many more are allowed now. `more_in_seconds`: until it is one more; for a refused request that is
    when to come again.
    """

    allowed: bool
    rate: rate_limit.Rate
    remaining: int
    more_in_seconds: float


class ClientLimit:
    """One limit for each client: so many requests a period, all at once if it likes (GCRA with a full burst)."""

    def __init__(self, rate: rate_limit.Rate) -> None:
        self._rate = rate
        self._allowance = rate_limit.Allowance(rates=(rate,), burst=rate.calls)
        self._paces: dict[str, rate_limit.Pace] = {}
        self._lock = threading.Lock()

    def ask(self, client_id: str) -> Verdict:
        """Counts one request of the client if it is allowed; says whether it is."""
        now = int(clock.monotonic() * 1e6)
        with self._lock:
            if len(self._paces) >= _MOST_CLIENTS:
                self._paces = {client: pace for client, pace in self._paces.items() if pace.free_at > now}
            slots, pace = rate_limit.take_slots(
                self._allowance, self._paces.get(client_id, rate_limit.Pace()), now=now, wanted=1, horizon=0
            )
            self._paces[client_id] = pace
        debt = max(0, pace.free_at - now)
        used = -(-debt // self._rate.interval)
        return Verdict(
            allowed=bool(slots),
            rate=self._rate,
            remaining=max(0, self._rate.calls - used),
            more_in_seconds=max(0, debt - (used - 1) * self._rate.interval) / 1e6 if used else 0.0,
        )
