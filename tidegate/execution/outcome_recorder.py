"""Decides what an attempt's outcome does to its job, and records it: an end, a retry with a delay, or a hand-back."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tidegate.execution.outcome_store import OutcomeStore
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import ErrorCode, Failed, HandedBack, Outcome, Polls, Refused, Succeeded, TryAgain
from tidegate.operations.polling import wait_before_poll
from tidegate.operations.quota_fields import Quota
from tidegate.operations.registry import Registry
from tidegate.operations.retry import RetryPolicy


class OutcomeRecorder:
    """Records outcomes by the operation's retry policy."""

    def __init__(self, store: OutcomeStore, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def record(self, claim: Claim, outcome: Outcome, call_seconds: float | None) -> bool:
        """Records the outcome; False: the claim no longer stood, another result stands.

        `call_seconds` None: there was no call.
        """
        if isinstance(outcome, Succeeded | Failed | Polls):  # before its place is free for one more
            self._announce(claim, outcome.quotas, call_seconds)
        recorded = self._record(claim, outcome, call_seconds)
        if isinstance(outcome, TryAgain | Refused):  # a lane that rests already would not count it
            self._announce(claim, outcome.quotas, call_seconds)
        return recorded

    def _announce(self, claim: Claim, quotas: Sequence[Quota], call_seconds: float | None) -> None:
        if quotas and call_seconds is not None:
            self._store.announce(claim, quotas, call_seconds=call_seconds)

    def _record(self, claim: Claim, outcome: Outcome, call_seconds: float | None) -> bool:
        match outcome:
            case Succeeded():
                return self._store.succeed(claim, outcome, call_seconds=call_seconds)
            case Failed():
                return self._store.fail(claim, error_of(outcome), call_seconds=call_seconds)
            case TryAgain():
                return self._try_again(claim, outcome, call_seconds)
            case Refused():
                after = outcome.retry_after or rest_after(claim.refusals)
                error = {"code": ErrorCode.DOWNSTREAM_ERROR, "message": outcome.message}
                return self._store.refused(claim, error, after=after, call_seconds=call_seconds)
            case Polls():
                after = wait_before_poll(outcome.after, polls=claim.polls)
                return self._store.poll_later(claim, outcome.url, after=after, call_seconds=call_seconds)
            case HandedBack():
                seconds = call_seconds if outcome.was_called else None
                return self._store.hand_back(
                    claim,
                    after=outcome.after,
                    outcome=outcome.reason,
                    call_seconds=seconds,
                    may_be_made=call_seconds is not None,
                )

    def _try_again(self, claim: Claim, outcome: TryAgain, call_seconds: float | None) -> bool:
        operation = self._registry.operation(claim.operation)
        return self._store.try_again(
            claim,
            error_of(outcome, is_spent=claim.is_last and operation.retry.attempts > 1),
            after=delay_before_next(claim, outcome, operation.retry),
            is_spent=claim.is_last,
            blames_downstream=outcome.code is ErrorCode.DOWNSTREAM_ERROR,
            call_seconds=call_seconds,
        )


def rest_after(refusals: int) -> timedelta:
    """How long a lane pauses after so many refusals in a row that had no Retry-After."""
    seconds: int = 2 ** min(refusals, 6)
    return timedelta(seconds=seconds)


def delay_before_next(claim: Claim, outcome: TryAgain, retry: RetryPolicy) -> timedelta:
    """How long a job waits before its next attempt."""
    return max(retry.delay_after(claim.attempt - claim.losses), outcome.retry_after or timedelta(0))


def error_of(outcome: Failed | TryAgain, *, is_spent: bool = False) -> dict[str, Any]:
    """The job's `error`; `is_spent`: there were attempts before, and none is left."""
    code = ErrorCode.ATTEMPTS_EXHAUSTED if is_spent else outcome.code
    return {"code": code, "message": outcome.message, **outcome.detail}
