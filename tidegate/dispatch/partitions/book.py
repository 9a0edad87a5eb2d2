"""The partitions of one downstream as the gate knows them: their turns, limits and paces. Pure.

It is a copy of rows. The number `turns` of the downstream's row rises with each change of one of them: with that number
the copy is exact, and otherwise it is read anew.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tidegate import rate_limit
from tidegate.clock import MICROSECOND
from tidegate.dispatch.lane import WaitingJob, is_kept_apart
from tidegate.dispatch.partitions.partition import Chosen, Heads, Partition, SharedClient, own_allowance
from tidegate.dispatch.plan import HORIZON, LEAD, Plan, can_follow, followers_of, released_at
from tidegate.dispatch.room import Room
from tidegate.fairness import FairShare, Share, Turns
from tidegate.jobs.job import Call, Released
from tidegate.operations.queues import Queue
from tidegate.operations.sharing import key_of

# A partition that its own rate holds is looked at before its slot as a lane is, and not all the time.
_SOONEST = 0.02


@dataclass(kw_only=True)
class PartitionBook:
    """The partitions of one lane that have jobs waiting. `clock`: of the clients' turns; `turns`: as of that number.

    `held`: by key, when the first job of a partition may run, where none may now (microseconds).
    """

    turns: int
    clock: int
    clients: dict[str, SharedClient]
    partitions: dict[str, Partition]
    held: dict[str, int] = field(default_factory=dict)

    def add(self, new: Mapping[str, Partition]) -> None:
        """Takes in partitions as they were read. One whose weight was changed meanwhile owes accordingly."""
        for key, each in new.items():
            clock = self.clients[each.client].clock
            self.partitions[key] = replace(each, share=each.share.weighing(each.limits.weight, clock))

    def fair_share(self) -> FairShare:
        """The turns as they stand. Nobody has entered yet."""
        within: defaultdict[str, dict[str, Share]] = defaultdict(dict)
        for each in self.partitions.values():
            within[each.client][each.name] = each.share
        return FairShare(
            clients=Turns(clock=self.clock, shares={client: self.clients[client].share for client in within}),
            partitions={
                client: Turns(clock=self.clients[client].clock, shares=shares) for client, shares in within.items()
            },
        )


class Round:
    """One release of a shared lane: for each slot of the lane it chooses a partition, whose first job goes.

    `polls`: what goes before. `opened`: calls that are open, by partition. `read`: the first jobs of partitions. Where
    more would be needed, they are taken for granted: then it is no plan, but tells by `unread` how many jobs of which
    partitions to read. `open_calls`: those that followers may follow. No more than `assume` jobs
    are taken for granted.
    """

    def __init__(
        self,
        book: PartitionBook,
        polls: Plan,
        room: Room,
        opened: Mapping[str, int],
        read: Mapping[str, Heads],
        *,
        open_calls: Sequence[Call],
        assume: int,
    ) -> None:
        self._book = book
        self._polls = polls
        self._state = state = polls.state
        self._end = state.now + HORIZON // MICROSECOND
        self._left = dict(room.by_queue)
        self._most = max(room.by_queue.values(), default=0)
        self._opened = Counter(opened)
        self._read = read
        self._waiting = {key: list(heads.jobs) for key, heads in read.items()}
        self._apart: set[str] = set()
        self._paces: dict[str, rate_limit.Pace] = {}
        self._later: list[tuple[int, str]] = []
        self._rests: list[int] = []
        self._fair = book.fair_share()
        self._by_job: dict[str, str] = {}
        self.chosen: Counter[str] = Counter()
        self.unread: dict[str, int] = {}
        self._assumed = 0
        self.released: list[Released] = []
        self.pace = polls.pace
        self.held_back: int | None = None
        for key in book.partitions:
            self._enter(key, state.now)
        while self.chosen.total() < self._most and self._assumed < assume and self._go():
            pass
        self._followers: list[Released] = []
        self._open_calls = open_calls
        self._choose_followers(room)

    def plan(self) -> Plan:
        """The release as a plan, behind that of the polls."""
        now = self._state.now
        next_due = [] if self._polls.next_due is None else [self._polls.next_due]
        if self._rests:
            next_due.append(max(_SOONEST, (min(self._rests) - now) / 1e6))
        if self._later and self.chosen.total() < self._most:
            next_due.append(max(_SOONEST, (self._later[0][0] - now - LEAD // MICROSECOND) / 1e6))
        plan = replace(
            self._polls,
            released=[*self._polls.released, *self.released],
            pace=self.pace,
            held_back=None if self.held_back is None else (self.held_back - now) / 1e6,
            next_due=min(next_due, default=None),
            shared=self._changes(),
        )
        return plan.followed_by(self._followers, self._open_calls) if self._followers else plan

    def _changes(self) -> Chosen:
        partitions = {
            key: replace(
                each,
                share=self._fair.partitions[each.client].shares[each.name],
                pace=self._paces.get(key, each.pace),
                released=each.released + self.chosen[key],
            )
            for key, each in ((key, self._book.partitions[key]) for key in self.chosen)
        }
        clients = {
            client: SharedClient(share=self._fair.clients.shares[client], clock=self._fair.partitions[client].clock)
            for client in {each.client for each in partitions.values()}
        }
        return Chosen(
            partitions=partitions,
            clients=clients,
            clock=self._fair.clients.clock,
            turns=self._book.turns + len(self._by_job),
            by_job=self._by_job,
            leaves_none=not self._book.partitions,
        )

    def _go(self) -> bool:
        """Lets the first job go of the partition whose turn it is at the lane's next slot; False: no more may go."""
        now, lane = self._state.now, self._state.lane
        at = now if self._fair.next() is not None or not self._later else self._later[0][0]
        if at > self._end:  # a partition's own limit holds it, and no other could go: the lane itself is not held
            return False
        slots, pace = rate_limit.take_slots(lane.allowance, self.pace, now=at, wanted=1, horizon=max(0, self._end - at))
        if not slots or slots[0] > self._end:
            self.held_back = rate_limit.next_slot(lane.allowance, self.pace, now=at)
            return False
        slot = slots[0]
        while self._later and self._later[0][0] <= slot:
            each = self._book.partitions[heapq.heappop(self._later)[1]]
            self._fair.enter(each.client, each.name)
        went = self._fair.next()
        if went is None:
            return bool(self._later)
        key = key_of(*went)
        if self._own_slot(key, slot) > slot:  # by the calendar: at an earlier instant it had room
            self._fair.leave()
            heapq.heappush(self._later, (self._own_slot(key, slot), key))
            return True
        job = self._job_of(key)
        if job is None and key in self._read and self._read[key].is_all:
            self._fair.leave()
            return True
        self._fair.choose()
        self.chosen[key] += 1
        self._opened[key] += 1
        if job is None or not job.paced_by_calls:
            self.pace = pace
            self._take_own_slot(key, slot)
        if job is None:
            self.unread[key] = self.chosen[key]
            self._assumed += 1
        else:
            self._release(key, job, now if job.paced_by_calls else slot)
        self._enter(key, slot)
        return True

    def _choose_followers(self, room: Room) -> None:
        """Chooses whose jobs follow open calls, in turn as well. Partitions with a rate of their own have none."""
        anew = sum(job.queue == Queue.IO for job in self.released)
        targets = len(self._open_calls) + anew
        most = min(targets, followers_of(self._state, room.idle_threads, released=len(self.released)))
        while len(self._followers) < most and (went := self._fair.next()) is not None:
            key = key_of(*went)
            each = self._book.partitions[key]
            job = None if each.limits.rates else self._follower_of(key)
            if job is None:
                if not each.limits.rates and self._needs(key):
                    self.unread[key] = self.chosen[key] + 1
                self._fair.leave()
                continue
            self._fair.choose()
            self.chosen[key] += 1
            self._opened[key] += 1
            self._followers.append(self._released(key, job, self._state.now))
            self._enter(key, self._state.now)

    def _needs(self, key: str) -> bool:
        """Whether more jobs of a partition may wait than were read."""
        return key not in self._read or (not self._read[key].is_all and not self._waiting[key])

    def _follower_of(self, key: str) -> WaitingJob | None:
        jobs = self._waiting.get(key, [])
        job = next((job for job in jobs if can_follow(job, self._state.batched)), None)
        if job is not None:
            jobs.remove(job)
        return job

    def _release(self, key: str, job: WaitingJob, slot: int) -> None:
        self._left[job.queue] -= 1
        if is_kept_apart(job):
            self._apart.add(job.queue)
        self.released.append(self._released(key, job, slot))

    def _released(self, key: str, job: WaitingJob, slot: int) -> Released:
        turn = self._book.turns + len(self._by_job) + 1
        released = replace(released_at(job, slot, self._state.now), partition=key, turn=turn)
        self._by_job[released.job_id] = key
        return released

    def _job_of(self, key: str) -> WaitingJob | None:
        """Takes the first job of a partition for whose queue there is a place; None: there is none among those read."""
        jobs = self._waiting.get(key, [])
        for job in jobs:
            if self._left.get(job.queue, 0) > 0 and not (is_kept_apart(job) and job.queue in self._apart):
                jobs.remove(job)
                return job
        return None

    def _take_own_slot(self, key: str, slot: int) -> None:
        limits = self._book.partitions[key].limits
        if limits.rates:
            before = self._paces.get(key, self._book.partitions[key].pace)
            allowance = own_allowance(limits, self._state.lane.jitter)
            _, self._paces[key] = rate_limit.take_slots(allowance, before, now=slot, wanted=1, horizon=0)

    def _own_slot(self, key: str, at: int) -> int:
        """When a partition's own rates have room, not before `at`."""
        each, lane = self._book.partitions[key], self._state.lane
        if not each.limits.rates:
            return at
        return rate_limit.next_slot(own_allowance(each.limits, lane.jitter), self._paces.get(key, each.pace), now=at)

    def _enter(self, key: str, at: int) -> None:
        """A partition may go from its own next slot on, unless it is paused, or has as many calls open as it may."""
        each = self._book.partitions[key]
        if each.paused or (each.limits.most_open is not None and self._opened[key] >= each.limits.most_open):
            return
        now, chosen = self._state.now, self.chosen[key]
        if (rests_until := each.rests_until(now, chosen=chosen)) is not None:  # as a lane, to the end and not before
            self._rests.append(rests_until)
            return
        if each.announced_room(now, held=self._opened[key], chosen=chosen) == 0:  # until the answer of one that is out
            return
        own = max(at, self._book.held.get(key, 0))
        if each.limits.rates:
            allowance, pace = own_allowance(each.limits, self._state.lane.jitter), self._paces.get(key, each.pace)
            settled = rate_limit.settle(allowance, pace, now=now)
            if settled is not pace and key not in self._paces:  # kept, else each look would put the slot off again
                self._book.partitions[key] = replace(each, pace=settled)
            own = self._own_slot(key, own)
        if own <= at:
            self._fair.enter(each.client, each.name)
        else:
            heapq.heappush(self._later, (own, key))
