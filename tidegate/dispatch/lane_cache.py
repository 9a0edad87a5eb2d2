"""A cache of all lanes for the API's forecasts and admission: read from the database at most twice a second."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from tidegate import clock
from tidegate.clock import EPOCH
from tidegate.database.batching import BatchedStatement
from tidegate.database.connection import UNREACHABLE
from tidegate.dispatch.backlog import SETTLED
from tidegate.dispatch.forecast import LaneView
from tidegate.dispatch.known_operations import NOBODY, Known, Workers
from tidegate.dispatch.lane import Downstream, Mark, Sample
from tidegate.dispatch.limits import LimitStore
from tidegate.dispatch.samples import SampleStore
from tidegate.dispatch.uncounted import Submitted
from tidegate.jobs.job import Job
from tidegate.operations.operation import Limits

_FRESH_SECONDS = 0.5
# A count is repeated after so long, or so many times as long as it took, unless admission needs it sooner.
_COUNT_SECONDS = 1.0
_REST = 50
_LONGEST_REST_SECONDS = 5.0
# For admission up to so many jobs are all counted, in a few milliseconds; of more only those since the last count.
_FEW = 2_000
# Everything is counted anew after so long where no scheduler samples: a partial count misses cancelled jobs.
_ALL_ANEW = timedelta(seconds=30)
_MOST_TOGETHER = 32


class Stores(Protocol):
    """The stores that the cache reads (`tidegate.stores.Store` has them)."""

    samples: SampleStore
    limits: LimitStore

    @property
    def heartbeats(self) -> Workers: ...


class LaneCache:
    """A short-lived copy of all lanes, so that few polls and submits need a statement for their forecast.

    Of a lane that gets submits it also counts the queue, at most once a second and when admission needs it, and adds
    what this process submits between two counts. `declared`: limits of lanes that no scheduler has declared yet.
    """

    def __init__(self, store: Stores, declared: Mapping[str, Limits] | None = None) -> None:
        self._store = store
        self._declared = declared or {}
        self._lock = threading.Lock()
        self._views: dict[str, LaneView] = {}
        self._read_at = float("-inf")
        self._known: Mapping[str, Known] = {}
        self.deciding = threading.RLock()  # guards what follows; held for microseconds
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)
        self._counting = BatchedStatement(self._count_each, most=_MOST_TOGETHER)

    def view(self, downstream: str) -> LaneView | None:
        """The lane as it was half a second ago at most; None for a downstream that no scheduler has declared yet."""
        return self.views().get(downstream)

    def views(self, *, fresh: bool = False) -> dict[str, LaneView]:
        """Every lane by name; `fresh` reads them now.

        While the database can't be reached, only a `fresh` look raises; others get what was last seen: a forecast
        must not turn the answer to a submit that is committed into a refusal.
        """
        if not fresh and self._are_fresh():
            return self._views  # without the lock, for which polls would queue
        with self._lock:
            if fresh or not self._are_fresh():
                try:
                    self._read()
                except UNREACHABLE:
                    if fresh:
                        raise
                    self._read_at = clock.monotonic()
            return self._views

    def known_in(self, queue: str) -> Known:
        """The operations that the live workers of this queue run, as of half a second ago."""
        return self._known.get(queue, NOBODY)

    def counted(self, downstream: str, *, anew: bool = False) -> LaneView | None:
        """The lane with its queue as of a moment ago; `anew`: as of after this call began. None as for `view`.

        While the database can't be reached, as it was known last. What this process submitted since is for
        `submitted_before`.
        """
        view, lane = self.view(downstream), self._lanes[downstream]
        if not anew and clock.monotonic() < lane.due_at:
            return view
        try:
            self._counting.run((downstream, anew))
        except UNREACHABLE:
            lane.due_at = clock.monotonic() + _FRESH_SECONDS
        return self._views.get(downstream)

    def counted_for(self, job: Job) -> LaneView | None:
        """The lane with a count that is fresh enough for this job's position; None: not declared yet."""
        view = self.view(job.downstream)
        if view and (view.sample is None or job.run_at > view.sample.taken_at - SETTLED):
            view = self.counted(job.downstream)
        return view

    def last_count(self, downstream: str) -> tuple[float, float]:
        """The seconds since the lane's last count began, and those that it took."""
        lane = self._lanes[downstream]
        return clock.monotonic() - lane.counted_at, lane.took

    def submitted(self, *jobs: Job) -> None:
        """Notes jobs that were recorded together and that perhaps no count has seen yet."""
        with self.deciding:
            for job in jobs:
                self._lanes[job.downstream].submitted.add(job)
            for name, created_at in {(job.downstream, job.created_at) for job in jobs}:
                self._lanes[name].forget_seen(created_at)

    def submitted_since(self, downstream: str) -> int:
        """How many jobs this process submitted to the lane since it was counted."""
        return len(self._lanes[downstream].submitted)

    def submitted_before(self, downstream: str, run_at: datetime) -> tuple[int, Sequence[Mark]]:
        """How many jobs this process submitted since that count that may run before this instant, and some of them."""
        submitted = self._lanes[downstream].submitted
        if not submitted:
            return 0, []
        with self.deciding:
            number = submitted.before(run_at)
            return number, submitted.marks(number)

    def last_known(self, downstream: str) -> tuple[LaneView | None, Submitted]:
        """The lane as last counted, and the jobs which that count has not seen; call it while holding `deciding`."""
        lane = self._lanes[downstream]
        return self._views.get(downstream) or self._as_declared(downstream, lane), lane.submitted

    def _are_fresh(self) -> bool:
        return clock.monotonic() - self._read_at <= _FRESH_SECONDS

    def _read(self) -> None:
        samples = {sample.downstream: sample for sample in self._store.samples.latest()}
        known = self._store.heartbeats.operations()
        sizes = {queue: each.places for queue, each in known.items()}
        downstreams = self._store.limits.downstreams()
        held = sum(sample.held for sample in samples.values())
        with self.deciding:
            for each in downstreams:
                self._lanes[each.name].learn(samples.get(each.name))
            self._views = {
                each.name: LaneView(
                    downstream=each,
                    sample=self._lanes[each.name].known,
                    sampled_at=samples[each.name].taken_at if each.name in samples else None,
                    worker_sizes=sizes,
                    held_in_all=held,
                )
                for each in downstreams
            }
        self._known = known
        self._read_at = clock.monotonic()

    def _as_declared(self, name: str, lane: "_Lane") -> LaneView | None:
        """A lane that has no row yet, with its declared limits."""
        limits = self._declared.get(name)
        if limits is None:
            return None
        now = lane.known.taken_at if lane.known else EPOCH
        downstream = Downstream(
            name=name,
            limits=limits,
            declared=limits,
            changes={},
            paused=False,
            paused_until=None,
            refusals=0,
            failures=0,
            released=0,
            next_slot_at=now,
            seen_at=now,
        )
        return LaneView(downstream=downstream, sample=lane.known)

    def _count_each(self, wanted: Sequence[tuple[str, bool]]) -> Sequence[None]:
        for name in dict.fromkeys(name for name, _ in wanted):
            self._count(name, for_decision=(name, True) in wanted)
        return [None for _ in wanted]

    def _count(self, name: str, *, for_decision: bool) -> None:
        lane, view = self._lanes[name], self._views.get(name)
        with self.deciding:
            known, newest = lane.to_count_from(for_decision=for_decision), lane.submitted.newest
        began = clock.monotonic()
        count = self._store.samples.count(
            name, known, settled_until=view.downstream.seen_at - SETTLED if view else EPOCH
        )
        with self.deciding:
            lane.counted(count, since=known, began=began, took=clock.monotonic() - began)
            lane.submitted.forget_until(newest)
            lane.forget_seen(EPOCH)
            view = self._views.get(name)
            if view:
                downstream = replace(view.downstream, released=count.released, seen_at=count.taken_at)
                self._views[name] = replace(view, downstream=downstream, sample=lane.known)


@dataclass
class _Lane:
    """The counts of one lane.

    `sample`: the scheduler's last; `known`: that, or our own count while it is young. `origin_at`: when the full count
    was made from which our own goes on.
    """

    submitted: Submitted = field(default_factory=Submitted)
    sample: Sample | None = None
    known: Sample | None = None
    origin_at: datetime = EPOCH
    counted_at: float = float("-inf")
    took: float = 0.0
    due_at: float = float("-inf")

    def learn(self, sample: Sample | None) -> None:
        """Takes in the scheduler's sample. Our own count is better as long as it is young: it has missed nothing."""
        self.sample = sample
        if sample and self.known is not sample:
            if self.known is None or (sample.taken_at > self.known.taken_at and clock.monotonic() >= self.due_at):
                self.known = sample
                self.submitted.forget_created_until(sample.taken_at)
            else:
                self.known = _with_figures_of(sample, self.known)

    def forget_seen(self, created_at: datetime) -> None:
        """Forgets submitted jobs that the count saw while we did not know yet that they were recorded.

        `created_at`: of the newest that matters.
        """
        if self.known and self.submitted and created_at <= self.known.taken_at:
            self.submitted.forget_seen({run_at for run_at, _ in self.known.marks})

    def to_count_from(self, *, for_decision: bool) -> Sample | None:
        """The sample or count from which to count on; None: count the whole queue."""
        is_sampled = self.sample is not None and self.sample.taken_at > self.origin_at
        newest = self.sample if is_sampled else self.known
        if newest is None or (for_decision and newest.backlog + len(self.submitted) <= _FEW):
            return None
        return newest if is_sampled or newest.taken_at - self.origin_at < _ALL_ANEW else None

    def counted(self, count: Sample, *, since: Sample | None, began: float, took: float) -> None:
        """Takes in our own count."""
        if since is None or since is self.sample:
            self.origin_at = (since or count).taken_at
        self.known = _with_figures_of(self.sample, count) if self.sample else count
        self.counted_at, self.took = began, took
        self.due_at = began + min(max(_COUNT_SECONDS, _REST * took), _LONGEST_REST_SECONDS)


def _with_figures_of(sample: Sample, count: Sample) -> Sample:
    return replace(
        count, held=sample.held, per_second=sample.per_second, held_mean=sample.held_mean, is_old=sample.is_old
    )
