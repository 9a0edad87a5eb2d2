"""The gate: the dispatcher that releases due jobs of every lane as rate, burst, concurrency and workers allow."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from tidegate import clock
from tidegate.dispatch.lane import Lane, Room
from tidegate.dispatch.store import LaneStore
from tidegate.jobs.job import Released
from tidegate.notify.messages import Wakeup
from tidegate.operations.operation import Queue

BATCH = 200
# Slots are taken at most this far ahead: after a change of a limit, or a pause, few jobs have old slots.
HORIZON = timedelta(milliseconds=120)
# The gate looks again this long before the first slot that is not taken yet, for a message needs time to its worker:
# 10 ms, but a slot missed on a busy machine is lost, while a worker that waits for its slot costs only a thread.
LEAD_SECONDS = 0.09
LOCKED_LOOK_SECONDS = 0.02
SLOW_LOOK_SECONDS = 1.0
# Without pub/sub: looks soon after a release, since its places come free again, then less and less often.
_UNTOLD_SECONDS = 0.05
UNTOLD_SLOW_SECONDS = 0.25
_FOR_ALL = Wakeup(lanes=None)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The result of one look of the gate: released jobs to publish, and seconds until the next look unless woken."""

    released: Sequence[Released]
    look_again_seconds: float


class Gate:
    """Releases due jobs to the broker. Any number of gates may run: a lane's row lock or version decides who releases.

    `is_told`: whether messages wake it when there is something to do; else it looks more often.
    """

    def __init__(self, lanes: LaneStore, is_told: Callable[[], bool] = lambda: True) -> None:
        self._lanes = lanes
        self._is_told = is_told
        self._untold_seconds = UNTOLD_SLOW_SECONDS
        self._waiting: set[str] = set()  # lanes that may have had due jobs left
        self._look_due = 0.0

    def run_once(self, rung: Wakeup = _FOR_ALL) -> Turn:
        """Releases what is due in the lanes that it was woken for, or in all when their time has come.

        The released jobs are committed as such and must be published or taken back.
        With one due lane, and no other that may wait for the same places, the query for all due lanes is left out. A
        place that came free means nothing while no lane waits.
        """
        left = self._look_due - clock.monotonic()
        names = rung.lanes
        if (
            names is None
            or len(names) > 1
            or left <= 0
            or not self._is_told()
            or ((names or rung.freed) and self._waiting - names)
        ):
            turn = self._look_at_all()
        elif names:
            name = next(iter(names))
            released, look = self._release(name, frozenset(), are_few=name not in self._waiting)
            turn = Turn(released=released, look_again_seconds=max(0.0, min(left, look)))
        else:
            turn = Turn(released=[], look_again_seconds=left)
        self._look_due = clock.monotonic() + turn.look_again_seconds
        return turn

    def nothing_waits(self) -> None:
        """Called when another query has just seen that no job waits: puts the next look of its own off."""
        self._waiting.clear()
        self._look_due = clock.monotonic() + SLOW_LOOK_SECONDS

    def _look_at_all(self) -> Turn:
        self._waiting.clear()
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
        return Turn(released=released, look_again_seconds=max(0.0, look_again))

    def _release(
        self, name: str, contended: AbstractSet[str], *, are_few: bool = False
    ) -> tuple[Sequence[Released], float]:
        room = 0

        def room_of(lane: Lane) -> Room:
            nonlocal room
            found = room_in(lane, contended)
            room = min(found.by_queue.values(), default=0)
            return found

        self._waiting.add(name)
        released = self._lanes.release(name, room_of, horizon=HORIZON, are_few=are_few)
        if released is None:
            return [], LOCKED_LOOK_SECONDS
        jobs, seconds_to_next_slot = released
        if seconds_to_next_slot is None and 0 < len(jobs) < room:
            self._waiting.discard(name)
        if len(jobs) == BATCH:
            return jobs, 0.0
        if seconds_to_next_slot is None:
            return jobs, SLOW_LOOK_SECONDS
        return jobs, seconds_to_next_slot - LEAD_SECONDS


def room_in(lane: Lane, contended: AbstractSet[str] = frozenset()) -> Room:
    """How many more jobs of this lane may be released, by queue.

    The downstream's concurrency, whatever the queue; at most twice as many messages as the live workers of a queue
    can run, so that the broker's queue stays short; and in a queue for which another lane has due jobs too, no more
    than half of those. With an open breaker one at a time, as a probe.
    """
    if lane.is_broken:
        free = 0 if lane.held else 1
    else:
        free = BATCH if lane.concurrency is None else min(BATCH, lane.concurrency - lane.held)
    places = {}
    for queue, size in lane.sizes.items():
        room = min(free, 2 * size - lane.out_by_queue.get(queue, 0))
        if queue in contended:
            room = min(room, size - lane.out.get(queue, 0))
        if room > 0:
            places[queue] = room
    size = lane.sizes.get(Queue.IO, 0)
    idle = size - lane.out_by_queue.get(Queue.IO, 0)
    if Queue.IO in contended:
        idle = min(idle, size // 2 - lane.out.get(Queue.IO, 0))
    return Room(by_queue=places, idle_threads=max(0, idle))
