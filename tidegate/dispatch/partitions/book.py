"""The partitions of one downstream as the gate knows them: their turns, limits and paces, and who may go. Pure.

It is a copy of rows. The number `turns` of the downstream's row rises with each change of one of them: with that number
the copy is exact, and otherwise what has a higher one is read.

Who could go stands in the order of turns from one look to the next, and who is held by its own rate in the order of its
own slots. So a look costs what can go now, however many others wait.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from tidegate import rate_limit
from tidegate.dispatch.partitions.partition import Chosen, Partition, SharedClient, own_allowance
from tidegate.fairness import FairShare, Turns
from tidegate.operations.sharing import Sharing, named_by
from tidegate.priority_queue import PriorityQueue


class PartitionBook:
    """The partitions of one lane that have jobs waiting. `clock`: of the clients' turns; `turns`: as of that number.

    `held`: by key, when the first job of a partition may run, where none may now (microseconds). `fair`: those that
    could go have entered. `later`: those that their own rates hold, or that wait for their first job, by when they may.
    `resting`: those that the downstream's answers hold, by when they may go on. `jitter`: of the lane.
    """

    def __init__(self, *, turns: int, clock: int, sharing: Sharing, jitter: int = 0) -> None:
        self.turns = turns
        self.clock = clock
        self.sharing = sharing
        self.jitter = jitter
        self.clients: dict[str, SharedClient] = {}
        self.partitions: dict[str, Partition] = {}
        self.held: dict[str, int] = {}
        self.fair = FairShare(clients=Turns(clock=clock))
        self.later = PriorityQueue()
        self.resting = PriorityQueue()
        self._with_concurrency: set[str] = set()
        self._announcing: set[str] = set()  # of which the downstream tells how many calls are left
        self._full: set[str] = set()
        self._unplaced: set[str] = set()  # stand nowhere until the next look
        self._seen_at = 0

    @property
    def has_concurrency(self) -> bool:
        """Whether any of the partitions may have only so many calls open."""
        return bool(self._with_concurrency or self._announcing)

    def add(self, new: Mapping[str, Partition]) -> None:
        """Takes in partitions as they were read. One whose weight was changed meanwhile owes accordingly."""
        for key, each in new.items():
            client = self.clients[each.client]
            share = each.share.weighing(each.limits.weight, client.clock)
            self.partitions[key] = replace(each, share=share)
            if each.client not in self.fair.partitions:
                self.fair.clients.shares[each.client] = client.share
                self.fair.partitions[each.client] = Turns(clock=client.clock)
            self.fair.set_partition(each.client, each.name, share)
            (self._with_concurrency.discard if each.limits.most_open is None else self._with_concurrency.add)(key)
            (self._announcing.add if each.budgets else self._announcing.discard)(key)
            self._unplaced.add(key)

    def remove(self, key: str) -> None:
        """No job waits in it."""
        each = self.partitions.pop(key)
        self.fair.forget(each.client, each.name)
        self.later.discard(key)
        self.resting.discard(key)
        self.held.pop(key, None)
        for some in (self._with_concurrency, self._announcing, self._full, self._unplaced):
            some.discard(key)

    def hold(self, key: str, until: int) -> None:
        """None of its jobs may run until then."""
        self.held[key] = until
        self._unplaced.add(key)

    def hold_no_more(self, keys: Iterable[str]) -> None:
        """These may have got jobs that may run."""
        for key in keys:
            if self.held.pop(key, None) is not None:
                self._unplaced.add(key)

    def begin(self, now: int, opened: Mapping[str, int]) -> None:
        """Begins a look: places those of which anything has changed since the last. `opened`: their open calls."""
        full = {key for key, number in opened.items() if self._is_full(key, number)}
        anew = self._unplaced | (full ^ self._full) | self._announcing
        while (first := self.resting.first()) and first[0] <= now:
            self.resting.discard(first[1])
            anew.add(first[1])
        if now < self._seen_at:  # the clock was set back: any pace may lie far ahead
            anew = {*self.partitions}
        self._full, self._unplaced, self._seen_at = full, set(), now
        for key in anew:
            self.place(key, now, opened.get(key, 0))
        self.enter_until(now)

    def enter_until(self, instant: int) -> list[str]:
        """Enters those whose own slots have come by then; returns them."""
        entered = []
        while (first := self.later.first()) and first[0] <= instant:
            key = first[1]
            self.later.discard(key)
            self.fair.enter(*named_by(key))
            entered.append(key)
        return entered

    def place(self, key: str, at: int, opened: int, pace: rate_limit.Pace | None = None, chosen: int = 0) -> None:
        """A partition may go from its own next slot on, unless it is paused, or has as many calls open as it may.

        `pace`: of its own rates after what a look has chosen; None: as the row has it. `chosen`: calls that a look has
        chosen.
        """
        each, now = self.partitions[key], self._seen_at
        self._displace(each, key)
        if each.paused or self._is_full(key, opened):
            return
        if (rests_until := each.rests_until(now, chosen=chosen)) is not None:  # as a lane, to the end and not before
            self.resting.put(key, rests_until)
            return
        if each.announced_room(now, held=opened, chosen=chosen) == 0:  # until the answer of one that is out
            return
        own = max(at, self.held.get(key, 0))
        if each.limits.rates:
            own = rate_limit.next_slot(self._allowance(each), pace or self._settled(each, at), now=own)
        if own <= at:
            self.fair.enter(each.client, each.name)
        else:
            self.later.put(key, own)

    def take_back(self, touched: Collection[str]) -> None:
        """Ends the choices of a look, which touched these: all is again as the rows are, and these are placed anew."""
        clients = {named_by(key)[0] for key in touched}
        self.fair.clients.clock = self.clock
        for client in clients:
            self.fair.partitions[client].clock = self.clients[client].clock
        for key in touched:
            each = self.partitions[key]
            self._displace(each, key)
            self.fair.set_partition(each.client, each.name, each.share)
        for client in clients:
            self.fair.set_client(client, self.clients[client].share)
        self._unplaced |= {*touched}

    def went(self, chosen: Chosen) -> None:
        """Takes in what a release has changed: of those that it chose, which stand nowhere since."""
        self.partitions.update(chosen.partitions)
        self.clients.update(chosen.clients)
        self.clock, self.turns = chosen.clock, chosen.turns
        self.take_back(chosen.partitions)

    def changed(
        self, new: Mapping[str, Partition], clients: Mapping[str, SharedClient], *, clock: int, turns: int
    ) -> None:
        """Takes in rows that others have written since the copy was made, and the lane's clock and number."""
        for client in clients.keys() & self.clients.keys():
            self.clients[client] = clients[client]
            if client in self.fair.partitions:
                self.fair.partitions[client].move_clock(clients[client].clock)
        self.clock, self.turns = clock, turns
        self.fair.clients.move_clock(clock)
        for client in clients.keys() & self.fair.partitions.keys():
            self.fair.set_client(client, self.clients[client].share)
        self.add({key: each for key, each in new.items() if key in self.partitions})

    def _is_full(self, key: str, opened: int) -> bool:
        each = self.partitions.get(key)
        return each is not None and each.limits.most_open is not None and opened >= each.limits.most_open

    def own_slot(self, key: str, at: int, pace: rate_limit.Pace | None) -> int:
        """When a partition's own rates have room, not before `at`; `pace` as for `place`."""
        each = self.partitions[key]
        return rate_limit.next_slot(self._allowance(each), pace or each.pace, now=at) if each.limits.rates else at

    def _allowance(self, each: Partition) -> rate_limit.Allowance:
        return own_allowance(each.limits, self.jitter)

    def _displace(self, each: Partition, key: str) -> None:
        self.later.discard(key)
        self.resting.discard(key)
        self.fair.leave(each.client, each.name)

    def _settled(self, each: Partition, now: int) -> rate_limit.Pace:
        """Keeps the pace as it is after a clock that was set back, else each look would put its slot off again."""
        settled = rate_limit.settle(self._allowance(each), each.pace, now=now)
        if settled is not each.pace:
            self.partitions[each.key] = replace(each, pace=settled)
        return settled
