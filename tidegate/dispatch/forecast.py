"""Estimates when a job will start and finish, and when to ask for it again, from the view of its lane. Pure."""

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.sample import Mark
from tidegate.jobs.job import TOGETHER, Job, Wait, Waiting
from tidegate.states import State

SOONEST_POLL = timedelta(seconds=1)
LATEST_POLL = timedelta(seconds=60)
_JITTER = 0.1


def waiting_of(
    job: Job, lane: LaneView | None, behind: int = 0, marks: Sequence[Mark] = (), *, is_known: bool = True
) -> Waiting | None:
    """Why a queued job waits, its position and estimates; None for another.

    `behind`: so many came before it since the lane's sample, with `marks` of some of them. `is_known`: a worker runs
    its operation.
    """
    if job.state is not State.QUEUED:
        return None
    reason = _reason(job, lane) if is_known or job.slot_at is not None else Wait.UNKNOWN_OPERATION
    if lane is None or reason is Wait.DISPATCH:
        return Waiting(reason=reason)
    if reason is Wait.POLL:  # how long its downstream works on it, only that knows
        next_poll = max(job.run_at, job.seen_at, lane.downstream.next_slot_at)
        return Waiting(reason=reason, in_time=next_poll <= job.deadline, estimated_start=next_poll)
    tellable = reason not in {Wait.NO_WORKER, Wait.UNKNOWN_OPERATION}
    start = lane.start_of(job.run_at, job.seen_at, queue=job.queue, behind=behind, marks=marks) if tellable else None
    finish = start + lane.run_time if start else None
    return Waiting(
        reason=reason,
        in_time=finish is None or finish <= job.deadline,
        position=lane.position_of(job.run_at, behind),
        estimated_start=start,
        estimated_finish=finish,
    )


def retry_after_seconds(
    job: Job, waiting: Waiting | None, lane: LaneView | None, *, chance: float | None = None
) -> int:
    """Whole seconds until it is worth polling the job again: at least 1, at most 60 and the time to its deadline.

    From the expected finish, up to 10 % later, so that callers who came together do not come back together.
    """
    if waiting is None:
        expected = _run_time_left(job, lane)
    elif told := waiting.estimated_finish or (waiting.estimated_start if waiting.reason is Wait.POLL else None):
        expected = told - job.seen_at
    else:
        expected = max(job.run_at - job.seen_at, job.seen_at - job.created_at)
    expected *= 1 + _JITTER * (random.random() if chance is None else chance)  # noqa: S311 - nothing secret
    left = job.deadline - job.seen_at
    return max(1, math.ceil(min(max(expected, SOONEST_POLL), LATEST_POLL, left) / timedelta(seconds=1)))


def earliest_finish(
    lane: LaneView, now: datetime, submitted_since_sample: int, *, queue: str, longest_run: timedelta
) -> datetime | None:
    """When a job that is submitted now would finish, were a paused lane resumed now; None: can't be told.

    Then nothing is refused. A job that finds a free place is refused by no run time: that is its caller's business, and
    of a lane that is idle little is known.
    """
    start = lane.start_if_resumed(now, now, queue=queue, behind=submitted_since_sample)
    if start is None or lane.finds_free_place(queue, lane.position_of(now, submitted_since_sample)):
        return start
    return start + min(lane.run_time, longest_run)


def _run_time_left(job: Job, lane: LaneView | None) -> timedelta:
    """A running job's remaining time: from its progress, else from the lane's mean, else as long again as it took."""
    elapsed = job.seen_at - (job.started_at or job.created_at)
    if job.percent:
        return elapsed * (100 - job.percent) / job.percent
    usual = lane.run_time if lane else timedelta(0)
    return usual - elapsed if usual > elapsed else elapsed


def _reason(job: Job, lane: LaneView | None) -> Wait:
    if job.slot_at is not None:
        return Wait.DISPATCH
    if job.waits_for in {Wait.RETRY, Wait.POLL} and job.run_at > job.seen_at:
        return job.waits_for
    if _has_instant(job) and job.run_at > job.seen_at:
        return Wait.NOT_BEFORE
    reason = _reason_of_lane(job.queue, lane) if lane else Wait.DISPATCH
    # It has a place, and goes first.
    return Wait.POLL if job.waits_for is Wait.POLL and reason in {Wait.CONCURRENCY, Wait.PACE} else reason


def _has_instant(job: Job) -> bool:
    """Whether its caller asked for a later start: its run_at is neither that of its submit nor of an attempt's end."""
    return job.started_at is None and job.run_at - job.created_at > TOGETHER


def _reason_of_lane(queue: str, lane: LaneView) -> Wait:
    reasons = (
        (lane.downstream.paused, Wait.PAUSED),
        (lane.downstream.is_broken, Wait.BREAKER),
        (lane.downstream.rests_until is not None, Wait.PAUSED),
        (lane.worker_sizes is not None and not lane.worker_sizes.get(queue), Wait.NO_WORKER),
        (lane.is_full, Wait.CONCURRENCY),
    )
    return next((reason for holds, reason in reasons if holds), Wait.PACE)
