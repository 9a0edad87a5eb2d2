"""Which scheduler releases the jobs of which lane, so that ten schedulers ask the database little more than one. Pure.

Rendezvous hashing (Thaler and Ravishankar, 1998): each lane belongs to the live scheduler whose hash with the lane's
name is the highest. They need no agreement: where two know of different schedulers, both release, and the row's version
sees to it that no job goes twice. When one starts or dies, only its own lanes change hands.
"""

from collections.abc import Collection
from hashlib import blake2b


class Ownership:
    """Tells a scheduler which lanes are its own. `own`: its id."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._alive: frozenset[str] = frozenset({own})
        self._known: dict[str, bool] = {}

    def update(self, alive: Collection[str]) -> None:
        """Takes in the ids of the schedulers that live now; this one counts in any case."""
        now_alive = frozenset({*alive, self._own})
        if now_alive != self._alive:
            self._alive = now_alive
            self._known.clear()

    def is_mine(self, lane: str) -> bool:
        """Whether this scheduler is the one to release the lane's jobs."""
        if len(self._alive) == 1:
            return True
        known = self._known.get(lane)
        if known is None:
            known = self._known[lane] = self._own == max(self._alive, key=lambda each: (_hash(each, lane), each))
        return known


def _hash(scheduler: str, lane: str) -> bytes:
    return blake2b(f"{scheduler} {lane}".encode(), digest_size=8).digest()
