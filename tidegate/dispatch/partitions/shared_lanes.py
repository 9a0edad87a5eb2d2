"""Plans the releases of shared lanes: those whose calls are shared by partitions, each in its turn."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from tidegate import clock
from tidegate.dispatch.batches import MOST_READ, BatchedJobs, Folded
from tidegate.dispatch.lane import Lane, LaneState, WaitingJob
from tidegate.dispatch.partitions.book import PartitionBook
from tidegate.dispatch.partitions.partition import Heads
from tidegate.dispatch.partitions.round import Round
from tidegate.dispatch.partitions.store import PartitionStore
from tidegate.dispatch.plan import Plan, may_be_followed, plan_polls
from tidegate.dispatch.room import NO_RIVALS, Rivals, Room
from tidegate.jobs.job import Call
from tidegate.operations.queues import Queue
from tidegate.operations.sharing import Sharing

_SURVEY_SECONDS = 1.0
# Jobs without a partition come from before the lane was shared, or from a web process of an earlier version.
_ADOPTION_SECONDS = 10.0
# After a survey it rests for so many times as long as that took; no longer, for the database may have stood still.
_REST = 20
_LONGEST_REST_SECONDS = 2.0
# A partition whose jobs are of a queue that is full is asked for them again after so long (microseconds).
_SOON = 50_000
_FEW = 8
# So many more jobs of a partition are read than it is expected to send: others may turn out to have none.
_MORE = 2


class SharedLanes:
    """The books of all shared lanes that this scheduler releases, and the plans by them.

    `unknown`: the operations that no worker runs; `learn` adds those among some jobs to them, and tells whether any is
    new. `open_calls`: reads so many calls of a lane that have no follower yet. `batches`: puts jobs of a partition
    together that go in one call.
    """

    def __init__(
        self,
        store: PartitionStore,
        unknown: Collection[str],
        learn: Callable[[Sequence[WaitingJob]], bool],
        open_calls: Callable[[str, int], Sequence[Call]],
        batches: BatchedJobs,
    ) -> None:
        self._store = store
        self._open_calls = open_calls
        self._unknown = unknown
        self._learn = learn
        self._batches = batches
        self._books: dict[str, PartitionBook] = {}
        self._expected: dict[str, int] = {}  # by lane, how many jobs went the last time
        self._chosen: dict[str, Collection[str]] = {}  # and of which partitions
        self._news: dict[str, set[str]] = {}
        self._survey_due: dict[str, float] = {}
        self._adoption_due: dict[str, float] = {}
        self._surveyed: dict[str, tuple[float, float]] = {}  # when each was surveyed, and how long that took

    def add(self, lane: str, key: str) -> None:
        """A partition got a job."""
        self._news.setdefault(lane, set()).add(key)

    def knows(self, lane: str) -> bool:
        """Whether it has the book of a lane: that is to be read as a shared one."""
        return lane in self._books

    def survey_soon(self) -> None:
        """Any partition may have got a job: all are asked for with the next release, unless they just were."""
        self._survey_due = {
            lane: at + min(_REST * took, took + _LONGEST_REST_SECONDS) for lane, (at, took) in self._surveyed.items()
        }

    def plan(self, state: LaneState, sharing: Sharing, rivals: Rivals = NO_RIVALS) -> Plan:
        """Plans a release. Nothing is changed by it: `went` takes in what was written."""
        lane, state = state.lane, replace(state, batched=self._batches.declared.keys())
        if lane.rests(state.now):
            return Plan(state=state, pace=lane.pace)
        polls, room = plan_polls(state, rivals)
        if polls.held_back is not None:
            return polls
        book = self._book(state, sharing)
        opened = self._opened(book, lane.name)
        open_calls: Sequence[Call] = ()
        if state.held and room.idle_threads and may_be_followed(lane):
            open_calls = self._open_calls(lane.name, room.idle_threads)
        along: dict[str, Sequence[WaitingJob]] = {}
        queues = {*room.by_queue, *([Queue.IO] if open_calls else [])}
        read = {**self._together(self._at_hand(book, state, queues), book, state, queues, along)}
        assume, more = self._expected.get(lane.name, 0) + _FEW, 0
        while (found := Round(book, polls, room, opened, read, open_calls=open_calls, assume=assume)).unread:
            assume *= 2
            # Where those whose turn it is have no job, many may have none: each time twice as many others are read.
            others = dict.fromkeys(islice((key for key in book.partitions if key not in read), more), 1)
            read |= self._together(self._heads(book, state, others | found.unread, queues), book, state, queues, along)
            more = max(_FEW, 2 * more)
        self._tidy(book, state, read, room)
        return Folded(companions=along).unfold(found.plan(), state)

    def went(self, plan: Plan, gone: Collection[str]) -> None:
        """Takes in that a plan was written, and which of its jobs went."""
        book = self._books.get(plan.state.lane.name)
        if book and plan.shared:
            self._expected[plan.state.lane.name] = len(gone)
            self._chosen[plan.state.lane.name] = plan.shared.partitions
            book.went(plan.shared.with_only(gone))

    def _book(self, state: LaneState, sharing: Sharing) -> PartitionBook:
        """The lane's book, exact as of the lane's row."""
        lane = state.lane
        book, keys = self._books.get(lane.name), self._news.pop(lane.name, set())
        if state.all_waiting:
            keys |= state.all_waiting.by_partition.keys() - (book.partitions.keys() if book else set())
        if clock.monotonic() >= self._survey_due.get(lane.name, 0.0):
            keys |= self._survey(state, sharing)
            if book:
                book.hold_no_more([*book.held])
        if book and (book.sharing, book.jitter) == (sharing, lane.jitter) and self._catches_up(book, lane):
            book.hold_no_more(keys)
        else:  # a copy that can't be brought up to date is made anew
            keys |= book.partitions.keys() if book else set()
            book = PartitionBook(turns=lane.turns, clock=lane.shared_clock, sharing=sharing, jitter=lane.jitter)
            self._books[lane.name] = book
        new = keys - book.partitions.keys()
        if new:
            partitions, clients = self._store.read_with_clients(lane.name, sharing, new)
            book.clients = {**clients, **book.clients}
            book.add(partitions)
        return book

    def _survey(self, state: LaneState, sharing: Sharing) -> set[str]:
        """Asks in which partitions jobs wait, and takes in jobs that have none."""
        lane, now = state.lane.name, clock.monotonic()
        if state.all_waiting and state.all_waiting.next_run_at is None:  # the lane's own read was one
            _, took = self._surveyed.get(lane, (now, 0.0))
            self._surveyed[lane] = (now, took)
            self._survey_due[lane] = now + _SURVEY_SECONDS
            return set()
        if now >= self._adoption_due.get(lane, 0.0):
            self._store.adopt(lane, sharing)
            self._adoption_due[lane] = now + _ADOPTION_SECONDS
        active = {*self._store.active(lane)}
        self._surveyed[lane] = (now, clock.monotonic() - now)
        self._survey_due[lane] = now + _SURVEY_SECONDS
        return active

    def _catches_up(self, book: PartitionBook, lane: Lane) -> bool:
        """Reads what has changed since the book's number; False: that is not all that has."""
        if book.turns == lane.turns:
            return True
        changes = self._store.changes(lane.name, book.sharing, since=book.turns)
        if changes.turns < lane.turns:
            return False
        book.changed(changes.partitions, changes.clients, clock=lane.shared_clock, turns=lane.turns)
        return True

    def _opened(self, book: PartitionBook, lane: str) -> Mapping[str, int]:
        return self._store.opened(lane) if book.has_concurrency else {}

    def _at_hand(self, book: PartitionBook, state: LaneState, queues: Collection[str]) -> Mapping[str, Heads]:
        """The first jobs of partitions that need no statement: of those that have some, and of those that went last."""
        if state.all_waiting is None:
            return {}
        likely = {*state.all_waiting.by_partition, *self._chosen.get(state.lane.name, ())}
        found = {key: _known_heads(book, state, key, queues) for key in likely if key in book.partitions}
        return {key: heads for key, heads in found.items() if heads is not None and key not in book.held}

    def _heads(
        self, book: PartitionBook, state: LaneState, wanted: Mapping[str, int], queues: Collection[str]
    ) -> Mapping[str, Heads]:
        """Reads the first jobs of partitions; those of operations that no worker runs are passed over."""
        lane = state.lane.name
        known = {key: each for key in wanted if (each := _known_heads(book, state, key, queues)) is not None}
        if len(known) == len(wanted):
            return known
        wanted = {key: number for key, number in wanted.items() if key not in known}
        strict = {key for key in wanted if book.partitions[key].limits.is_strict}
        heads = self._store.strict_heads(lane, strict) if strict else {}
        self._learn([job for each in heads.values() for job in each.jobs])
        heads = {**known, **{key: self._if_known(each) for key, each in heads.items()}}
        others = wanted.keys() - strict
        most = max(wanted.values()) + _MORE
        while others:
            read = self._store.heads(lane, others, most=most, queues=queues, without=self._unknown)
            if not self._learn([job for each in read.values() for job in each.jobs]):
                return {**heads, **read}
        return heads

    def _together(
        self,
        read: Mapping[str, Heads],
        book: PartitionBook,
        state: LaneState,
        queues: Collection[str],
        along: dict[str, Sequence[WaitingJob]],
    ) -> Mapping[str, Heads]:
        """The first jobs of partitions, each for those that go in one call with it, which are added to `along`."""
        most = self._batches.most(job for heads in read.values() for job in heads.jobs)
        if most == 1:
            return read
        cut = {
            key: min(MOST_READ, len(heads.jobs) * most)
            for key, heads in read.items()
            if not heads.is_all and self._batches.most(heads.jobs) > 1
        }
        together: dict[str, Heads] = {}
        for key, heads in {**read, **(self._heads(book, state, cut, queues) if cut else {})}.items():
            is_paced = bool(state.lane.allowance.rates or book.partitions[key].limits.rates)
            folded = self._batches.fold(state, heads.jobs, may_have_more=not heads.is_all, may_linger=not is_paced)
            along |= folded.companions
            due = [at for at in (heads.next_run_at, folded.next_due) if at is not None]
            together[key] = replace(heads, jobs=folded.heads, next_run_at=min(due, default=None))
        return together

    def _if_known(self, heads: Heads) -> Heads:
        """The very first job of a partition, which holds those behind it while no worker runs its operation."""
        return replace(heads, jobs=[job for job in heads.jobs if job.operation not in self._unknown], is_all=True)

    def _tidy(self, book: PartitionBook, state: LaneState, read: Mapping[str, Heads], room: Room) -> None:
        """Partitions without jobs leave the book, and one whose jobs may run later waits till then."""
        is_complete = all(queue in room.by_queue for queue, size in state.occupancy.sizes.items() if size)
        for key, heads in read.items():
            if heads.jobs:
                continue
            if heads.next_run_at is not None:
                book.hold(key, heads.next_run_at)
            elif is_complete or not heads.is_all or _has_none(state, key):
                book.remove(key)
            else:
                book.hold(key, state.now + _SOON)


def _known_heads(book: PartitionBook, state: LaneState, key: str, queues: Collection[str]) -> Heads | None:
    """The first jobs of a partition as far as the lane's own read has all that wait; None: they are to be read.

    The order of a strict one is also kept by jobs that may not go now, which that did not read.
    """
    known = state.all_waiting
    if known is None or book.partitions[key].limits.is_strict:
        return None
    jobs = [job for job in known.by_partition.get(key, ()) if job.queue in queues]
    if not jobs and known.next_run_at is not None:
        return None
    return Heads(jobs=jobs, is_all=True, next_run_at=known.next_run_at)


def _has_none(state: LaneState, key: str) -> bool:
    """Whether the lane's own read has all that wait, and no job of this partition is among them."""
    known = state.all_waiting
    return known is not None and known.next_run_at is None and key not in known.by_partition
