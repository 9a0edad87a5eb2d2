"""Bulk cancel and retry of many jobs by an operator: one after the other; refusals are counted by type."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from tidegate.database.connection import after_a_write
from tidegate.errors import Refusal
from tidegate.gateway import Gateway
from tidegate.jobs.job import Job
from tidegate.states import State


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of a bulk request. `done`: jobs cancelled, or submitted again; `asked`: running ones asked to stop."""

    done: int = 0
    asked: int = 0
    refusals: Counter[type[Refusal]] = field(default_factory=Counter)


def cancel_each(jobs: Gateway, found: Sequence[Job]) -> Outcome:
    """Cancels each job that is queued and asks each that runs to stop; as an operator."""
    done = asked = 0
    refusals: Counter[type[Refusal]] = Counter()
    for job in found:
        try:
            with after_a_write() if done or asked else nullcontext():
                after = jobs.cancel(job.id, client_id=None)
        except Refusal as refusal:  # it ended meanwhile, or was erased
            refusals[type(refusal)] += 1
        else:
            done += after.state is State.CANCELLED
            asked += after.state is not State.CANCELLED
    return Outcome(done=done, asked=asked, refusals=refusals)


def retry_each(jobs: Gateway, found: Sequence[Job]) -> Outcome:
    """Submits each job again, at most once however often this is called; as an operator."""
    done = 0
    refusals: Counter[type[Refusal]] = Counter()
    for job in found:
        try:
            with after_a_write() if done else nullcontext():
                jobs.retry(job.id, client_id=None, idempotency_key=f"retry-of-{job.id}")
        except Refusal as refusal:
            refusals[type(refusal)] += 1
        else:
            done += 1
    return Outcome(done=done, refusals=refusals)
