"""Decides what becomes of each job of a batch after their one call, and what their lane learns of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from tidegate.execution.outcome_recorder import delay_before_next, error_of, rest_after
from tidegate.jobs.job import Claim, InBatch, Wait
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Polls,
    Refused,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.retry import RetryPolicy

HALVED = "halved"
"""The outcome of an attempt whose batch is tried again in halves."""
_NOW = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What becomes of one job: `result`: it succeeded; `is_final`: it failed; else it is queued again.

    `outcome`: of its attempt. `after`: it waits so long; None: it keeps its place in the queue. `batch`: it goes again
    with the others of that batch alone; None: with whoever waits. `is_spent`: no further attempt is left. `is_counted`:
    the attempt counts.
    """

    claim: Claim
    outcome: str
    result: Succeeded | None = None
    is_final: bool = False
    error: Mapping[str, Any] | None = None
    after: timedelta | None = _NOW
    waits_for: Wait | None = None
    batch: InBatch | None = None
    is_spent: bool = False
    is_counted: bool = False


@dataclass(frozen=True, kw_only=True)
class LaneNews:
    """What a call says of its downstream: `answered` properly, `failed`, or has no capacity for so long (`refused`)."""

    answered: bool = False
    failed: bool = False
    refused: timedelta | None = None


def endings_of(claims: Sequence[Claim], outcome: BatchOutcome, retry: RetryPolicy) -> tuple[Sequence[Ending], LaneNews]:
    """The ending of each of these jobs, which were called together, in their order."""
    match outcome:
        case Split() if len(claims) > 1:
            return _halves(claims, outcome), LaneNews(answered=True)
        case Split():
            whole: Outcome = outcome.alone  # halves are not joined, nor is what is left of them
        case TryAgain() | Refused() | HandedBack():
            whole = outcome
        case _:
            each = [_ending(claim, its_own, retry) for claim, its_own in zip(claims, outcome, strict=True)]
            return each, _news_of(outcome, claims)
    together = _ending_together(claims, whole, retry)
    return together, _news_of([whole], claims)


def _ending_together(claims: Sequence[Claim], outcome: Outcome, retry: RetryPolicy) -> Sequence[Ending]:
    """They go again at one instant, as the batch that they were."""
    endings = [_ending(claim, outcome, retry) for claim in claims]
    after = max(ending.after or _NOW for ending in endings)
    parts = InBatch.among([claim.job_id for claim in claims])
    return [replace(ending, after=after, batch=part) for ending, part in zip(endings, parts, strict=True)]


def _ending(claim: Claim, outcome: Outcome, retry: RetryPolicy) -> Ending:
    match outcome:
        case Succeeded():
            return Ending(claim=claim, outcome="succeeded", result=outcome)
        case Failed():
            return Ending(claim=claim, outcome="failed", is_final=True, error=error_of(outcome))
        case TryAgain():
            return Ending(
                claim=claim,
                outcome="error",
                error=error_of(outcome, is_spent=claim.is_last and retry.attempts > 1),
                after=delay_before_next(claim, outcome, retry),
                waits_for=Wait.RETRY,
                is_spent=claim.is_last,
                is_counted=True,
            )
        case Refused():
            error = {"code": ErrorCode.DOWNSTREAM_ERROR, "message": outcome.message}
            after = outcome.retry_after or rest_after(claim.refusals)
            return Ending(claim=claim, outcome="refused", error=error, after=after)
        case HandedBack():
            return Ending(claim=claim, outcome=outcome.reason, after=outcome.after)
        case Polls():
            raise AssertionError("a batch is not polled: its declaration is refused")


def _halves(claims: Sequence[Claim], split: Split) -> Sequence[Ending]:
    """They go at once, before what was submitted after them, and cost no attempt."""
    middle = len(claims) // 2
    error = error_of(split.alone)
    return [
        Ending(claim=claim, outcome=HALVED, error=error, after=None, batch=part)
        for half in (claims[:middle], claims[middle:])
        for claim, part in zip(half, InBatch.among([each.job_id for each in half]), strict=True)
    ]


def _news_of(outcomes: Sequence[Outcome], claims: Sequence[Claim]) -> LaneNews:
    """One call is one answer: its lane rests for the longest refusal in it, and fails by it once at the most."""
    refused = [each.retry_after or rest_after(claims[0].refusals) for each in outcomes if isinstance(each, Refused)]
    failures = [each for each in outcomes if isinstance(each, TryAgain) and each.code is ErrorCode.DOWNSTREAM_ERROR]
    others = [each for each in outcomes if not isinstance(each, Refused | HandedBack) and each not in failures]
    return LaneNews(answered=bool(others), failed=bool(failures) and not others, refused=max(refused, default=None))
