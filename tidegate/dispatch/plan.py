"""Plans a release: which of the waiting jobs go now, and at which slots. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidegate import rate_limit
from tidegate.clock import MICROSECOND, from_microseconds
from tidegate.dispatch.lane import Lane, WaitingJob, is_kept_apart
from tidegate.jobs.job import Released


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The plan: jobs to release, and the rate limiter's state after their slots.

    `held_back`: where a rate holds the rest back, the seconds until the next slot.
    """

    released: Sequence[Released]
    pace: rate_limit.Pace
    held_back: float | None


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


def chosen(lane: Lane, fitting: Sequence[WaitingJob], *, horizon: timedelta) -> Choice:
    """Takes a slot within the horizon for each job; those that are paced by their calls need none."""
    paced = [job for job in fitting if not job.paced_by_calls]
    slots, pace = rate_limit.take(
        lane.allowance, lane.pace, now=lane.now, wanted=len(paced), horizon=horizon // MICROSECOND
    )
    slot_of = {job.id: slot for job, slot in zip(paced, slots, strict=False)}
    slot_of |= {job.id: lane.now for job in fitting if job.paced_by_calls}
    held_back = None
    if len(slots) < len(paced):
        held_back = (rate_limit.next_slot(lane.allowance, pace, now=lane.now) - lane.now) / 1e6
    now = from_microseconds(lane.now)
    released = [released_at(job, from_microseconds(slot_of[job.id]), now) for job in fitting if job.id in slot_of]
    return Choice(released=released, pace=pace, held_back=held_back)


def released_at(job: WaitingJob, slot_at: datetime, now: datetime) -> Released:
    """Makes the Released of a job: its next fence, and this slot."""
    return Released(
        job_id=job.id,
        fence=job.fence + 1,
        queue=job.queue,
        operation=job.operation,
        slot_at=slot_at,
        deadline=job.deadline,
        waited=max(timedelta(0), now - job.run_at),
        traceparent=job.traceparent,
    )
