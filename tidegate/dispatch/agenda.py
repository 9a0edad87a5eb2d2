"""The dispatcher's agenda: which lanes have due jobs, what holds each of them back, and when to look at each. Pure.

Instants are seconds of this machine's monotonic clock.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from tidegate.dispatch.lane import DueLane, LaneState
from tidegate.dispatch.plan import LEAD, Plan
from tidegate.dispatch.room import NO_RIVALS, Rivals

GATHER_SECONDS = 0.02
"""Lanes whose time comes within so long of each other are looked at together: slots are taken further ahead."""
OTHERS_SECONDS = 0.25
"""A lane of another scheduler is looked at so much later: that one releases its jobs by then, if it lives."""
# A call takes so long, for all that is known of one that nobody has measured.
_UNKNOWN_SECONDS = 2.5
_LONGEST_SECONDS = 60.0
_NEVER = float("inf")


@dataclass(kw_only=True)
class _Entry:
    """What is known of a lane with due jobs.

    `look_at`: when to look at it. `queue`: of its first job. `held_until`: when its rate lets the next one go; None: no
    rate holds it. `version`: of its row, while nothing but a change of that can make a job go before `look_at`.
    `wants_place`: jobs are left for which no place was free.
    """

    look_at: float
    queue: str = ""
    held_until: float | None = None
    version: str | None = None
    wants_place: bool = False


class Agenda:
    """When to look at which lane. `is_mine`: whether a lane's jobs are this scheduler's to release."""

    def __init__(self, is_mine: Callable[[str], bool]) -> None:
        self._is_mine = is_mine
        self._entries: dict[str, _Entry] = {}

    def clear(self) -> None:
        """Called when no job waits in any lane."""
        self._entries.clear()

    def wake(self, names: Iterable[str], *, freed: bool, now: float) -> None:
        """Lanes got jobs; `freed`: a place came free. Who waits for places is looked at as well: they are shared.

        A lane that its rate holds has nothing to gain from one more job.
        """
        woken = set(names)
        if woken or freed:
            woken |= {name for name, entry in self._entries.items() if entry.wants_place}
        for name in sorted(woken):
            entry = self._entries.get(name)
            if entry is None or entry.held_until is None:
                self._look(name, now)

    def survey(self, lanes: Collection[DueLane], *, now: float) -> float:
        """Takes in all lanes with queued jobs; returns the instant at which the first job of another will be due.

        A lane that is held is looked at only if its row has changed since.
        """
        for name in self._entries.keys() - {lane.name for lane in lanes}:
            del self._entries[name]
        next_due = _NEVER
        for lane in lanes:
            entry = self._entries.get(lane.name)
            is_held = entry is not None and entry.version == lane.version and entry.look_at > now
            ready_in = max(lane.next_run_at, lane.paused_until) - lane.now
            if ready_in > 0:
                next_due = min(next_due, now + ready_in / 1e6)
            elif not is_held:
                self._look(lane.name, now, queue=lane.queue)
        return next_due

    def due(self, now: float) -> list[str]:
        """The lanes to look at now."""
        soon = now + GATHER_SECONDS
        return [
            name
            for name, entry in self._entries.items()
            if entry.look_at <= now or (entry.look_at <= soon and entry.held_until is not None)
        ]

    def is_held(self, name: str) -> bool:
        """Whether more of a lane's jobs waited at the last look than its rate let go."""
        entry = self._entries.get(name)
        return entry is not None and entry.held_until is not None

    def next_look(self) -> float:
        """When the next lane is to be looked at."""
        return min((entry.look_at for entry in self._entries.values()), default=_NEVER)

    def looked(self, plan: Plan, version: str | None, *, now: float) -> None:
        """A lane was looked at, and this is its plan; `version`: of its row now, None: not known."""
        lane = plan.state.lane
        before = self._entries.get(lane.name)
        queue = plan.state.waiting[0].queue if plan.state.waiting else before.queue if before else ""
        if lane.rests(plan.state.now):
            self._entries.pop(lane.name, None)  # surveys know when it may go on
        elif plan.held_back is not None:
            until = now + plan.held_back
            look_at = self._later_by_others(lane.name, until - LEAD / timedelta(seconds=1))
            self._entries[lane.name] = _Entry(look_at=look_at, queue=queue, held_until=until, version=version)
        elif plan.leaves_none and plan.next_due is None:
            self._entries.pop(lane.name, None)
        else:
            next_due = _NEVER if plan.next_due is None else plan.next_due
            look_at = self._later_by_others(lane.name, now + next_due)
            self._entries[lane.name] = _Entry(look_at=look_at, queue=queue, wants_place=not plan.leaves_none)

    def look_again(self, name: str, *, at: float) -> None:
        """Looks at a lane at this instant whatever holds it."""
        self._entries.setdefault(name, _Entry(look_at=at)).look_at = at

    def forget(self, name: str) -> None:
        """There is no such lane."""
        self._entries.pop(name, None)

    def rivals(self, states: Collection[LaneState], *, now: float) -> dict[str, Rivals]:
        """What other lanes want of the workers beside each of these, which were just read; by name."""
        names = {state.lane.name for state in states}
        if len(names) == 1 and self._entries.keys() <= names:
            return dict.fromkeys(names, NO_RIVALS)
        wanting: defaultdict[str, set[str]] = defaultdict(set)
        for state in states:
            for job in (*state.waiting, *(poll.job for poll in state.due_polls)):
                wanting[job.queue].add(state.lane.name)
        held: list[tuple[str, str, float]] = []
        for name, entry in self._entries.items():
            if entry.wants_place:
                wanting[entry.queue].add(name)
            elif entry.held_until is not None and now < entry.held_until <= now + _LONGEST_SECONDS:
                held.append((entry.queue, name, entry.held_until))
        return {state.lane.name: _rivals_of(state, wanting, held, now=now) for state in states}

    def _look(self, name: str, now: float, queue: str = "") -> None:
        at = self._later_by_others(name, now)
        entry = self._entries.setdefault(name, _Entry(look_at=at, queue=queue))
        entry.look_at = min(entry.look_at, at)
        entry.queue = queue or entry.queue

    def _later_by_others(self, name: str, at: float) -> float:
        return at if self._is_mine(name) else at + OTHERS_SECONDS


def _rivals_of(
    state: LaneState, wanting: Mapping[str, AbstractSet[str]], held: Iterable[tuple[str, str, float]], *, now: float
) -> Rivals:
    own = state.lane.name
    soon: defaultdict[str, set[str]] = defaultdict(set)
    until = now + _call_seconds(state)
    for queue, name, held_until in held:
        if held_until <= until and name != own:
            soon[queue].add(name)
    kept: dict[str, int] = {}
    share: dict[str, int] = {}
    for queue, names in soon.items():
        size, out = state.occupancy.sizes.get(queue, 0), state.occupancy.out.get(queue, {})
        share[queue] = max(1, size // len(names | wanting.get(queue, set()) | {own}))
        kept[queue] = min(size // 2, sum(out.get(name, 0) < share[queue] for name in names))
    contended = {queue for queue, names in wanting.items() if names - {own}}
    return Rivals(contended=contended, kept=kept, share=share)


def _call_seconds(state: LaneState) -> float:
    """For how long a job that is released now keeps a thread from others, with what is queued before it."""
    known = state.lane.call_seconds
    return min(_LONGEST_SECONDS, 2 * (_UNKNOWN_SECONDS if known is None else known))
