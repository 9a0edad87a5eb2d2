"""Fair sharing of webhook senders: which deliveries may go now, so that no receiver takes all of the senders' places.

Places are threads that wait for somebody else's server. A receiver that has not answered yet, or lately not or slowly,
gets one at a time, and all such together at most half; one that answers promptly gets up to a quarter. So whoever
names a thousand dead hosts slows only those that nobody knows yet.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A server that webhooks are sent to. `name`: client and host.

    `due_at`: since when something is due for it, in microseconds; None: nothing is. `is_good`: it answered promptly the
    last time.
    """

    name: str
    due_at: int | None
    in_flight: int
    is_good: bool

    @property
    def client(self) -> str:
        """The client whose receiver it is."""
        return self.name.partition(" ")[0]


def choose(receivers: Sequence[Receiver], *, places: int) -> dict[str, int]:
    """Decides how many deliveries each receiver may be sent now; fewer may be due.

    `receivers`: all with something due or in flight.
    Places go round: to the client with the fewest in flight, of its receivers to the one with the fewest, then to the
    one that waits longest.
    """
    most_of_one, most_of_unknown = max(1, places // 4), max(1, places // 2)
    taken = {each.name: each.in_flight for each in receivers}
    by_client: Counter[str] = Counter()
    for each in receivers:
        by_client[each.client] += each.in_flight
    free = places - sum(taken.values())
    free_unknown = most_of_unknown - sum(each.in_flight for each in receivers if not each.is_good)
    waiting = [each for each in receivers if each.due_at is not None]
    chosen: Counter[str] = Counter()
    while free > 0:
        able = [
            each
            for each in waiting
            if (taken[each.name] < most_of_one if each.is_good else taken[each.name] < 1 and free_unknown > 0)
        ]
        if not able:
            break
        best = min(able, key=lambda each: (by_client[each.client], taken[each.name], each.due_at, each.name))
        chosen[best.name] += 1
        taken[best.name] += 1
        by_client[best.client] += 1
        free -= 1
        free_unknown -= not best.is_good
    return dict(chosen)
