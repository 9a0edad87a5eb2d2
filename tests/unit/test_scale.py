"""The wanted number of workers, in a model of a cluster that obeys it: steps, a sine, refusals, pauses, restarts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from tidegate.dispatch.scale import (
    Asked,
    CallSeconds,
    LaneLoad,
    PartitionLoad,
    ReceiverLoad,
    in_force,
    needs_by_queue,
    places_for_webhooks,
    places_of_lane,
    settle,
    shared_out,
    workers_for,
)

EACH = 16
START_SECONDS = 3.0
TICK = 0.05


@dataclass
class Model:
    """One lane and its workers of EACH places, which start after START_SECONDS and stop at once.

    `arrivals`: jobs of a second, by its time. `rests`, `refused`: whether the downstream is paused, or answers 429.
    """

    call_seconds: float = 1.0
    per_second: float | None = None
    concurrency: int | None = None
    backlog: float = 0
    arrivals: Callable[[float], float] = lambda _: 0.0
    rests: Callable[[float], bool] = lambda _: False
    refused: Callable[[float], bool] = lambda _: False
    workers: int = 1
    most: int = 100
    asked: tuple[Asked, ...] = ()
    wanted: list[tuple[float, int]] = field(default_factory=list)
    there: list[tuple[float, int]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        measured, ends, unclaimed, starting = CallSeconds(), list[float](), 0, list[float]()
        claimed, allowance, live = 0, 0.0, self.workers
        for tick in range(round(seconds / TICK)):
            now = tick * TICK
            ends = [end for end in ends if end > now]
            self.backlog += self.arrivals(now) * TICK
            live += sum(at <= now for at in starting)
            starting = [at for at in starting if at > now]
            out = len(ends) + unclaimed
            if self.per_second:
                allowance = min(max(1.0, self.per_second * 2 * TICK), allowance + self.per_second * TICK)
            rests = self.rests(now)
            free = min(
                math.floor(self.backlog),
                2 * live * EACH - out,
                math.floor(allowance) if self.per_second else 10**6,
                (self.concurrency or 10**6) - out,
            )
            if not rests and free > 0:
                self.backlog, unclaimed, allowance = self.backlog - free, unclaimed + free, allowance - free
            taken = max(0, min(unclaimed, live * EACH - len(ends)))
            unclaimed, claimed = unclaimed - taken, claimed + taken
            ends += [now + (0.01 if self.refused(now) else self.call_seconds)] * taken
            if tick % round(1 / TICK) == 0:
                self._sample(now, measured, busy=len(ends), unclaimed=unclaimed, claimed=claimed, rests=rests)
                wanted = min(self.most, max(1, self.wanted[-1][1]))
                starting += [now + START_SECONDS] * max(0, wanted - live - len(starting))
                live = min(live, wanted) if not starting else live
                self.there.append((now, live))

    def _sample(
        self, now: float, measured: CallSeconds, *, busy: int, unclaimed: int, claimed: int, rests: bool
    ) -> None:
        at = 1_000_000_000 + round(now * 1e6)
        load = LaneLoad(
            name="lane",
            due={"io": math.floor(self.backlog)} if self.backlog >= 1 else {},
            busy={"io": busy} if busy else {},
            unclaimed=unclaimed,
            per_second=self.per_second,
            concurrency=self.concurrency,
            call_seconds=measured.add(at, claimed=claimed, busy=busy),
            rests="it is paused" if rests else None,
            probes="it refused its last calls" if self.refused(now) else None,
        )
        need = needs_by_queue([load]).get("io")
        number = workers_for(need, EACH) if need else Asked(0, 0, "")
        self.asked = settle(self.asked, number._replace(at=at))
        self.wanted.append((now, in_force(self.asked, at).workers))

    def wanted_at(self, now: float) -> int:
        return [number for at, number in self.wanted if at <= now][-1]

    def reached(self, number: int) -> float:
        return next(at for at, live in self.there if live >= number)


def reversals(numbers: Sequence[tuple[float, int]]) -> int:
    """How often a number that rose falls, or one that fell rises."""
    steps = [after - before for (_, before), (_, after) in pairwise(numbers) if after != before]
    return sum((a > 0) != (b > 0) for a, b in pairwise(steps))


def test_a_step_of_jobs_gets_the_workers_that_its_concurrency_needs_and_gives_them_back() -> None:
    model = Model(concurrency=90, backlog=10_000)
    model.run(240)
    assert {model.wanted_at(at) for at in (5, 30, 60, 100)} == {6}, "90 places are 6 workers of 16"
    assert model.reached(6) <= 30
    assert model.wanted_at(239) == 0
    assert max(number for _, number in model.wanted) == 6
    assert reversals(model.wanted) <= 1


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("per_second", [2, 5])
def test_a_slow_rate_never_asks_for_a_second_worker(seconds: float, per_second: int) -> None:
    model = Model(per_second=per_second, backlog=10_000, call_seconds=seconds, concurrency=90)
    model.run(120)
    assert {number for _, number in model.wanted} == {1}


@pytest.mark.parametrize(
    ("per_second", "seconds", "number", "within"), [(50, 1.0, 4, 5), (33, 1.0, 3, 5), (20, 4.0, 5, 30), (1, 60, 4, 90)]
)
def test_a_rate_gets_the_places_that_its_calls_take(per_second: int, seconds: float, number: int, within: int) -> None:
    model = Model(per_second=per_second, backlog=10_000, call_seconds=seconds)
    model.run(within + 120)
    late = {wanted for at, wanted in model.wanted if at >= within}
    assert late <= {number, number + 1}, (late, model.wanted)
    assert number in late
    assert reversals(model.wanted) <= 1


def test_quick_calls_share_places() -> None:
    """Not 63 workers, which would come when all is done."""
    model = Model(backlog=1_000, call_seconds=0.01)
    model.run(10)
    assert max(number for _, number in model.wanted) <= 4


def test_a_sine_of_load_is_followed_and_changes_its_direction_no_more_often() -> None:
    model = Model(arrivals=lambda now: 60 + 50 * math.sin(2 * math.pi * now / 300))
    model.run(600)
    assert reversals(model.wanted) <= 4, model.wanted
    assert max(number for at, number in model.wanted if at > 70) <= 9
    assert min(number for at, number in model.wanted if at > 60) <= 3
    short = [at for at, live in model.there if at > 10 and live * EACH < model.arrivals(at) * model.call_seconds - EACH]
    assert not short, "more than a worker too few"


@pytest.mark.parametrize("trouble", ["rests", "refused"])
def test_a_pause_and_refusals_take_workers_away_and_not_at_once(trouble: str) -> None:
    model = Model(concurrency=90, backlog=1_000_000)
    if trouble == "refused":  # each time after five seconds all that its concurrency allows, for nothing
        model.refused = lambda now: now >= 60
    model.rests = lambda now: now >= 60 and (trouble == "rests" or round(now / TICK) % 100 != 7)
    model.run(180)
    assert {model.wanted_at(at) for at in (10, 59, 61, 90, 110)} == {6}
    assert model.wanted_at(125) <= 1
    assert reversals(model.wanted) == 1


def test_refusals_with_short_rests_between_them_do_not_make_it_swing() -> None:
    model = Model(concurrency=90, backlog=1_000_000, rests=lambda now: now > 30 and int(now) % 7 < 3)
    model.run(120)
    assert {number for at, number in model.wanted if at >= 5} == {6}


def test_one_job_from_nothing_asks_for_one_worker() -> None:
    model = Model(arrivals=lambda now: 1.0 if 10 <= now < 10.999 else 0.0, workers=0)
    model.most = 0
    model.run(20)
    assert max(number for _, number in model.wanted) == 1
    assert "not known yet" in in_force(model.asked, 1_000_000_000 + 20_000_000).because


def load(**known: object) -> LaneLoad:
    return LaneLoad(**{"name": "lane", "due": {}, "busy": {}, "call_seconds": 1.0, **known})  # type: ignore[arg-type]


def test_what_runs_is_counted_whatever_may_go() -> None:
    assert places_of_lane(load(busy={"io": 90}, due={"io": 500}, rests="it is paused")).places == 90
    assert places_of_lane(load(busy={"io": 90}, due={"io": 500}, concurrency=8)).places == 90
    assert places_of_lane(load(due={"io": 500}, rests="it is paused")).places == 0
    assert places_of_lane(load(due={"io": 500}, probes="its breaker is open")).places == 1


def test_without_limits_it_is_the_backlog() -> None:
    assert places_of_lane(load(due={"io": 500})).places == 500


def test_a_lane_asks_in_each_of_its_queues_and_the_words_name_who_asks_for_most() -> None:
    lanes = [
        load(name="maps", due={"io": 300, "gpu": 100}, concurrency=40),
        load(name="tiny", due={"io": 3}),
        load(name="idle"),
    ]
    needs = needs_by_queue(lanes)
    assert {queue: need.places for queue, need in needs.items()} == {"io": 33, "gpu": 10}
    assert needs["io"].because == (
        "maps can use 30 place(s) now, for its concurrency is 40; 1 other downstream(s) 3 more"
    )


def test_due_jobs_are_shared_out_by_those_that_were_looked_at() -> None:
    assert shared_out(1000, ["cpu", *["io"] * 49]) == {"cpu": 20, "io": 980}
    assert shared_out(1, ["gpu"]) == {"gpu": 1}
    assert shared_out(0, []) == {}


def test_a_worker_of_unknown_size_is_asked_for_first() -> None:
    need = needs_by_queue([load(due={"gpu": 300})])["gpu"]
    assert workers_for(need, None).workers == 1
    assert workers_for(need, 4).workers == 75


def test_one_receiver_of_webhooks_never_asks_for_a_second_worker() -> None:
    one = [ReceiverLoad(due=10_000, is_good=True)]
    assert places_for_webhooks(one, in_flight=4, seconds=2.0, places_each=EACH).places <= EACH
    unknown = [ReceiverLoad(due=100, is_good=False)] * 30
    assert places_for_webhooks(unknown, in_flight=0, seconds=2.0, places_each=EACH).places == 30
    assert places_for_webhooks([], in_flight=0, seconds=None, places_each=None).places == 0


def test_a_clock_that_is_set_back_forgets_what_it_can_not_date() -> None:
    asked = settle([Asked(10**12, 9, "")], Asked(10**11, 2, ""))
    assert in_force(asked, 10**11).workers == 2
    assert in_force([Asked(10**12, 9, "")], 10**11).workers == 0
    measured = CallSeconds()
    measured.add(10**12, claimed=0, busy=0)
    assert measured.add(10**11, claimed=50, busy=3) is None


def test_partitions_ask_for_no_more_than_their_own_limits_let_them_have_open() -> None:
    two = [PartitionLoad(open=2, most_open=2), PartitionLoad(open=0, most_open=2)]
    need = places_of_lane(load(due={"io": 500}, busy={"io": 2}, partitions=two))
    assert need == (4, "2 partition(s) have jobs waiting, and limits of their own")
    paused = [*two, PartitionLoad(open=1, may_go=False)]
    assert places_of_lane(load(due={"io": 500}, busy={"io": 3}, partitions=paused)).places == 5
    rate = [PartitionLoad(open=0, per_second=5.0), PartitionLoad(open=0, per_second=5.0, most_open=2)]
    assert places_of_lane(load(due={"io": 500}, call_seconds=0.6, partitions=rate)).places == 5
    assert places_of_lane(load(due={"io": 500}, concurrency=3, partitions=two)).places == 3


def test_while_nobody_knows_how_long_calls_take_no_limit_is_exceeded() -> None:
    unknown = load(due={"io": 500}, busy={"io": 4}, call_seconds=None, concurrency=4)
    assert places_of_lane(unknown) == (4, "its concurrency is 4")
    full = [PartitionLoad(open=2, most_open=2), PartitionLoad(open=2, most_open=2)]
    assert places_of_lane(load(due={"io": 9}, busy={"io": 4}, call_seconds=None, partitions=full)).places == 4


def test_one_partition_without_a_limit_may_have_all() -> None:
    mixed = [PartitionLoad(open=0, most_open=2), PartitionLoad(open=0)]
    assert places_of_lane(load(due={"io": 500}, partitions=mixed)).places == 500


def test_a_lane_of_batches_needs_places_for_its_calls() -> None:
    """A hundred jobs in batches of ten are ten calls, each of which takes one place."""
    lane = LaneLoad(name="lane", due={"io": 100}, busy={}, call_seconds=2.0)
    assert places_of_lane(lane).places == 100
    assert places_of_lane(replace(lane, fill=10.0)).places == 10
    assert places_of_lane(replace(lane, fill=10.0, due={"io": 3})).places == 1
    assert places_of_lane(replace(lane, fill=10.0, due={"io": 101})).places == 11
