"""A cache of lanes for the API's forecasts and admission: read from the database at most twice a second."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from tidegate import clock
from tidegate.clock import EPOCH
from tidegate.database.batching import BatchedStatement
from tidegate.database.connection import UNREACHABLE
from tidegate.database.json_rows import MOST_ROWS
from tidegate.dispatch.backlog import SETTLED
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.known_operations import NOBODY, Known, Workers
from tidegate.dispatch.lane_copies import Copy, LaneCopies
from tidegate.dispatch.lane_rows import LaneRowStore
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.sample import Mark, Sample
from tidegate.dispatch.samples import SampleStore
from tidegate.dispatch.uncounted import Submitted
from tidegate.jobs.job import Job
from tidegate.operations.limits import Limits

_FRESH_SECONDS = 0.5
# A count is repeated after so long, or so many times as long as it took, unless admission needs it sooner.
_COUNT_SECONDS, _REST, _LONGEST_REST_SECONDS = 1.0, 50, 5.0
# For admission up to so many jobs are all counted, in a few milliseconds; of more only those since the last count.
_FEW = 2_000
# Everything is counted anew after so long where no scheduler samples: a partial count misses cancelled jobs.
_ALL_ANEW = timedelta(seconds=30)


class Stores(Protocol):
    """The stores that the cache reads (`tidegate.stores.Store` has them)."""

    samples: SampleStore
    lane_rows: LaneRowStore

    @property
    def heartbeats(self) -> Workers: ...


class LaneCache:
    """A short-lived copy of lanes, so that few polls and submits need a statement for their forecast.

    Of many lanes it reads those that were asked for lately, together, and of them what changed. Of a lane that gets
    submits it also counts the queue, at most once a second and when admission needs it, and adds what this process
    submits between two counts. `declared`: limits of lanes that no scheduler has declared yet. `fills`: jobs in a call
    of each lane, as its operations declare them; one where a lane is left out.
    """

    def __init__(
        self, store: Stores, declared: Mapping[str, Limits] | None = None, fills: Mapping[str, int] | None = None
    ) -> None:
        self._store = store
        self._declared, self._fills = declared or {}, fills or {}
        self._lock = threading.Lock()
        self._copies = LaneCopies(store.lane_rows, store.heartbeats)
        self._wanted: set[str] = set()
        self._failed_at = float("-inf")
        self.deciding = threading.RLock()  # guards what follows; held for microseconds
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)
        self._counting = BatchedStatement(self._count_each, most=MOST_ROWS)

    def view(self, downstream: str, *, fresh: bool = False) -> LaneView | None:
        """The lane as it was half a second ago or so; None for a downstream that no scheduler has declared yet.

        `fresh` reads it now. While the database can't be reached, only a `fresh` look raises; others get what was last
        seen: a forecast must not turn the answer to a submit that is committed into a refusal.
        """
        copy = self._copies.get(downstream)
        if fresh or copy is None or not self._is_fresh(copy.look.at):
            copy = self._read(downstream, fresh=fresh)
            if copy is None:
                return None
        copy.asked_at = clock.monotonic()
        return self._view_of(downstream, copy)

    def views(self, *, fresh: bool = False) -> dict[str, LaneView]:
        """Every lane by name; `fresh` reads them now. Otherwise as `view`."""
        if fresh or not self._is_fresh(self._copies.all_read_at):
            with self._lock:
                self._unless_away(self._copies.read_all, self._copies.all_read_at, fresh=fresh)
        return self._views_of(self._copies.all())

    def views_now(self, names: Collection[str]) -> dict[str, LaneView]:
        """Those of these lanes that there are, by name, read now. Raises one of UNREACHABLE."""
        with self._lock:
            self._copies.read(names)
        copies = ((name, self._copies.get(name)) for name in sorted(names))
        return self._views_of((name, copy) for name, copy in copies if copy)

    def backlog(self) -> int:
        """How many jobs are queued in all lanes, as of their samples half a second ago at most."""
        if not self._is_fresh(self._copies.all_read_at):
            with self._lock:
                self._unless_away(self._copies.read_all, self._copies.all_read_at)
        return sum(copy.row.backlog for _, copy in self._copies.all() if copy.row)

    def known_in(self, queue: str) -> Known:
        """The operations that the live workers of this queue run, as of half a second ago."""
        return self._copies.last.known.get(queue, NOBODY) if self._copies.last else NOBODY

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
        copy = self._copies.get(downstream)
        return copy.view if copy else None

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
        copy = self._copies.get(downstream)
        return (copy and copy.view) or self._as_declared(downstream, lane), lane.submitted

    def _is_fresh(self, at: float) -> bool:
        return clock.monotonic() - max(at, self._failed_at) < _FRESH_SECONDS + self._copies.rest_seconds

    def _read(self, name: str, *, fresh: bool) -> Copy | None:
        """Reads one lane, and with it those that other threads want by now."""
        self._wanted.add(name)
        with self._lock:
            copy, last = self._copies.get(name), self._copies.last

            def read() -> None:
                wanted = self._wanted | {name}
                self._wanted = set()
                if last is None or not self._is_fresh(last.at):
                    self._copies.read_lately_asked(wanted)
                else:
                    self._copies.read(wanted)

            self._unless_away(read, copy.look.at if copy else float("-inf"), fresh=fresh)
            return self._copies.get(name)

    def _unless_away(self, read: Callable[[], None], read_at: float, *, fresh: bool = False) -> None:
        """Reads, unless another thread did meanwhile; while the database can't be reached that is tried rarely."""
        if not fresh and self._is_fresh(read_at):
            return
        try:
            read()
        except UNREACHABLE:
            if fresh:
                raise
            self._failed_at = clock.monotonic()

    def _views_of(self, copies: Iterable[tuple[str, Copy]]) -> dict[str, LaneView]:
        views = ((name, self._view_of(name, copy)) for name, copy in copies)
        return {name: view for name, view in views if view}

    def _view_of(self, name: str, copy: Copy) -> LaneView | None:
        """The view of a lane as of its last look, made when it is asked for first."""
        look, row = copy.look, copy.row
        if copy.seen is look:
            return copy.view
        downstream, sample = (row.downstream(look.now), row.sample(look.now)) if row else (None, None)
        with self.deciding:
            if copy.seen is None or copy.seen.number < look.number:
                lane = self._lanes[name]
                lane.learn(sample)
                copy.seen, copy.view = look, None
                if downstream:
                    copy.view = LaneView(
                        downstream=downstream,
                        sample=lane.known,
                        sampled_at=sample.taken_at if sample else None,
                        worker_sizes={queue: each.places for queue, each in look.known.items()},
                        held_in_all=look.held,
                        declared_fill=self._fills.get(name, 1),
                    )
            return copy.view

    def _as_declared(self, name: str, lane: "_Lane") -> LaneView | None:
        """A lane that has no row yet, with its declared limits."""
        limits = self._declared.get(name)
        if limits is None:
            return None
        seen_at = lane.known.taken_at if lane.known else EPOCH
        downstream, fill = Downstream.as_declared(limits, seen_at), self._fills.get(name, 1)
        return LaneView(downstream=downstream, sample=lane.known, declared_fill=fill)

    def _count_each(self, wanted: Sequence[tuple[str, bool]]) -> Sequence[None]:
        for name in dict.fromkeys(name for name, _ in wanted):
            self._count(name, for_decision=(name, True) in wanted)
        return [None for _ in wanted]

    def _count(self, name: str, *, for_decision: bool) -> None:
        lane, copy = self._lanes[name], self._copies.get(name)
        view = copy.view if copy else None
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
            if copy and copy.view:
                copy.view = copy.view.as_counted(count, lane.known)


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
                self.known = self.known.with_figures_of(sample)

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
        self.known = count.with_figures_of(self.sample) if self.sample else count
        self.counted_at, self.took = began, took
        self.due_at = began + min(max(_COUNT_SECONDS, _REST * took), _LONGEST_REST_SECONDS)
