"""How many workers each queue could use now: by what its waiting jobs may have open, and what is open already. Pure."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from tidegate.clock import MICROSECOND

KEPT_FOR = timedelta(minutes=1)
"""A wanted number falls when nothing asked for more within so long; it rises at once."""
WRITTEN_ANEW = timedelta(seconds=5)
"""A wanted number that stays as it is is written again after so long."""
_MEASURED_FOR = timedelta(seconds=10) // MICROSECOND
# A slot that lies further ahead is a quota that is used up.
_QUOTA_IS_USED_UP = timedelta(minutes=1) // MICROSECOND


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The workers of one queue: those that live, how many attempts they run side by side, and how many are wanted.

    `because`: why so many, in words.
    """

    workers: int = 0
    places: int = 0
    wanted: int = 0
    because: str = "nothing waits and nothing runs"


@dataclass(frozen=True, kw_only=True)
class PartitionLoad:
    """What one partition has open, and what lets it have more; `most_open`, `per_second` None: no limit of its own.

    `may_go`: whether it has due jobs and is not paused.
    """

    open: int
    most_open: int | None = None
    per_second: float | None = None
    may_go: bool = True


@dataclass(frozen=True, kw_only=True)
class LaneLoad:
    """What a lane waits for and has open, by queue, and what lets it have more.

    `due`: jobs that could go by their own run_at; `busy`: attempts with a worker; `unclaimed`: released, and no worker
    has taken them yet. `per_second`, `concurrency` None: no limit. `call_seconds`: how long an attempt keeps its
    worker's place; None: not known yet. `fill`: jobs in a call. `partitions`: those that it is shared by where
    these have limits of their own. `rests`: why nothing goes out now; None: it may. `probes`: why only single calls do.
    """

    name: str
    due: Mapping[str, int]
    busy: Mapping[str, int]
    unclaimed: int = 0
    per_second: float | None = None
    concurrency: int | None = None
    call_seconds: float | None = None
    fill: float = 1.0
    partitions: Sequence[PartitionLoad] = ()
    rests: str | None = None
    probes: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReceiverLoad:
    """A receiver of webhooks with some due. `is_good`: it answered promptly the last time."""

    due: int
    is_good: bool


class Need(NamedTuple):
    """How many places of a queue somebody can use now, and why."""

    places: int
    because: str


class Asked(NamedTuple):
    """A number of workers that was wanted at one instant, in microseconds, and why."""

    at: int
    workers: int
    because: str


class CallSeconds:
    """How long an attempt keeps a worker's place, measured over the last ten seconds by Little's law.

    The time that places were taken, divided by the attempts that began. Of calls longer than that only a lower bound is
    known, and rises while they last. One for each lane, in the memory of who samples: it is right again with the second
    sample.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque()

    def add(self, now: int, *, claimed: int, busy: int) -> float | None:
        """Adds a sample: attempts ever claimed, and those that run; returns the seconds, None: not known yet.

        `now` in microseconds.
        """
        samples = self._samples
        if samples and (now <= samples[-1][0] or now - samples[-1][0] > _MEASURED_FOR):
            samples.clear()  # the clock was set back, or nobody looked for long
        samples.append((now, claimed, busy))
        while samples[0][0] < now - _MEASURED_FOR:
            samples.popleft()
        taken = sum((at - before) * busy for (before, *_), (at, _, busy) in zip(samples, [*samples][1:], strict=False))
        began = max(samples[-1][1] - samples[0][1], samples[0][2])
        return taken / 1e6 / began if began > 0 and taken else None


def rest_of(*, paused: bool, rests: bool, now: int, next_slot: int) -> str | None:
    """Why nothing goes out to a downstream for longer than a moment; None: something does. Instants in microseconds."""
    if paused:
        return "it is paused"
    if rests:
        return "it rests because of its own answers"
    return "its quota is used up" if next_slot - now > _QUOTA_IS_USED_UP else None


def probes_of(*, is_broken: bool, refusals: int) -> str | None:
    """Why a downstream gets single calls only, or had better: its last answers; None: it gets what its limits allow."""
    if is_broken:
        return "its breaker is open"
    return "it refused its last calls" if refusals else None


def places_of_lane(lane: LaneLoad) -> Need:
    """How many places a lane can use now, over all queues, and what it is that allows no more.

    Never more than its concurrency and its rate times the seconds of a call, nor more than its due jobs keep busy for a
    second; what runs is counted in any case.
    """
    busy, due = sum(lane.busy.values()), sum(lane.due.values())
    if lane.rests or not due:
        return Need(busy, lane.rests or "no more wait")
    if lane.probes:
        return Need(max(busy, 1), lane.probes)
    bounds = _bounds_of_open_calls(lane)
    if lane.call_seconds is None:
        bounds.append(Need(busy + 1, "how long its calls take is not known yet"))
    else:
        seconds = f"calls of {lane.call_seconds:.2g} s"
        calls = math.ceil(due / lane.fill)
        backlog = busy + min(calls, math.ceil(calls * lane.call_seconds))
        bounds.append(Need(backlog, f"{due} jobs wait, {seconds}"))
        if lane.per_second is not None:
            by_rate = math.ceil(round(lane.per_second * lane.call_seconds, 3))
            # What is released and finds no worker shows that calls take longer than was measured, or others the places.
            starves = lane.unclaimed > max(1.0, 0.5 * lane.per_second)
            its_rate = f"its rate lets {lane.per_second:.3g} begin a second, {seconds}"
            bounds.append(Need(max(by_rate, busy + 1 if starves else 1), its_rate))
    least = min(bounds, key=lambda need: need.places)
    return Need(max(busy, least.places), least.because)


def _bounds_of_open_calls(lane: LaneLoad) -> list[Need]:
    bounds = []
    if lane.concurrency is not None:
        bounds.append(Need(lane.concurrency, f"its concurrency is {lane.concurrency}"))
    of_partitions = _places_of_partitions(lane.partitions, lane.call_seconds or 0.0)
    if of_partitions is not None:
        number = sum(each.may_go for each in lane.partitions)
        bounds.append(Need(of_partitions, f"{number} partition(s) have jobs waiting, and limits of their own"))
    return bounds


def _places_of_partitions(partitions: Iterable[PartitionLoad], call_seconds: float) -> int | None:
    """How many places partitions can use by their own limits, at least what is open; None: any number."""
    total, is_limited = 0, False
    for each in partitions:
        most = [each.most_open] if each.most_open is not None else []
        if each.per_second is not None:
            most.append(max(1, math.ceil(round(each.per_second * call_seconds, 3))))
        if each.may_go and not most:
            return None
        total += max(each.open, min(most)) if each.may_go else each.open
        is_limited = True
    return total if is_limited else None


def places_for_webhooks(
    receivers: Iterable[ReceiverLoad], *, in_flight: int, seconds: float | None, places_each: int | None
) -> Need:
    """How many places webhooks can use now.

    A receiver counts for no more than the courier gives it of one worker: a quarter of its places, or one place while
    nobody knows whether it answers. So one receiver alone never asks for a second worker.
    """
    most_of_one = max(1, (places_each or 1) // 4)
    due = [(each.due, most_of_one if each.is_good else 1) for each in receivers if each.due]
    more = sum(min(number, most, math.ceil(number * (seconds or 1.0))) for number, most in due)
    waiting = sum(number for number, _ in due)
    return Need(in_flight + more, f"{waiting} webhooks are due to {len(due)} receivers, {in_flight} are being sent")


def shared_out(due: int, queues: Sequence[str]) -> dict[str, int]:
    """About how many of a lane's due jobs are in each queue: by those of some that stand at equal distances.

    The first of all is among them, and so is the queue of one that nobody has taken for long.
    """
    return {queue: math.ceil(due * number / len(queues)) for queue, number in Counter(queues).items()}


def needs_by_queue(lanes: Iterable[LaneLoad]) -> dict[str, Need]:
    """The places of each queue that the lanes can use now; the words are about the lane that asks for most.

    A lane whose jobs are in several queues asks in each for its share.
    """
    asked: dict[str, list[tuple[int, str, str]]] = {}
    for lane in lanes:
        need = places_of_lane(lane)
        for queue, places in _shares(lane, need.places).items():
            asked.setdefault(queue, []).append((places, lane.name, need.because))
    return {queue: _together(each) for queue, each in asked.items() if any(places for places, *_ in each)}


def _shares(lane: LaneLoad, places: int) -> dict[str, int]:
    """Divides a lane's places among its queues: what runs where it runs, the others as the jobs wait."""
    due, more = sum(lane.due.values()), places - sum(lane.busy.values())
    shares = Counter(lane.busy)
    for queue, number in lane.due.items():
        shares[queue] += math.ceil(more * number / due) if due else 0
    return dict(shares)


def _together(asked: Sequence[tuple[int, str, str]]) -> Need:
    most, name, because = max(asked, key=lambda each: each[0])
    total, others = sum(places for places, *_ in asked), sum(places > 0 for places, *_ in asked) - 1
    beside = f"; {others} other downstream(s) {total - most} more" if others else ""
    return Need(total, f"{name} can use {most} place(s) now, for {because}{beside}")


def workers_for(need: Need, places_each: int | None) -> Asked:
    """The workers that have so many places, with its instant still zero.

    `places_each` None: no worker of the queue was ever seen, so that one has to tell.
    """
    if not need.places:
        return Asked(0, 0, Wanted.because)
    if not places_each:
        return Asked(0, 1, f"{need.because}; how many places a worker has is not known yet")
    return Asked(0, math.ceil(need.places / places_each), need.because)


def settle(asked: Sequence[Asked], new: Asked) -> tuple[Asked, ...]:
    """What is kept of the numbers asked for: those within the last minute above which none was asked for since.

    So the first is what is wanted, and one is kept for each step by which it will fall.
    """
    since = new.at - KEPT_FOR // MICROSECOND
    return (*(each for each in asked if since < each.at < new.at and each.workers > new.workers), new)


def is_news(asked: Sequence[Asked], kept: Sequence[Asked]) -> bool:
    """Whether what is `kept` has to be written in the place of what was `asked`."""
    if not asked:
        return kept[-1].workers > 0
    same = [each.workers for each in asked] == [each.workers for each in kept]
    is_old = kept[-1].at - asked[-1].at >= WRITTEN_ANEW // MICROSECOND
    return not same or (kept[-1].workers > 0 and is_old)


def in_force(asked: Sequence[Asked], now: int) -> Asked:
    """The number wanted at this instant, by what is kept of those asked for; none within a minute: zero."""
    recent = [each for each in asked if 0 <= now - each.at < KEPT_FOR // MICROSECOND]
    if not recent:
        return Asked(now, 0, Wanted.because)
    most = max(recent, key=lambda each: each.workers)
    if most.workers and most is not asked[-1]:
        return most._replace(because=f"within the last minute: {most.because}")
    return most
