"""How fast one client may submit and poll: what comes in too fast is refused, in each process by itself."""

import threading
from dataclasses import dataclass

from tidegate import clock, pacing

_MOST_CLIENTS = 100_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a request is within the limit. `remaining`: how many more are, now; the durations are seconds."""

    allowed: bool
    rate: pacing.Rate
    remaining: int
    retry_after_seconds: float


class ClientLimit:
    """One limit for every client: so many requests a period, all at once if they like (GCRA with a full burst)."""

    def __init__(self, rate: pacing.Rate) -> None:
        self._rate = rate
        self._allowance = pacing.Allowance(rates=(rate,), burst=rate.calls)
        self._paces: dict[str, pacing.Pace] = {}
        self._lock = threading.Lock()

    def ask(self, client_id: str) -> Verdict:
        """Counts one request of the client, if it is allowed."""
        now = int(clock.monotonic() * 1e6)
        with self._lock:
            if len(self._paces) >= _MOST_CLIENTS:
                self._paces = {client: pace for client, pace in self._paces.items() if pace.free_at > now}
            slots, pace = pacing.take(
                self._allowance, self._paces.get(client_id, pacing.Pace()), now=now, wanted=1, horizon=0
            )
            self._paces[client_id] = pace
        used = -(-max(0, pace.free_at - now) // self._rate.interval)
        wait = max(0, pacing.next_slot(self._allowance, pace, now=now) - now)
        return Verdict(
            allowed=bool(slots),
            rate=self._rate,
            remaining=max(0, self._rate.calls - used),
            retry_after_seconds=wait / 1e6,
        )
