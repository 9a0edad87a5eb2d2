"""How long a bell rests after a message, so that in a burst many rings go as one. Pure."""

from collections import deque

GATHER_SECONDS = 0.003
"""Between two messages; the first after a rest goes out at once."""
BURST_SECONDS = 0.013
"""In a burst each message takes time from it, and rings are gathered for longer."""
# More than so many in so long are a burst: 230 a second. One client that submits as soon as it was answered is none.
_FEW = 3


class Tempo:
    """Of one bell, which tells it of each of its messages."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()

    def rest_after(self, rings: int, now: float) -> float:
        """Seconds until the next message may go, after one that says so many rings."""
        self._recent.append((now, rings))
        while now - self._recent[0][0] >= BURST_SECONDS:
            self._recent.popleft()
        return BURST_SECONDS if sum(count for _, count in self._recent) > _FEW else GATHER_SECONDS
