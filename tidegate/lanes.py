"""The lanes as callers see them: read from the database at most twice a second, whoever asks."""

import bisect
import threading
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime, timedelta

from tidegate import clock
from tidegate.database import UNREACHABLE
from tidegate.forecast import LaneView
from tidegate.job import Job
from tidegate.store import Store

_FRESH_SECONDS = 0.5
_UNDER_WAY = timedelta(seconds=2)


class Lanes:
    """A short-lived copy of all lanes, so that a poll or a submit costs no statement for its forecast.

    Between two looks it also notes what this process submitted, for the admission and the forecasts of a burst.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._views: dict[str, LaneView] = {}
        self._read_at = float("-inf")
        self._submitted: defaultdict[str, _Submitted] = defaultdict(_Submitted)
        self._looks: dict[str, list[tuple[datetime, int]]] = {}  # (seen_at, released) of two seconds, rising

    def view(self, downstream: str) -> LaneView | None:
        """The lane as it was half a second ago at most; None for a downstream that no steward has declared yet."""
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

    def _are_fresh(self) -> bool:
        return clock.monotonic() - self._read_at <= _FRESH_SECONDS

    def submitted(self, job: Job) -> None:
        """Notes a job that no sample has counted yet."""
        with self._lock:
            self._submitted[job.downstream].add(job.created_at, job.client_id)

    def submitted_since_sample(self, downstream: str, client_id: str | None = None) -> int:
        """How many jobs this process submitted to the lane since its last sample; of one client, or of all."""
        with self._lock:
            submitted = self._submitted[downstream]
            return submitted.by_client.total() if client_id is None else submitted.by_client[client_id]

    def submitted_before(self, downstream: str, instant: datetime) -> int:
        """How many of those were created before this instant."""
        if not self._submitted[downstream].by_client:
            return 0
        with self._lock:
            return self._submitted[downstream].before(instant)

    def _read(self) -> None:
        samples = {sample.downstream: sample for sample in self._store.samples.latest()}
        sizes = self._store.presence.sizes()
        views = {
            downstream.name: LaneView(downstream=downstream, sample=samples.get(downstream.name), worker_sizes=sizes)
            for downstream in self._store.limits.downstreams()
        }
        for name, view in views.items():
            counted_until, released_before = self._counted(view)
            views[name] = replace(view, released_before=released_before)
            self._submitted[name].forget_until(counted_until)
        self._views = views
        self._read_at = clock.monotonic()

    def _counted(self, view: LaneView) -> tuple[datetime, int]:
        """Until when what was submitted is known to wait or to be under way, and how many had been released then.

        An idle lane is not sampled again; what was submitted to it two seconds ago is certainly under way.
        """
        looks = self._looks.setdefault(view.downstream.name, [])
        looks.append((view.downstream.seen_at, view.downstream.released))
        while looks[0][0] < looks[-1][0] - _UNDER_WAY:
            del looks[0]
        sampled = (view.sample.taken_at, view.sample.released) if view.sample else looks[0]
        return max(looks[0], sampled)


class _Submitted:
    """What was submitted to a lane since its last sample."""

    def __init__(self) -> None:
        self._jobs: list[tuple[datetime, str]] = []  # (created_at, client), rising
        self.by_client: Counter[str] = Counter()

    def add(self, created_at: datetime, client_id: str) -> None:
        bisect.insort(self._jobs, (created_at, client_id))
        self.by_client[client_id] += 1

    def before(self, instant: datetime) -> int:
        return bisect.bisect_left(self._jobs, instant, key=_created_at)

    def forget_until(self, instant: datetime) -> None:
        """Those of that instant too."""
        counted = bisect.bisect_right(self._jobs, instant, key=_created_at)
        self.by_client -= Counter(client for _, client in self._jobs[:counted])
        del self._jobs[:counted]


def _created_at(job: tuple[datetime, str]) -> datetime:
    return job[0]
