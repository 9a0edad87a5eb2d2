"""The data of the overview, read at most once a second for all viewers of this process."""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tidegate import clock
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.limit_doubt import Refusals
from tidegate.dispatch.partitions.busiest import Busiest
from tidegate.dispatch.scale import Wanted
from tidegate.gateway import Gateway
from tidegate.jobs.filter import Filter
from tidegate.jobs.job import Job, Waiting
from tidegate.maintenance.overview import JobCount
from tidegate.metrics.families import HALVED
from tidegate.operations.registry import Registry
from tidegate.operations.sharing import named_by
from tidegate.stores import Store
from webapp.page.lane_cards import STALE_AFTER, LaneCard, card_of
from webapp.page.partition_names import ClientNames, PartitionName
from webapp.page.plot import SPAN, Reading
from webapp.page.state_counts import MOST_COUNTED, StateCounts, of_client, of_everybody

LOOK_SECONDS = 1.0
RECENT = 50
_MOST_RUNNING = 1000
_FORGET_SECONDS = 60.0
_OVERDUE_SECONDS = 5.0
# Each partition of a list's jobs is counted by itself: of more than so many not each second.
_FEW, _MANY_SECONDS = 10, 10.0
# Calls that ended in so long a time are counted; when nobody looked for longer, none.
_LATELY = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A job in a list, and why it waits."""

    job: Job
    waiting: Waiting | None


@dataclass(frozen=True, kw_only=True)
class Look:
    """The overview's data at one instant, of one client's jobs or of all.

    `running`: all that run; `recent`: the newest; `named`: of the partitions on the lanes' cards, by key.
    """

    taken_at: datetime
    lanes: Sequence[LaneCard]
    workers: dict[str, int]
    scale: dict[str, Wanted]
    running: Sequence[Job]
    recent: Sequence[Row]
    has_more: bool
    counts: StateCounts
    named: Mapping[str, PartitionName]


@dataclass(frozen=True, kw_only=True)
class _Lanes:
    """The part of the data that is the same for every viewer."""

    in_flight: dict[str, int]
    refused: dict[str, Refusals]
    overdue: frozenset[str]
    counted: JobCount
    halved: dict[str, int]
    scale: dict[str, Wanted]
    busiest: dict[str, Busiest]
    ended: dict[str, dict[str, int]]


class Board:
    """Reads lanes and jobs when a viewer asks, at most once a second, however many ask.

    The plots begin with the first who looks: nobody keeps readings for a page that is not open.
    """

    def __init__(self, store: Store, lanes: LaneCache, jobs: Gateway, registry: Registry) -> None:
        self._store = store
        self._lanes = lanes
        self._jobs = jobs
        self._registry = registry
        self._lock = threading.Lock()
        self._looks: dict[str | None, tuple[float, Look]] = {}
        self._history: dict[str, deque[Reading]] = defaultdict(deque)
        self._shared: _Lanes | None = None
        self._shared_at = self._overdue_at = float("-inf")
        self._sharing = frozenset(name for name, limits in registry.downstreams.items() if limits.sharing)
        self._names = ClientNames(store.partition_overview)
        self._ended_until: datetime | None = None

    def latest(self, client_id: str | None) -> Look:
        """The overview's data of this client, of all for None, a second old at the most. Raises one of UNREACHABLE."""
        with self._lock:
            now = clock.monotonic()
            taken, look = self._looks.get(client_id, (float("-inf"), None))
            # A little less than a second, so that viewers who ask each second do not get the look before.
            if look is None or now - taken >= 0.9 * LOOK_SECONDS:
                look = self._taken(client_id)
                self._looks[client_id] = now, look
                self._forget(now)
            return look

    def refresh(self) -> None:
        """Drops the cached data, so that the next viewer sees a change that was just made."""
        with self._lock:
            self._lanes.views(fresh=True)
            self._looks.clear()
            self._shared = None

    def rows(self, jobs: Sequence[Job]) -> list[Row]:
        """These jobs as rows of a list. Where they are of many partitions, counts of these may be older."""
        within = _MANY_SECONDS if len({job.partition for job in jobs if not job.state.is_final}) > _FEW else None
        return [Row(job=job, waiting=self._jobs.waiting(job, counted_within=within)) for job in jobs]

    def _taken(self, client_id: str | None) -> Look:
        views = self._lanes.views()
        shared = self._shared_look(max((view.downstream.seen_at for view in views.values()), default=None))
        for name, view in views.items():
            row = view.downstream
            self._read(
                name,
                Reading(
                    ended=shared.ended.get(name, {}),
                    at=row.seen_at,
                    released=row.released,
                    allowed=view.allowed_per_second,
                    companions=row.companions,
                    halved=shared.halved.get(name, 0),
                ),
            )
        running = self._store.overview.running(client_id, most=_MOST_RUNNING)
        by_lane = Counter(job.downstream for job in running)
        recent = self._jobs.list(Filter(client_id=client_id, limit=RECENT))
        queues, most_in_call = defaultdict(set), Counter[str]()
        for operation in self._registry.operations.values():
            queues[operation.downstream].add(operation.queue)
            if operation.batch:
                most_in_call[operation.downstream] = max(most_in_call[operation.downstream], operation.batch.max)
        cards = [
            card_of(
                view,
                queues=sorted(queues[name]),
                submitted=self._lanes.submitted_since(name),
                client_id=client_id,
                running=by_lane[name],
                in_flight=shared.in_flight.get(name, 0),
                refusals=shared.refused.get(name),
                history=tuple(self._history[name]),
                is_overdue=name in shared.overdue,
                is_shared=name in self._sharing,
                busiest=shared.busiest.get(name),
                most_in_call=most_in_call[name],
            )
            for name, view in views.items()
        ]
        return Look(
            taken_at=clock.now(),
            lanes=cards,
            workers=next((view.worker_sizes or {} for view in views.values()), {}),
            scale=shared.scale,
            running=running,
            recent=self.rows(recent.jobs),
            has_more=recent.before_id is not None,
            counts=self._counts(client_id, cards, running, shared),
            named=self._named(cards),
        )

    def _named(self, cards: Sequence[LaneCard]) -> dict[str, PartitionName]:
        keys = {each.key for card in cards if card.flow and card.flow.crowd for each in card.flow.crowd.busiest}
        pairs = {key: named_by(key) for key in keys}
        names = self._names.of(pairs.values())
        return {key: names[pair] for key, pair in pairs.items()}

    def _counts(
        self, client_id: str | None, cards: Sequence[LaneCard], running: Sequence[Job], shared: _Lanes
    ) -> StateCounts:
        if client_id is not None:
            return of_client(self._store.overview.newest(client_id, most=MOST_COUNTED))
        queued = (shared.counted.open or 0) - len(running)
        if shared.counted.open is None:
            # Those that are released and not with a worker yet hold places, too.
            queued = sum(card.waiting for card in cards) + sum(shared.in_flight.values()) - len(running)
        queued = max(0, queued)
        return of_everybody(queued=queued, running=len(running), most_running=_MOST_RUNNING, counted=shared.counted)

    def _shared_look(self, seen_at: datetime | None) -> _Lanes:
        now = clock.monotonic()
        if self._shared is None or now - self._shared_at >= 0.9 * LOOK_SECONDS:
            overdue = self._shared.overdue if self._shared else None
            if overdue is None or now - self._overdue_at >= _OVERDUE_SECONDS:
                overdue, self._overdue_at = self._store.overview.overdue(STALE_AFTER), now
            lanes = self._store.lanes
            self._shared = _Lanes(
                in_flight=lanes.held(),
                refused=lanes.refused(),
                overdue=overdue,
                counted=self._store.overview.count(most=MOST_COUNTED),
                scale=self._store.scale.wanted(),
                busiest=self._store.partition_overview.busiest()[0] if self._sharing else {},
                ended=self._ended(seen_at),
                halved=self._halved() if self._registry.batched else {},
            )
            self._shared_at = now
        return self._shared

    def _ended(self, seen_at: datetime | None) -> dict[str, dict[str, int]]:
        """The calls of shared lanes that ended since the last time, by partition; none at first."""
        since, self._ended_until = self._ended_until, seen_at
        if not self._sharing or since is None or seen_at is None or seen_at - since > _LATELY:
            return {}
        return self._store.partition_overview.ended(since)

    def _halved(self) -> dict[str, int]:
        return {name: round(number) for name, number in self._store.counted.by_downstream(HALVED).items()}

    def _read(self, name: str, reading: Reading) -> None:
        history = self._history[name]
        if history and reading.at - history[-1].at < timedelta(seconds=0.5 * LOOK_SECONDS):
            ended = Counter(history[-1].ended) + Counter(reading.ended)
            history[-1] = replace(history[-1], ended=ended)
            return
        history.append(reading)
        while history[0].at < reading.at - SPAN - timedelta(seconds=5):
            history.popleft()

    def _forget(self, now: float) -> None:
        for client_id in [each for each, (taken, _) in self._looks.items() if now - taken > _FORGET_SECONDS]:
            del self._looks[client_id]
