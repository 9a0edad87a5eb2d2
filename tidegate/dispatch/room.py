"""How much room there is for one lane's next release: places, workers' threads, what the downstream announced. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from tidegate.dispatch.lane import LaneState, WaitingJob
from tidegate.operations.queues import WEBHOOKS, Queue

MOST_RELEASED = 200
"""So many jobs are released together at most."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many more jobs of a lane may be released: by queue, onto free places; queues without any are left out.

    `idle_threads`: threads of the queue `io` that would idle all the same, so that followers may have them.
    """

    by_queue: Mapping[str, int]
    idle_threads: int = 0


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What other lanes want of the workers that a lane's jobs go to.

    `contended`: queues for which others have jobs that could go now. `kept`: by queue, the threads that are kept for
    lanes that their rate holds, and whose slots come before a call that begins now ends; a lane that has no more out
    than `share`, its equal part of the queue, needs to keep none.
    """

    contended: AbstractSet[str] = frozenset()
    kept: Mapping[str, int] = field(default_factory=dict)
    share: Mapping[str, int] = field(default_factory=dict)


NO_RIVALS = Rivals()


def room_in(state: LaneState, rivals: Rivals = NO_RIVALS, polls: Sequence[WaitingJob] = ()) -> Room:
    """How many more jobs of this lane may be released, by queue, beside these polls that go now.

    The downstream's concurrency and what it announced as left, whatever the queue; at most twice as many messages as
    the live workers of a queue can run, so that the broker's queue stays short; and in a queue for which another lane
    has due jobs too, no more than half of those. With an open breaker one at a time, as a probe.
    """
    lane = state.lane
    free = MOST_RELEASED if lane.concurrency is None else min(MOST_RELEASED, lane.concurrency - state.held)
    most = calls_left(state)
    if most is not None:
        free = min(free, most - len(polls))
    going = Counter(job.queue for job in polls) if polls else {}
    places = {}
    for queue, left in worker_room(state, rivals).items():
        room = min(free, left - going.get(queue, 0))
        if room > 0:
            places[queue] = room
    size = state.occupancy.sizes.get(Queue.IO, 0)
    idle = size - state.occupancy.out_in(Queue.IO) - rivals.kept.get(Queue.IO, 0)
    if Queue.IO in rivals.contended:
        idle = min(idle, size // 2 - state.out_in(Queue.IO))
    if most is not None:
        idle = min(idle, most)
    return Room(by_queue=places, idle_threads=max(0, idle - going.get(Queue.IO, 0)))


def calls_left(state: LaneState) -> int | None:
    """How many more calls may go out, whatever places there are: by its breaker, and what it announced; None: any."""
    announced = state.lane.announced_room(state.now, held=state.calls)
    if not state.lane.is_broken:
        return announced
    probe = 0 if state.calls else 1
    return probe if announced is None else min(probe, announced)


def worker_room(state: LaneState, rivals: Rivals) -> dict[str, int]:
    """How many more messages the live workers may get from this lane, by queue."""
    rooms = {}
    for queue, size in state.occupancy.sizes.items():
        if queue == WEBHOOKS:
            continue
        out = state.occupancy.out_in(queue)
        room = 2 * size - out
        if queue in rivals.contended:
            room = min(room, size - state.out_in(queue))
        if kept := rivals.kept.get(queue, 0):
            room = min(room, max(size - kept - out, rivals.share[queue] - state.out_in(queue)))
        if room > 0:
            rooms[queue] = room
    return rooms
