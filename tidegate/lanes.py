"""The lanes as callers see them: read from the database at most twice a second, whoever asks."""

import threading
from collections import Counter
from datetime import timedelta

from tidegate import clock
from tidegate.database import UNREACHABLE
from tidegate.forecast import LaneView
from tidegate.store import Store

_FRESH_SECONDS = 0.5


class Lanes:
    """A short-lived copy of all lanes, so that a poll or a submit costs no statement for its forecast.

    Between two looks it also counts what this process submitted, for the admission of a burst.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._views: dict[str, LaneView] = {}
        self._read_at = float("-inf")
        self._submitted: dict[str, Counter[str]] = {}

    def view(self, downstream: str) -> LaneView | None:
        """The lane as it was half a second ago at most; None for a downstream that no steward has declared yet."""
        return self.views().get(downstream)

    def views(self, *, fresh: bool = False) -> dict[str, LaneView]:
        """Every lane by name; `fresh` reads them now.

        While the database can't be reached, only a `fresh` look raises; others get what was last seen: a forecast
        must not turn the answer to a submit that is committed into a refusal.
        """
        with self._lock:
            if fresh or clock.monotonic() - self._read_at > _FRESH_SECONDS:
                try:
                    self._read()
                except UNREACHABLE:
                    if fresh:
                        raise
                    self._read_at = clock.monotonic()
            return self._views

    def submitted(self, downstream: str, client_id: str) -> None:
        """Notes a submit that no sample has counted yet."""
        with self._lock:
            self._submitted.setdefault(downstream, Counter())[client_id] += 1

    def submitted_since_sample(self, downstream: str, client_id: str | None = None) -> int:
        """How many jobs this process submitted to the lane since its last sample; of one client, or of all."""
        with self._lock:
            by_client = self._submitted.get(downstream, Counter())
            return by_client.total() if client_id is None else by_client[client_id]

    def _read(self) -> None:
        samples = {sample.downstream: sample for sample in self._store.samples.latest()}
        sizes = self._store.presence.sizes()
        views = {
            downstream.name: LaneView(downstream=downstream, sample=samples.get(downstream.name), worker_sizes=sizes)
            for downstream in self._store.limits.downstreams()
        }
        for name, view in views.items():
            before = self._views.get(name)
            if _sampled_anew(before, view):
                self._submitted.pop(name, None)
        self._views = views
        self._read_at = clock.monotonic()


def _sampled_anew(before: LaneView | None, now: LaneView) -> bool:
    if before is None or now.sample is None or before.sample is None:
        return before is None or (now.sample is not None and before.sample is None)
    # An idle lane is not sampled again; what was submitted to it long ago is certainly under way.
    idle = now.downstream.seen_at - now.sample.taken_at > timedelta(seconds=2)
    return now.sample.taken_at != before.sample.taken_at or idle
