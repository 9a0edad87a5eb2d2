"""Fair sharing of webhook senders: which deliveries may go now, so that no receiver takes all of the senders' places.

Places are threads that wait for somebody else's server. A receiver that has not answered yet, or lately not or slowly,
gets one at a time, and all such together at most half; one that answers promptly gets up to a quarter. So whoever
names a thousand dead hosts slows only those that nobody knows yet.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tidegate.fairness import Turns

_Order: TypeAlias = tuple[int, int, int, str]
"""What decides who is next: how many are on their way, the turn, since when something is due, the name."""
# Turns of receivers that have nothing to send are remembered, as one that comes back owes its last turn, but no more.
_MOST_REMEMBERED = 10_000


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
        return client_of(self.name)


def client_of(receiver: str) -> str:
    """The client whose receiver has this name."""
    return receiver.partition(" ")[0]


class SenderTurns:
    """The turns of clients, and of each client's receivers, as one scheduler remembers them."""

    def __init__(self) -> None:
        self._clients = Turns()
        self._receivers: dict[str, Turns] = {}

    def choose(self, receivers: Sequence[Receiver], *, places: int) -> dict[str, int]:
        """Decides how many deliveries each receiver may be sent now; fewer may be due. It changes no turn.

        `receivers`: all with something due or in flight.
        A place goes to the client with the fewest in flight; of those with equally many, to the one whose turn it is.
        Of that client's receivers likewise.
        """
        known = {each.name: each for each in receivers}
        taken = {each.name: each.in_flight for each in receivers}
        by_client: Counter[str] = Counter()
        for each in receivers:
            by_client[each.client] += each.in_flight
        most_of_one, most_of_unknown = max(1, places // 4), max(1, places // 2)
        free = places - sum(taken.values())
        free_unknown = most_of_unknown - sum(each.in_flight for each in receivers if not each.is_good)
        clients, own = _copy(self._clients), {client: _copy(turns) for client, turns in self._receivers.items()}

        def order_of_client(name: str) -> _Order:
            return by_client[name], clients.due(name), 0, name

        def order(name: str) -> _Order:
            return taken[name], own[client_of(name)].due(name), known[name].due_at or 0, name

        waiting: dict[str, list[_Order]] = {}
        for each in receivers:
            if each.due_at is not None:
                own.setdefault(each.client, Turns())
                waiting.setdefault(each.client, []).append(order(each.name))
        for names in waiting.values():
            heapq.heapify(names)
        in_order = sorted(map(order_of_client, waiting))
        chosen: Counter[str] = Counter()
        while free > 0 and (client := _first(in_order, order_of_client)):
            name = _first(waiting[client], order)
            if name is None:
                heapq.heappop(in_order)
                continue
            is_good = known[name].is_good
            if taken[name] >= (most_of_one if is_good else 1) or not (is_good or free_unknown > 0):
                heapq.heappop(waiting[client])
                continue
            clients.go(client)
            own[client].go(name)
            chosen[name] += 1
            taken[name] += 1
            by_client[client] += 1
            free -= 1
            free_unknown -= not is_good
        return dict(chosen)

    def released(self, numbers: Mapping[str, int]) -> None:
        """Moves the turns of those to whom so many go now, by receiver."""
        left = Counter(numbers)
        while left := +left:
            for name in left:
                client = client_of(name)
                self._clients.go(client)
                self._receivers.setdefault(client, Turns()).go(name)
            left.subtract({*left})

    def forget(self, present: Collection[str]) -> None:
        """Forgets turns of receivers that have nothing due or in flight, and what nobody can owe any more."""
        clients = {client_of(name) for name in present}
        _forget(self._clients, clients)
        for client, turns in self._receivers.items():
            _forget(turns, {*present} if client in clients else set())
        self._receivers = {client: turns for client, turns in self._receivers.items() if turns.shares}


def _first(waiting: list[_Order], order: Callable[[str], _Order]) -> str | None:
    """Who is first now, of a heap in an order in which each only moves back."""
    while waiting:
        name = waiting[0][-1]
        now = order(name)
        if now == waiting[0]:
            return name
        heapq.heapreplace(waiting, now)
    return None


def _copy(turns: Turns) -> Turns:
    return Turns(clock=turns.clock, shares=dict(turns.shares))


def _forget(turns: Turns, present: Collection[str]) -> None:
    """Forgets those that are gone and owe nothing; all that are gone where they are too many."""
    is_full = len(turns.shares) > len(present) + _MOST_REMEMBERED
    turns.shares = {
        name: share
        for name, share in turns.shares.items()
        if name in present or (share.turn > turns.clock and not is_full)
    }
