"""The gate: the dispatcher that releases due jobs of every lane as rate, burst, concurrency and workers allow."""

import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate import clock
from tidegate.clock import MICROSECOND
from tidegate.dispatch.agenda import Agenda
from tidegate.dispatch.batches import MOST_READ, NO_BATCHES, BatchedJobs
from tidegate.dispatch.known_operations import KnownOperations
from tidegate.dispatch.lane import LaneState, WaitingJob, is_kept_apart
from tidegate.dispatch.partitions.shared_lanes import SharedLanes
from tidegate.dispatch.plan import LEAD, Plan, plan_release
from tidegate.dispatch.release import Written
from tidegate.dispatch.room import MOST_RELEASED, Rivals
from tidegate.dispatch.store import LaneStore
from tidegate.jobs.job import Released
from tidegate.notify.messages import Wakeup
from tidegate.operations.batch import Batch

log = logging.getLogger(__name__)

# So many of a lane's jobs are read at first: they cost little, and in most lanes no more wait.
_FEW = 8
_TRIES = 3
# So many lanes are read in one statement and written in one transaction.
_TOGETHER = 32
# A scheduler that released jobs of another's lane, because that did not, does so at once for so long.
_HELP_SECONDS = 3.0
# No slot is passed over for being near that lies further ahead than this (microseconds).
_FURTHEST = LEAD // MICROSECOND
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
    operations are passed over, and take no slot; None: it releases them all. `is_mine`: whether this scheduler is the
    one to release a lane's jobs; to those of others it comes a quarter of a second later, in case their own is dead.
    `batched`: the operations whose jobs go many in one call.
    """

    def __init__(
        self,
        lanes: LaneStore,
        is_told: Callable[[], bool] = lambda: True,
        known: KnownOperations | None = None,
        is_mine: Callable[[str], bool] = lambda _: True,
        batched: Mapping[str, Batch] = NO_BATCHES,
    ) -> None:
        self._lanes = lanes
        self._batches = BatchedJobs(batched, lanes.input_sizes)
        self._known = known
        self._unknown: dict[str, str] = {}  # operations that no worker runs, with the queue of their jobs
        self._told: set[str] = set()  # of these, which were logged
        self._is_told = is_told
        self._is_mine = is_mine
        self._untold_seconds = UNTOLD_SLOW_SECONDS
        self._agenda = Agenda(lambda name: clock.monotonic() < self._helps_until or is_mine(name))
        self._shared = SharedLanes(lanes.partitions, self._unknown, self._learn, lanes.unfollowed_calls, self._batches)
        self._expected: dict[str, int] = {}  # by lane, how many jobs to read, where that is more than a few
        self._survey_due = self._helps_until = 0.0
        self._look_seconds = 0.0  # how long the last release took

    def run_once(self, wakeup: Wakeup = _FOR_ALL) -> GateRun:
        """Releases due jobs of the lanes that it was woken for, and of those whose time has come.

        The released jobs are committed as such and must be published or taken back.
        The query for all due lanes is left out unless a second is over. A place that came free means nothing while no
        lane waits for one.
        """
        now = clock.monotonic()
        for lane, key in wakeup.partitions:
            self._shared.add(lane, key)
        if wakeup.lanes is None or now >= self._survey_due or not self._is_told():
            self._survey()
        else:
            self._agenda.wake(wakeup.lanes, freed=wakeup.freed, now=now)
        released = self._release_due()
        now = clock.monotonic()
        if not self._is_told():
            self._untold_seconds = _UNTOLD_SECONDS if released else min(2 * self._untold_seconds, UNTOLD_SLOW_SECONDS)
            self._survey_due = min(self._survey_due, now + self._untold_seconds)
        look_at = min(self._survey_due, self._agenda.next_look())
        return GateRun(released=released, look_again_seconds=max(0.0, look_at - now))

    def nothing_waits(self) -> None:
        """Called when another query has just seen that no job waits: puts the next look of its own off."""
        self._agenda.clear()
        self._survey_due = clock.monotonic() + SLOW_LOOK_SECONDS

    def _survey(self) -> None:
        """Finds all lanes with due jobs: also those that no message named, and whose limits were changed."""
        if self._known:
            known = self._known
            for name in [name for name, queue in self._unknown.items() if known.has(queue, name)]:
                del self._unknown[name]
        self._shared.survey_soon()
        now = clock.monotonic()
        next_due = self._agenda.survey(self._lanes.due(), now=now)
        self._survey_due = min(now + SLOW_LOOK_SECONDS, next_due)

    def _release_due(self) -> list[Released]:
        names = self._agenda.due(clock.monotonic())
        random.shuffle(names)  # no lane is always first at the places of its queue
        released: list[Released] = []
        for first in range(0, len(names), _TOGETHER):
            some = names[first : first + _TOGETHER]
            for _ in range(_TRIES):
                let_go, some = self._release(some)
                released += let_go
                if not some:
                    break
            for name in some:
                self._agenda.look_again(name, at=clock.monotonic() + BUSY_LOOK_SECONDS)
        return released

    def _release(self, names: Sequence[str]) -> tuple[list[Released], list[str]]:
        """Releases what may go of these lanes: read, plan, write.

        Returns the jobs, and the lanes whose rows were written by others meanwhile.
        """
        now = clock.monotonic()
        plans = self._plans(names, now)
        for name in set(names) - {plan.state.lane.name for plan in plans}:
            self._agenda.forget(name)
        going = [plan for plan in plans if plan.released]
        written = (
            dict(zip((plan.state.lane.name for plan in going), self._lanes.write(*going), strict=True)) if going else {}
        )
        if going:
            self._look_seconds = clock.monotonic() - now
        released: list[Released] = []
        lost: list[str] = []
        for plan in plans:
            name = plan.state.lane.name
            if not plan.released:
                if plan.has_new_clock:
                    self._lanes.settle(name)  # else each look would put the next slot off again
                self._agenda.looked(plan, plan.state.version, now=now)
            elif not written[name].released:
                lost.append(name)
            else:
                released += written[name].released
                self._went(plan, written[name], now)
        return released, lost

    def _went(self, plan: Plan, written: Written, now: float) -> None:
        name, number = plan.state.lane.name, len(written.released)
        if plan.shared is None:  # the first jobs of a shared lane are read by partition
            self._expected[name] = number + _FEW
        else:
            self._shared.went(plan, {job.job_id for job in written.released})
        if not self._is_mine(name):
            self._helps_until = now + _HELP_SECONDS
        self._agenda.looked(plan, written.version, now=now)
        # Room left: the first jobs are all of one queue, which is full by them, and those of others may stand behind.
        if number < len(plan.released) or number >= MOST_RELEASED or plan.has_room_left:
            self._agenda.look_again(name, at=now)

    def _plans(self, names: Sequence[str], now: float) -> list[Plan]:
        """Reads lanes and plans their releases, each beside those before it."""
        few = [name for name in names if self._expected.get(name, _FEW) <= 2 * _FEW]
        states: list[LaneState] = []
        shared = [name for name in few if self._shared.knows(name)]
        for some in (shared, [name for name in few if name not in shared] if shared else few):
            if some:
                limit = max(self._expected.get(name, _FEW) for name in some)
                states += self._read(some, limit=limit, are_shared=some is shared)
        for name in set(names) - {*few}:
            states += self._read([name], limit=self._expected[name])
        states = [self._on_time(state) for state in states]
        rivals = self._agenda.rivals(states, now=now)
        plans: list[Plan] = []
        for state in states:
            plan = self._plan(_beside(plans, state), rivals[state.lane.name])
            plans += [plan] if plan else []
        return plans

    def _on_time(self, state: LaneState) -> LaneState:
        """Of a lane that its rate held, and whose next slots are over by now, only those that can still be reached.

        A look takes as long as the last one, and a message to its worker at least as long again. The calls of missed
        slots would all take new ones, each in a transaction that holds the lane's row, and so the next looks up.
        """
        too_near = min(_FURTHEST, int(2e6 * self._look_seconds) - state.lane.allowance.late)
        first = state.now + max(0, too_near)
        if state.lane.pace.free_at >= first or not self._agenda.is_held(state.lane.name):
            return state
        return replace(state, first_slot_at=first)

    def _plan(self, state: LaneState, rivals: Rivals) -> Plan | None:
        """Plans one lane's release; reads more of its jobs where more could go. None: the lane is gone."""
        if state.lane.sharing:
            return self._shared.plan(state, state.lane.sharing, rivals)
        (plan, wanted), name = self._plan_of(state, rivals), state.lane.name
        if wanted:
            states = self._read([name], queues=plan.unread or None, limit=wanted)
            if not states:
                return None
            plan, _ = self._plan_of(states[0], rivals)
        if plan.followers:
            open_calls = self._lanes.unfollowed_calls(name, plan.followers) if plan.state.held else []
            plan = plan.with_followers(open_calls)
        return plan

    def _plan_of(self, state: LaneState, rivals: Rivals) -> tuple[Plan, int]:
        """The plan by the jobs that were read; and how many are to be read for one that lets more go, 0: none."""
        most = self._batches.most(state.waiting)
        if most == 1:
            plan = plan_release(state, rivals)
            return plan, max(plan.unread.values(), default=0)
        folded = self._batches.fold(
            state, state.waiting, may_have_more=state.may_have_more, may_linger=not state.lane.allowance.rates
        )
        plan = plan_release(folded.state(state, self._batches.declared), rivals)
        calls = max([*plan.unread.values(), len(plan.released) if folded.is_cut(plan) else 0])
        return folded.unfold(plan, state), min(MOST_READ, calls * most)

    def _read(
        self, names: Sequence[str], *, queues: Collection[str] | None = None, limit: int, are_shared: bool = False
    ) -> Sequence[LaneState]:
        """Reads lanes and their waiting jobs, of all `queues` if they are None.

        Those of operations that no worker runs are passed over.
        """
        while True:
            states = self._lanes.read(*names, queues=queues, limit=limit, without=self._unknown, are_shared=are_shared)
            states = [
                replace(state, polls=self._lanes.polls(state.lane.name, without=self._unknown))
                if state.has_kept
                else state
                for state in states
            ]
            if not self._learn([job for state in states for job in state.jobs]):
                return states

    def _learn(self, waiting: Sequence[WaitingJob]) -> bool:
        """Notes which of these jobs' operations no worker runs; tells whether there are any."""
        new = self._known.unknown_among(waiting) if self._known else {}
        for operation in new.keys() - self._told:
            log.warning("jobs wait for the operation %r, which no worker runs: they are not released", operation)
        self._told |= new.keys()
        self._unknown |= new
        return bool(new)


def _beside(plans: Sequence[Plan], state: LaneState) -> LaneState:
    """The lane's state once those plans are written: they take places of the same workers.

    And of the jobs that one more process death would fail, one of a queue is out at a time, whatever its lane.
    """
    if not plans:
        return state
    occupancy, apart = state.occupancy, set[str]()
    for plan in plans:
        occupancy = occupancy.with_released(plan.state.lane.name, [job.queue for job in plan.calls])
        apart |= plan.apart
    waiting = [job for job in state.waiting if job.queue not in apart or not is_kept_apart(job)]
    polls = [poll for poll in state.polls if poll.job.queue not in apart or not is_kept_apart(poll.job)]
    return replace(state, occupancy=occupancy, waiting=waiting, polls=polls, apart=apart)
