"""Mass actions: cancel and retry of many jobs by an operator, one after the other; refusals are counted by type."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from tidegate.database.connection import after_a_write
from tidegate.errors import Refusal
from tidegate.gateway import Gateway
from tidegate.jobs.job import Job
from tidegate.states import State


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of a mass action. `done`: jobs cancelled, or submitted again; `asked`: running ones asked to stop."""

    done: int = 0
    asked: int = 0
    refusals: Counter[type[Refusal]] = field(default_factory=Counter)


def cancel_each(jobs: Gateway, found: Sequence[Job]) -> Outcome:
    """Cancels each job that is queued and asks each that runs to stop; as an operator."""
    # Refused: what ended meanwhile, or was erased.
    done, refusals = _each(found, lambda job: jobs.cancel(job.id, client_id=None))
    cancelled = sum(job.state is State.CANCELLED for job in done)
    return Outcome(done=cancelled, asked=len(done) - cancelled, refusals=refusals)


def retry_each(jobs: Gateway, found: Sequence[Job]) -> Outcome:
    """Submits each job again, at most once however often this is called; as an operator."""
    done, refusals = _each(found, lambda job: jobs.retry(job.id, client_id=None, idempotency_key=f"retry-of-{job.id}"))
    return Outcome(done=len(done), refusals=refusals)


def _each(found: Sequence[Job], act: Callable[[Job], Job]) -> tuple[list[Job], Counter[type[Refusal]]]:
    """Does it to one job after the other; returns the jobs as they are then, and the numbers of refusals."""
    done: list[Job] = []
    refusals: Counter[type[Refusal]] = Counter()
    for job in found:
        try:
            with after_a_write() if done else nullcontext():
                done.append(act(job))
        except Refusal as refusal:
            refusals[type(refusal)] += 1
    return done, refusals
