"""Plans a release: which of the waiting jobs go now, at which slots, and which follow an open call. Pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from tidegate import rate_limit
from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.dispatch.lane import Lane, LaneState, WaitingJob, WaitingPoll, is_kept_apart
from tidegate.dispatch.partitions.partition import Chosen
from tidegate.dispatch.room import MOST_RELEASED, NO_RIVALS, Rivals, Room, calls_left, room_in, worker_room
from tidegate.jobs.job import Call, Released
from tidegate.operations.queues import Queue

HORIZON = timedelta(milliseconds=120)
"""Slots are taken at most this far ahead: after a change of a limit, or a pause, few jobs have old slots."""
LEAD = timedelta(milliseconds=90)
"""The gate looks again this long before the first slot that is not taken yet, for a message needs time to its worker:
10 ms, but a slot missed on a busy machine is lost, while a worker that waits for its slot costs only a thread."""

_HORIZON = HORIZON // MICROSECOND
# Longer calls have no followers: the gap between two is small beside them, and a follower's thread waits for long.
_QUICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one release writes: jobs with their slots, and the rate limiter's state after these.

    `held_back`: where a rate holds the rest back, the seconds until the next slot. `followers`: so many more may go,
    each to follow an open call; `follows`: by job, the call that it follows; a poll follows its own job's. `next_due`:
    seconds until another poll, or another partition, may go. `unread`: how many jobs of which queues might go as well,
    had they been read. `has_room_left`: jobs that were not read may fit, beside those that go. `shared`: what it
    changes of partitions, where the lane has any.
    """

    state: LaneState
    released: Sequence[Released] = ()
    pace: rate_limit.Pace
    held_back: float | None = None
    followers: int = 0
    follows: Mapping[str, Call] = field(default_factory=dict)
    next_due: float | None = None
    unread: Mapping[str, int] = field(default_factory=dict)
    has_room_left: bool = False
    shared: Chosen | None = None

    def with_followers(self, open_calls: Sequence[Call]) -> "Plan":
        """Adds the next jobs as followers of these open calls, and then of the ones that begin now.

        They take a rate's slot when their turn comes.
        """
        now = self.state.now
        gone = {job.job_id for job in self.released}
        could = [job for job in self.state.waiting if can_follow(job, self.state.batched)]
        may_follow = [job for each in could if (job := released_at(each, now, now)).job_id not in gone]
        return self.followed_by(may_follow[: self.followers], open_calls)

    def followed_by(self, jobs: Sequence[Released], open_calls: Sequence[Call]) -> "Plan":
        """Adds these jobs, as far as there are calls to follow: the open ones, then those that begin now."""
        own_place = [job for job in self.released if job.job_id not in self.follows]
        begin_now = [(job.job_id, job.fence) for job in own_place if job.queue == Queue.IO]
        following = dict(zip(jobs, [*open_calls, *begin_now], strict=False))
        follows = {**self.follows, **{job.job_id: call for job, call in following.items()}}
        pace, allowance = self.pace, self.state.lane.allowance
        if not allowance.rates:  # then they take none, and count from now on for a rate that is to come
            _, pace = rate_limit.take_slots(allowance, pace, now=self.state.now, wanted=len(following), horizon=0)
        return replace(self, released=[*self.released, *following], follows=follows, pace=pace)

    @cached_property
    def has_batches(self) -> bool:
        """Whether it releases jobs that go, or could have gone, with others in one call."""
        return any(job.batch for job in self.released)

    def rides_along(self, job: Released) -> bool:
        """Whether a job goes with another in one call, and has neither slot nor place nor message of its own."""
        return job.batch is not None and job.job_id in self.follows

    @property
    def calls(self) -> Sequence[Released]:
        """What it releases, and of jobs that go together the one that has slot and place."""
        return [job for job in self.released if not self.rides_along(job)]

    @property
    def apart(self) -> AbstractSet[str]:
        """The queues of which it releases a job that is kept apart."""
        if self.shared is not None:
            return self.shared.apart
        alike = [job for job in self.state.jobs if is_kept_apart(job)]
        gone = {job.job_id for job in self.released} if alike else set[str]()
        return {job.queue for job in alike if str(UUID(job.id)) in gone}

    @property
    def has_new_clock(self) -> bool:
        """Whether the database's clock was set back: the rate limiter's state, as it was read, lies too far ahead."""
        return self.pace.free_at < self.state.lane.pace.free_at

    @property
    def leaves_none(self) -> bool:
        """Whether all jobs that wait are released, but for polls that are not due yet."""
        if self.shared is not None:
            return self.shared.leaves_none
        read_all = self.state.of_all_queues and not self.state.may_have_more
        return read_all and len(self.released) == len(self.state.waiting) + len(self.state.due_polls)


def plan_release(state: LaneState, rivals: Rivals = NO_RIVALS) -> Plan:
    """Plans the release of what waits in a lane, beside these rivals."""
    if state.lane.rests(state.now):
        return Plan(state=state, pace=state.lane.pace)
    polls = polls_that_go(state, rivals) if state.polls else ()
    room = room_in(state, rivals, polls=[poll.job for poll in polls])
    fitting = that_fit(state.waiting, room.by_queue)
    plan = _with_slots(state, [*(poll.job for poll in polls), *fitting] if polls else fitting)
    if state.polls:
        plan = _on_kept_places(plan, polls)
    anew = len(plan.released) - len(plan.follows)
    followers = followers_of(state, room.idle_threads, released=anew)
    may_have_more = state.may_have_more and plan.held_back is None
    unread = _unread(state, room, followers) if may_have_more else {}
    has_room_left = may_have_more and anew < max(room.by_queue.values(), default=0)
    if not (followers or unread or has_room_left):
        return plan
    return replace(plan, followers=followers, unread=unread, has_room_left=has_room_left)


def plan_polls(state: LaneState, rivals: Rivals = NO_RIVALS) -> tuple[Plan, Room]:
    """Plans the polls of a shared lane, which take no turns; and how many more jobs may be released beside them."""
    polls = polls_that_go(state, rivals) if state.polls else ()
    jobs = [poll.job for poll in polls]
    plan = _with_slots(state, jobs)
    return _on_kept_places(plan, polls) if state.polls else plan, room_in(state, rivals, polls=jobs)


def polls_that_go(state: LaneState, rivals: Rivals = NO_RIVALS) -> Sequence[WaitingPoll]:
    """The due polls for which there is room: of workers, and of calls where the downstream says how many it takes.

    They have their places, and go before jobs that have none: what is begun is to end. Where the concurrency was
    lowered below the places that are kept, no more of them are called at once than it allows now.
    """
    due = {poll.job.id: poll for poll in state.due_polls}
    left, concurrency = calls_left(state), state.lane.concurrency
    most = min(
        MOST_RELEASED if left is None else left, MOST_RELEASED if concurrency is None else concurrency - state.calls
    )
    rooms = {queue: min(room, most) for queue, room in worker_room(state, rivals).items()}
    return [due[job.id] for job in that_fit([poll.job for poll in due.values()], rooms)]


def _on_kept_places(plan: Plan, polls: Sequence[WaitingPoll]) -> Plan:
    """The polls of a plan follow the kept places of their jobs; and when is the next one due?"""
    kept = {str(UUID(poll.job.id)): poll.place_fence for poll in polls}
    follows = {job.job_id: (job.job_id, kept[job.job_id]) for job in plan.released if job.job_id in kept}
    later = [poll.job.run_at for poll in plan.state.polls if poll.job.run_at > plan.state.now]
    next_due = (min(later) - plan.state.now) / 1e6 if later else None
    return replace(plan, follows=follows, next_due=next_due)


def _with_slots(state: LaneState, fitting: Sequence[WaitingJob]) -> Plan:
    """Takes a slot within the horizon for each job; those that are paced by their calls need none."""
    lane = state.lane
    now, paced = state.now, sum(not job.paced_by_calls for job in fitting)
    first = max(now, state.first_slot_at)
    slots, pace = rate_limit.take_slots(lane.allowance, lane.pace, now=first, wanted=paced, horizon=_HORIZON)
    held_back = None
    if len(slots) < paced:
        held_back = (rate_limit.next_slot(lane.allowance, pace, now=now) - now) / 1e6
    left = iter(slots)
    taken = ((job, now if job.paced_by_calls else next(left, None)) for job in fitting)
    released = [released_at(job, slot, now) for job, slot in taken if slot is not None]
    return Plan(state=state, released=released, pace=pace, held_back=held_back)


def _unread(state: LaneState, room: Room, followers: int) -> dict[str, int]:
    """Where jobs may wait that were not read: how many of each queue could go."""
    could_go = max(room.by_queue.values(), default=0) + followers
    if sum(job.queue in room.by_queue for job in state.waiting) >= could_go:
        return {}
    queues = [*room.by_queue, *([Queue.IO] if followers else [])]
    return dict.fromkeys(queues, could_go)


def followers_of(state: LaneState, idle_threads: int, *, released: int) -> int:
    """How many followers a lane may have, with so many jobs just released.

    Zero while a place is free, or while the concurrency was lowered below what is taken, and only for threads that
    would idle.
    """
    lane = state.lane
    if state.held + released != lane.concurrency or not may_be_followed(lane):
        return 0
    return max(0, idle_threads - released)


def may_be_followed(lane: Lane) -> bool:
    """Whether a lane's calls have followers: they are quick, and its places are what it waits for."""
    is_quick = lane.call_seconds is None or lane.call_seconds <= _QUICK_SECONDS
    return lane.concurrency is not None and is_quick and not lane.is_troubled


def can_follow(job: WaitingJob, batched: AbstractSet[str]) -> bool:
    """Whether a job may be released to follow an open call: not one that many go with, for it is sent when they are."""
    return job.queue == Queue.IO and not is_kept_apart(job) and job.operation not in batched


def that_fit(waiting: Sequence[WaitingJob], rooms: Mapping[str, int]) -> Sequence[WaitingJob]:
    """The waiting jobs for which there is room, in order; `rooms` by queue, the largest of them is the most in all."""
    left = dict(rooms)
    has_one_apart: set[str] = set()
    fitting: list[WaitingJob] = []
    at_all = [job for job in waiting if job.queue in left]
    for job in at_all[: max(left.values(), default=0)]:
        if left[job.queue] <= 0 or (is_kept_apart(job) and job.queue in has_one_apart):
            continue
        fitting.append(job)
        left[job.queue] -= 1
        if is_kept_apart(job):
            has_one_apart.add(job.queue)
    return fitting


def released_at(job: WaitingJob, slot: int, now: int) -> Released:
    """Makes the Released of a job: its next fence, and this slot. Instants in microseconds."""
    return Released(
        job_id=str(UUID(job.id)),
        fence=job.fence + 1,
        queue=job.queue,
        operation=job.operation,
        slot_at=from_microseconds(slot),
        deadline=from_microseconds(job.deadline),
        waited=max(0, now - job.run_at) * MICROSECOND,
        traceparent=job.traceparent,
    )
