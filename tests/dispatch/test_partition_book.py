"""The order of partitions that the gate keeps from look to look: it chooses as one that is made anew for each look."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import rate_limit
from tidegate.call_log import Run
from tidegate.dispatch.announced import Budget
from tidegate.dispatch.lane import Lane, LaneState, Occupancy, WaitingJob, allowance_of
from tidegate.dispatch.partitions.book import PartitionBook
from tidegate.dispatch.partitions.partition import Heads, Partition, SharedClient, own_allowance
from tidegate.dispatch.partitions.round import Round
from tidegate.dispatch.plan import Plan
from tidegate.dispatch.room import Room
from tidegate.fairness import Share
from tidegate.operations.sharing import PartitionLimits, Sharing, key_of, named_by

BEGIN = 1_800_000_000_000_000
KEYS = [key_of(client, name) for client in "AB" for name in "abcd"]
_LIMITS = st.builds(
    PartitionLimits,
    weight=st.sampled_from([0.5, 1.0, 3.0]),
    rates=st.sampled_from([(), (), ("2/s",), ("10/m",)]),
    burst=st.sampled_from([1, 3]),
    concurrency=st.sampled_from([None, None, 1, 2]),
)
_WHAT = [
    *["look"] * 6,
    *(
        "look in vain",
        "half written",
        "time",
        "time",
        "ends",
        "ends",
        "ends",
        "clock set back",
        "given back",
        "refused",
        "announced",
        "late",
    ),
    *("paused", "held", "held no more", "removed", "limits", "others", "others"),
]
_EVENTS = st.lists(st.tuples(st.sampled_from(_WHAT), st.integers(0, 15), _LIMITS), min_size=30, max_size=60)
_PASSES = [1_000, 40_000, 500_000, 3_000_000]


@dataclass(kw_only=True)
class _World:
    """A lane whose jobs never end, its clock, and how many calls of each partition are open."""

    book: PartitionBook
    lane: Lane
    now: int = BEGIN
    opened: dict[str, int] = field(default_factory=dict)
    jobs: int = 0

    def round(self, book: PartitionBook, places: int) -> Round:
        state = LaneState(lane=self.lane, version="", occupancy=Occupancy(now=self.now, held={}, out={}, sizes={}))
        room = Room(by_queue={"io": places} if places else {})
        read: dict[str, Heads] = {}
        opened = dict(self.opened) if book.has_concurrency else {}
        polls = Plan(state=state, pace=self.lane.pace)
        number = self.jobs
        while True:
            found = Round(book, polls, room, opened, read, open_calls=(), assume=4)
            if not found.unread:
                return found
            for key, most in sorted(found.unread.items()):
                # Some partitions have no more than two jobs; all are the same whichever book asks.
                left = most if key[-1] in "ab" else min(most, 2)
                jobs = [self._job(number, key, each) for each in range(left)]
                read[key] = Heads(jobs=jobs, is_all=left < most, next_run_at=None)

    def _job(self, number: int, key: str, each: int) -> WaitingJob:
        job_id = UUID(int=(number << 32) + (KEYS.index(key) << 16) + each)
        return WaitingJob(job_id.hex, 0, "io", "echo", self.now, self.now + 10**9, False, 0, None)

    def anew(self) -> PartitionBook:
        """A book of the same rows."""
        book = PartitionBook(turns=self.book.turns, clock=self.book.clock, sharing=self.book.sharing)
        book.clients = dict(self.book.clients)
        book.add(self.book.partitions)
        for key, until in self.book.held.items():
            book.hold(key, until)
        return book

    def write(self, plan: Plan, number: int) -> None:
        gone = [job.job_id for job in plan.released][:number]
        if plan.shared and gone:
            self.book.went(plan.shared.with_only(gone))
            self.lane = replace(self.lane, pace=plan.pace)
            self.jobs += 1
            for job_id in gone:
                key = plan.shared.by_job[job_id]
                self.opened[key] = self.opened.get(key, 0) + 1

    def change(self, partition: Partition, clients: Mapping[str, SharedClient] | None = None) -> None:
        """What another process wrote."""
        self.book.changed({partition.key: partition}, clients or {}, clock=self.book.clock, turns=self.book.turns + 1)


def _happens(world: _World, what: str, number: int, limits: PartitionLimits) -> None:
    book, key = world.book, KEYS[number % len(KEYS)]
    if what == "time":
        world.now += _PASSES[number % len(_PASSES)]
    elif what == "clock set back":
        world.now -= 7_000_000
    elif what == "ends":
        if world.opened:
            ends = sorted(world.opened)[number % len(world.opened)]
            world.opened = {name: most for name, many in world.opened.items() if (most := many - (name == ends))}
    elif what == "others":  # another scheduler goes on where this one is, while some have no place for it
        other = world.anew()
        for each in [each for each in other.partitions if each[0] == "A" or (number % 2 and each[-1] in "ac")]:
            other.remove(each)
        found = replace(world, book=other, opened={}).round(other, number).plan()
        if found.shared and found.shared.partitions:
            chosen = found.shared
            book.changed(chosen.partitions, chosen.clients, clock=chosen.clock, turns=chosen.turns)
    elif key in book.partitions:
        _changes(world, what, book.partitions[key], limits)
    else:
        client, name = named_by(key)
        book.add({key: Partition(client=client, name=name, share=Share(), limits=limits)})


def _changes(world: _World, what: str, each: Partition, limits: PartitionLimits) -> None:
    book = world.book
    if what == "limits":
        world.change(replace(each, limits=limits))
    elif what == "given back":
        client = book.clients[each.client]
        returned = SharedClient(share=client.share.given_back(), clock=client.clock)
        world.change(replace(each, share=each.share.given_back()), {each.client: returned})
    elif what == "late" and each.limits.rates:
        _, pace = rate_limit.take_slots(
            own_allowance(each.limits, 0), each.pace, now=world.now + 50_000, wanted=1, horizon=rate_limit.AHEAD
        )
        world.change(replace(each, pace=pace))
    elif what == "refused":
        world.change(replace(each, rested_until=world.now + 700_000))
    elif what == "announced":
        budget = Budget(left=2, until=world.now + 2_000_000, used_up_at=each.released + 2)
        world.change(replace(each, budgets={"a": budget}))
    elif what == "paused":
        world.change(replace(each, paused=not each.paused))
    elif what == "held":
        book.hold(each.key, world.now + 700_000)
    elif what == "held no more":
        book.hold_no_more([each.key])
    elif what == "removed":
        book.remove(each.key)


def lane_of(rates: tuple[str, ...]) -> Lane:
    return Lane(
        name="lane",
        allowance=allowance_of(rates, 4, 0),
        jitter=0,
        pace=rate_limit.Pace(),
        concurrency=None,
        breaker_after=0,
        failures=0,
        refusals=0,
        paused=False,
        paused_until=0,
        call_seconds=None,
        released=0,
        budgets={},
    )


@settings(max_examples=30, deadline=None)
@given(
    limits=st.lists(_LIMITS, min_size=len(KEYS), max_size=len(KEYS)),
    rates=st.sampled_from([(), ("5/s",), ("100/s",)]),
    events=_EVENTS,
)
def test_a_book_that_is_kept_chooses_as_one_that_is_made_anew(
    limits: list[PartitionLimits], rates: tuple[str, ...], events: list[tuple[str, int, PartitionLimits]]
) -> None:
    """Whatever goes, comes back late, is changed by others or was planned and not written in between."""
    book = PartitionBook(turns=0, clock=0, sharing=Sharing(by="header"))
    book.clients = {client: SharedClient(share=Share(weight=weight)) for client, weight in (("A", 1.0), ("B", 2.0))}
    for key, its in zip(KEYS, limits, strict=True):
        client, name = named_by(key)
        book.add({key: Partition(client=client, name=name, share=Share(weight=its.weight), limits=its)})
    world = _World(book=book, lane=lane_of(rates))

    for what, number, its in events:
        if what not in {"look", "look in vain", "half written"}:
            _happens(world, what, number, its)
            continue
        anew = world.anew()
        kept, expected = world.round(book, number).plan(), world.round(anew, number).plan()
        assert kept == expected
        assert book.partitions == anew.partitions
        world.write(kept, {"look": number, "look in vain": 0, "half written": number // 2}[what])


def test_a_look_beside_thousands_that_their_own_rates_hold_costs_as_much_as_beside_ten() -> None:
    few, many = _seconds_of_looks(held=10), _seconds_of_looks(held=5000)

    assert many < 5 * few, "before, it was hundreds of times as much"


def _seconds_of_looks(*, held: int) -> float:
    """Processor time of looks at each of which one partition of all goes."""
    book = PartitionBook(turns=0, clock=0, sharing=Sharing(by="header"))
    book.clients = {"A": SharedClient(share=Share())}
    limits, slot = PartitionLimits(rates=("1/h",)), (Run(BEGIN, 1, 0),)
    pace = rate_limit.Pace(free_at=BEGIN, log=slot)
    book.add(
        {
            key_of("A", name): Partition(client="A", name=name, share=Share(), limits=limits, pace=pace)
            for name in map(str, range(held))
        }
    )
    book.add({KEYS[0]: Partition(client="A", name="a", share=Share(), limits=PartitionLimits())})
    world = _World(book=book, lane=lane_of(()))
    world.round(book, 1)
    began = time.process_time()
    for _ in range(100):
        plan = world.round(book, 1).plan()
        assert [job.partition for job in plan.released] == [KEYS[0]]
        world.write(plan, 1)
    return time.process_time() - began
