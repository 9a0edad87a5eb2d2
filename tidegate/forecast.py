"""When a job will be done, as far as that can be told, and so when to ask again."""

import math
from datetime import timedelta

from tidegate.job import Job
from tidegate.states import State

_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(seconds=60)


def retry_after_seconds(job: Job) -> int:
    """Whole seconds until it is worth asking again: at least 1, at most 60 and what is left to the deadline."""
    left = job.deadline - job.seen_at
    return max(1, math.ceil(min(max(_expected_left(job), _SHORTEST), _LONGEST, left).total_seconds()))


def _expected_left(job: Job) -> timedelta:
    """Until the job's expected end: from its progress, else as long again as it has already taken."""
    if job.state is State.QUEUED:
        return max(job.run_at - job.seen_at, job.seen_at - job.created_at)
    elapsed = job.seen_at - (job.started_at or job.created_at)
    return elapsed * (100 - job.percent) / job.percent if job.percent else elapsed
