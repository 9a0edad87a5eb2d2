"""The gate: the dispatcher that releases due jobs of every lane as rate, burst, concurrency and workers allow."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tidegate import clock
from tidegate.dispatch.known_operations import KnownOperations
from tidegate.dispatch.lane import LaneState
from tidegate.dispatch.plan import BATCH, Plan, plan_release
from tidegate.dispatch.store import LaneStore
from tidegate.jobs.job import Released
from tidegate.notify.messages import Wakeup
from tidegate.operations.operation import Queue

log = logging.getLogger(__name__)

# So many of a lane's jobs are read at first: they cost little, and in most lanes no more wait.
_FEW = 8
_TRIES = 3
# The gate looks again this long before the first slot that is not taken yet, for a message needs time to its worker:
# 10 ms, but a slot missed on a busy machine is lost, while a worker that waits for its slot costs only a thread.
LEAD_SECONDS = 0.09
# After so many tries another transaction has written the lane's row each time.
BUSY_LOOK_SECONDS = 0.02
SLOW_LOOK_SECONDS = 1.0
# Without pub/sub: looks soon after a release, since its places come free again, then less and less often.
_UNTOLD_SECONDS = 0.05
UNTOLD_SLOW_SECONDS = 0.25
_FOR_ALL = Wakeup(lanes=None)


@dataclass(frozen=True, kw_only=True)
class GateRun:
    """The result of one run of the gate: jobs to publish to the broker, and seconds until the next run unless woken."""

    released: Sequence[Released]
    look_again_seconds: float


class Gate:
    """Releases due jobs to the broker. Any number of gates may run: who writes a lane's row first releases.

    `is_told`: whether messages wake it when there is something to do; else it looks more often. `known`: jobs of other
    operations are passed over, and take no slot; None: it releases them all.
    """

    def __init__(
        self, lanes: LaneStore, is_told: Callable[[], bool] = lambda: True, known: KnownOperations | None = None
    ) -> None:
        self._lanes = lanes
        self._known = known
        self._unknown: dict[str, str] = {}  # operations that no worker runs, with the queue of their jobs
        self._told: set[str] = set()  # of these, which were logged
        self._is_told = is_told
        self._untold_seconds = UNTOLD_SLOW_SECONDS
        self._waiting: set[str] = set()  # lanes that may have had due jobs left
        self._expected: dict[str, int] = {}  # by lane, how many jobs to read
        self._look_due = 0.0

    def run_once(self, wakeup: Wakeup = _FOR_ALL) -> GateRun:
        """Releases due jobs of the downstreams that it was woken for, or of all when their time has come.

        The released jobs are committed as such and must be published or taken back.
        With one due lane, and no other that may wait for the same places, the query for all due lanes is left out. A
        place that came free means nothing while no lane waits.
        """
        left = self._look_due - clock.monotonic()
        names = wakeup.lanes
        if (
            names is None
            or len(names) > 1
            or left <= 0
            or not self._is_told()
            or ((names or wakeup.freed) and self._waiting - names)
        ):
            turn = self._look_at_all()
        elif names:
            name = next(iter(names))
            released, look = self._release(name)
            turn = GateRun(released=released, look_again_seconds=max(0.0, min(left, look)))
        else:
            turn = GateRun(released=[], look_again_seconds=left)
        self._look_due = clock.monotonic() + turn.look_again_seconds
        return turn

    def nothing_waits(self) -> None:
        """Called when another query has just seen that no job waits: puts the next look of its own off."""
        self._waiting.clear()
        self._look_due = clock.monotonic() + SLOW_LOOK_SECONDS

    def _look_at_all(self) -> GateRun:
        self._waiting.clear()
        if self._known:
            known = self._known
            self._unknown = {name: queue for name, queue in self._unknown.items() if not known.has(queue, name)}
        lanes = list(self._lanes.due())
        random.shuffle(lanes)  # no lane is always first at the places of its queue
        due = Counter(lane.queue for lane in lanes if max(lane.next_run_at, lane.paused_until) <= lane.now)
        contended = {queue for queue, contenders in due.items() if contenders > 1}
        released: list[Released] = []
        look_again = SLOW_LOOK_SECONDS
        for lane in lanes:
            ready_at = max(lane.next_run_at, lane.paused_until)
            if ready_at > lane.now:
                look_again = min(look_again, (ready_at - lane.now) / 1e6)
                continue
            let_go, look = self._release(lane.name, contended)
            released += let_go
            look_again = min(look_again, look)
        if not self._is_told():
            self._untold_seconds = _UNTOLD_SECONDS if released else min(2 * self._untold_seconds, UNTOLD_SLOW_SECONDS)
            look_again = min(look_again, self._untold_seconds)
        return GateRun(released=released, look_again_seconds=max(0.0, look_again))

    def _release(self, name: str, contended: AbstractSet[str] = frozenset()) -> tuple[Sequence[Released], float]:
        """Releases what may go of one lane: read, plan, write. Returns the jobs, and seconds until the next look."""
        self._waiting.add(name)
        for _ in range(_TRIES):
            plan = self._plan(name, contended)
            if plan is None:
                return [], SLOW_LOOK_SECONDS
            if plan.has_new_clock and not plan.released:
                self._lanes.settle(name)  # else each look would put the next slot off again
            released = self._lanes.write(plan) if plan.released else []
            if released or not plan.released:
                break
        else:
            return [], BUSY_LOOK_SECONDS
        self._expected[name] = len(released) + _FEW
        if len(released) < len(plan.released) or len(released) >= BATCH:
            return released, 0.0
        if released and plan.leaves_none:
            self._waiting.discard(name)
        return released, SLOW_LOOK_SECONDS if plan.held_back is None else plan.held_back - LEAD_SECONDS

    def _plan(self, name: str, contended: AbstractSet[str]) -> Plan | None:
        """Reads a lane and plans its release; None: there is no such lane."""
        state = self._read(name, limit=self._expected.get(name, _FEW))
        plan = plan_release(state, contended) if state else None
        if plan and plan.unread:
            state = self._read(name, queues=plan.unread, limit=max(plan.unread.values()))
            plan = plan_release(state, contended) if state else None
        if plan and plan.followers:
            open_calls = self._lanes.unfollowed_calls(name, plan.followers) if plan.state.held else []
            plan = plan.with_followers(open_calls)
        return plan

    def _read(self, name: str, *, queues: Collection[str] = (*Queue,), limit: int) -> LaneState | None:
        """Reads a lane and its waiting jobs; those of operations that no worker runs are passed over."""
        while True:
            state = self._lanes.read(name, queues=queues, limit=limit, without=self._unknown)
            new = self._known.unknown_among(state.waiting) if self._known and state else {}
            if not new:
                return state
            for operation in new.keys() - self._told:
                log.warning("jobs wait for the operation %r, which no worker runs: they are not released", operation)
            self._told |= new.keys()
            self._unknown |= new
