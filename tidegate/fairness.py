"""Fair sharing: whose turn it is of those that could go, and who gives way where nothing is left. Pure.

**Of what flows** (calls of a downstream, webhooks) each has a turn on a virtual clock; the lowest goes first, and then
stands 1 / weight further (the passes of stride scheduling, Waldspurger 1995). The clock is the turn of the last that
was chosen, and nobody's turn lies before it: who was idle, or held by a limit of its own, has gained nothing by that
(start-time fair queueing, Goyal, Vin and Cheng 1996). So between two that could have gone all the time, calls divided
by weight differ by no more than 1 / weight of the one plus 1 / weight of the other.

**Of what is held** (places, open requests) nobody is refused while another has two more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from tidegate.priority_queue import PriorityQueue

TURN = 2**64
"""What a call of weight 1 moves a turn by: so large that rounding 1 / weight to a whole number adds up to nothing."""


@lru_cache(maxsize=1024)
def _stride(weight: float) -> int:
    return max(1, round(TURN / Fraction(weight)))


@dataclass(frozen=True, kw_only=True)
class Share:
    """One who takes turns. `turn`: when it is the next to go; `returned`: calls it was chosen for that were not made.

    A call that was not made is given back: it goes before others by as much as that call has cost it.
    """

    weight: float = 1.0
    turn: int = 0
    returned: int = 0

    @property
    def stride(self) -> int:
        """What one call moves its turn by."""
        return _stride(self.weight)

    def due(self, clock: int) -> int:
        """Its place in the order of those that could go now."""
        turn = max(self.turn, clock)
        return turn - self.returned * self.stride if self.returned else turn

    def chosen(self, at: int) -> "Share":
        """Its share after a call for which it was chosen at this turn."""
        if self.returned:
            return replace(self, turn=at, returned=self.returned - 1)
        return replace(self, turn=at + self.stride)

    def given_back(self) -> "Share":
        """Its share after a call, for which it was chosen, was surely not made."""
        return replace(self, returned=self.returned + 1)

    def weighing(self, weight: float, clock: int) -> "Share":
        """Its share with another weight, by which what it has ahead of the others is rescaled."""
        if weight == self.weight:
            return self
        ahead = max(0, self.turn - clock)
        return replace(self, weight=weight, turn=clock + round(ahead * Fraction(self.weight) / Fraction(weight)))


_NEWCOMER = Share()


@dataclass(kw_only=True)
class Turns:
    """The turns of some, by name, on one clock. Who could go now has entered; who is chosen has left again.

    Who has entered keeps its place in the order however often others are chosen: these all stood before it, so the
    clock, which is where they stood, has not passed it.
    """

    clock: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    _able: PriorityQueue = field(default_factory=PriorityQueue)

    def enter(self, name: str) -> None:
        """From now on it could go. Its turn lies not before the clock, whatever it has missed until now."""
        self._able.put(name, self.shares[name].due(self.clock))

    def leave(self, name: str) -> None:
        """It can't go after all."""
        self._able.discard(name)

    def next(self) -> str | None:
        """Whose turn it is of those that could go; None: nobody's."""
        first = self._able.first()
        return first[1] if first else None

    def choose(self) -> None:
        """It goes whose turn it is."""
        first = self._able.first()
        if first is None:
            return
        due, name = first
        self._able.discard(name)
        self._goes(name, due)

    def due(self, name: str) -> int:
        """Its place in the order of those that could go now, whether it has entered or not; a newcomer's is now."""
        return self.shares.get(name, _NEWCOMER).due(self.clock)

    def go(self, name: str) -> None:
        """It goes, without having entered: where more than the turn decides who is next."""
        self._goes(name, self.due(name))

    def _goes(self, name: str, due: int) -> None:
        share = self.shares.get(name, _NEWCOMER)
        self.clock = max(self.clock, due)
        self.shares[name] = share.chosen(due + share.returned * share.stride)

    def move_clock(self, clock: int) -> None:
        """The clock went on by choices that were made elsewhere: who could go stands where it would if it came now."""
        if clock != self.clock:
            self.clock = clock
            for name in self._able:
                self.enter(name)

    def forget(self, name: str) -> None:
        """It takes no turns any more."""
        self._able.discard(name)
        self.shares.pop(name, None)


@dataclass(kw_only=True)
class FairShare:
    """Turns on two levels: of the clients of a downstream, and of each client's partitions among themselves."""

    clients: Turns = field(default_factory=Turns)
    partitions: dict[str, Turns] = field(default_factory=dict)

    def enter(self, client: str, name: str) -> None:
        """From now on a partition could go."""
        turns = self.partitions[client]
        if turns.next() is None:
            self.clients.enter(client)
        turns.enter(name)

    def leave(self, client: str, name: str) -> None:
        """A partition can't go after all."""
        turns = self.partitions[client]
        turns.leave(name)
        if turns.next() is None:
            self.clients.leave(client)

    def next(self) -> tuple[str, str] | None:
        """Whose turn it is, as its client and its own name; None: nobody's."""
        client = self.clients.next()
        name = self.partitions[client].next() if client is not None else None
        return (client, name) if client is not None and name is not None else None

    def choose(self) -> None:
        """The partition whose turn it is goes; it enters again when it could go once more."""
        client = self.clients.next()
        if client is not None:
            turns = self.partitions[client]
            turns.choose()
            self.clients.choose()
            if turns.next() is not None:
                self.clients.enter(client)

    def set_client(self, client: str, share: Share) -> None:
        """Gives a client another share. Its place in the order is by that."""
        self.clients.shares[client] = share
        self.clients.leave(client)
        if self.partitions[client].next() is not None:
            self.clients.enter(client)

    def set_partition(self, client: str, name: str, share: Share) -> None:
        """Gives a partition another share; it enters when it could go."""
        if name in self.partitions[client].shares:
            self.leave(client, name)
        self.partitions[client].shares[name] = share

    def forget(self, client: str, name: str) -> None:
        """A partition takes no turns any more."""
        self.leave(client, name)
        turns = self.partitions[client]
        turns.forget(name)
        if not turns.shares:
            del self.partitions[client]
            self.clients.forget(client)


def gives_way(held: Mapping[str, int], newcomer: str) -> str | None:
    """Who gives one up for another that comes when none is left: who holds most, if that is at least two more.

    `held`: how many each holds. None: nobody, for then the other one would be worse off than the newcomer is now.
    """
    most = max(held, key=lambda name: (held[name], name), default=newcomer)
    return most if held.get(most, 0) >= held.get(newcomer, 0) + 2 else None
