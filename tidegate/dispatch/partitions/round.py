"""One release of a shared lane: which partitions go at which of its slots, in turn, and which jobs of theirs. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tidegate import rate_limit
from tidegate.clock import MICROSECOND
from tidegate.dispatch.lane import WaitingJob, is_kept_apart
from tidegate.dispatch.partitions.book import PartitionBook
from tidegate.dispatch.partitions.partition import Chosen, Heads, Partition, SharedClient, own_allowance
from tidegate.dispatch.plan import HORIZON, LEAD, Plan, can_follow, followers_of, released_at
from tidegate.dispatch.room import Room
from tidegate.jobs.job import Call, Released
from tidegate.operations.queues import Queue
from tidegate.operations.sharing import key_of, named_by

# A partition that its own rate holds is looked at before its slot as a lane is, and not all the time.
_SOONEST = 0.02


class Round:
    """One release of a shared lane: for each slot of the lane it chooses a partition, whose first job goes.

    `polls`: what goes before. `opened`: calls that are open, by partition. `read`: the first jobs of partitions. Where
    more would be needed, they are taken for granted: then it is no plan, but tells by `unread` how many jobs of which
    partitions to read. `open_calls`: those that followers may follow. No more than `assume` jobs are taken for granted.

    The choices are made in the book's own order, and taken back there: they hold when they are written.
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
        self._end = max(state.now, state.first_slot_at) + HORIZON // MICROSECOND
        self._left = dict(room.by_queue)
        self._most = max(room.by_queue.values(), default=0)
        self._opened = Counter(opened)
        self._read = read
        self._waiting = {key: list(heads.jobs) for key, heads in read.items()}
        self._apart = {*state.apart, *polls.apart}
        self._paces: dict[str, rate_limit.Pace] = {}
        self._fair = book.fair
        self._by_job: dict[str, str] = {}
        self._chosen: Counter[str] = Counter()
        self._number = 0  # of those that were chosen for a slot
        self._touched: set[str] = set()
        self.unread: dict[str, int] = {}
        self._assumed = 0
        self.released: list[Released] = []
        self.pace = polls.pace
        self.held_back: int | None = None
        self._followers: list[Released] = []
        self._open_calls = open_calls
        book.begin(state.now, opened)
        try:
            while self._number < self._most and self._assumed < assume and self._go():
                pass
            later = book.later.first() if self._number < self._most else None
            self._next_at = later and later[0]
            self._choose_followers(room)
            self._partitions, self._clients, self._clock = self._changes()
        finally:
            book.take_back(self._touched)

    def plan(self) -> Plan:
        """The release as a plan, behind that of the polls."""
        now = self._state.now
        next_due = [] if self._polls.next_due is None else [self._polls.next_due]
        if resting := self._book.resting.first():
            next_due.append(max(_SOONEST, (resting[0] - now) / 1e6))
        if self._next_at is not None:
            next_due.append(max(_SOONEST, (self._next_at - now - LEAD // MICROSECOND) / 1e6))
        plan = replace(
            self._polls,
            released=[*self._polls.released, *self.released],
            pace=self.pace,
            held_back=None if self.held_back is None else (self.held_back - now) / 1e6,
            next_due=min(next_due, default=None),
            shared=Chosen(
                partitions=self._partitions,
                clients=self._clients,
                clock=self._clock,
                turns=self._book.turns + len(self._by_job),
                by_job=self._by_job,
                leaves_none=not self._book.partitions,
                apart=frozenset(self._apart),
            ),
        )
        return plan.followed_by(self._followers, self._open_calls) if self._followers else plan

    def _changes(self) -> tuple[Mapping[str, Partition], Mapping[str, SharedClient], int]:
        """Those that were chosen and their clients, as they are after it, and the clients' clock."""
        partitions: dict[str, Partition] = {}
        clients: dict[str, SharedClient] = {}
        for key in self._chosen:
            each = self._book.partitions[key]
            turns = self._fair.partitions[each.client]
            partitions[key] = replace(
                each,
                share=turns.shares[each.name],
                pace=self._paces.get(key, each.pace),
                released=each.released + self._chosen[key],
            )
            clients[each.client] = SharedClient(share=self._fair.clients.shares[each.client], clock=turns.clock)
        return partitions, clients, self._fair.clients.clock

    def _go(self) -> bool:
        """Lets the first job go of the partition whose turn it is at the lane's next slot; False: no more may go."""
        now, lane = self._state.now, self._state.lane
        later = self._book.later.first()
        first = max(now, self._state.first_slot_at)
        at = first if self._fair.next() is not None or later is None else max(first, later[0])
        if at > self._end:  # a partition's own limit holds it, and no other could go: the lane itself is not held
            return False
        slots, pace = rate_limit.take_slots(lane.allowance, self.pace, now=at, wanted=1, horizon=max(0, self._end - at))
        if not slots or slots[0] > self._end:
            self.held_back = rate_limit.next_slot(lane.allowance, self.pace, now=at)
            return False
        slot = slots[0]
        self._touched.update(self._book.enter_until(slot))
        went = self._fair.next()
        if went is None:
            return self._book.later.first() is not None
        key = key_of(*went)
        if (own := self._book.own_slot(key, slot, self._paces.get(key))) > slot:  # at an earlier instant it had room
            self._leave(key)
            self._book.later.put(key, own)
            return True
        job = self._job_of(key)
        if job is None and key in self._read and self._read[key].is_all:
            self._leave(key)
            return True
        self._choose(key)
        self._number += 1
        if job is None or not job.paced_by_calls:
            self.pace = pace
            self._take_own_slot(key, slot)
        if job is None:
            # Those that were read and may not go now are passed over: without as many more it would read them again.
            self.unread[key] = self._chosen[key] + 2 * len(self._waiting.get(key, ()))
            self._assumed += 1
        else:
            self._release(key, job, now if job.paced_by_calls else slot)
        self._enter_again(key, slot)
        return True

    def _choose(self, key: str) -> None:
        self._fair.choose()
        self._touched.add(key)
        self._chosen[key] += 1
        self._opened[key] += 1

    def _leave(self, key: str) -> None:
        self._fair.leave(*named_by(key))
        self._touched.add(key)

    def _enter_again(self, key: str, at: int) -> None:
        pace = self._paces.get(key) or self._book.partitions[key].pace
        self._book.place(key, at, self._opened[key], pace, self._chosen[key])

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
                    self.unread[key] = self._chosen[key] + 1
                self._leave(key)
                continue
            self._choose(key)
            self._followers.append(self._released(key, job, self._state.now))
            self._enter_again(key, self._state.now)

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
