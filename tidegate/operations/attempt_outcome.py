"""Runs an operation's code for one attempt or one batch: whatever that returns or raises becomes an outcome."""

import logging
from collections.abc import Callable, Sequence

from tidegate.errors import AttemptStopped
from tidegate.operations.operation import Attempt, Body, Member, Operation
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Refused,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.raised import unexpected

log = logging.getLogger(__name__)

TIMED_OUT = TryAgain(code=ErrorCode.OPERATION_ERROR, message="the attempt took longer than its timeout")


def outcome_of(
    operation: Operation,
    body: Body,
    attempt: Attempt,
    *,
    max_result: int,
    when_stopped: Callable[[], HandedBack | TryAgain],
) -> Outcome:
    """Runs the operation. `when_stopped` says what it means that the attempt was stopped; `max_result` is in bytes.

    One that takes several jobs in a call is called for this one alone.
    """
    if operation.batch is not None:
        one = Member(job_id=attempt.job_id, number=attempt.number, body=body)
        of_it = outcomes_of(operation, lambda: [one], attempt, max_result=max_result, when_stopped=when_stopped)
        match of_it:
            case Split():
                return of_it.alone
            case TryAgain() | Refused() | HandedBack():
                return of_it
        return of_it[0]
    try:
        outcome = operation.run(body, attempt)
    except AttemptStopped:
        return when_stopped()
    except (Exception, SystemExit) as error:  # whatever an operation raises is a failed attempt
        log.exception("job %s: %s raised", attempt.job_id, operation.name)
        return unexpected(error)
    return _within(outcome, max_result)


def outcomes_of(
    operation: Operation,
    members: Callable[[], Sequence[Member]],
    attempt: Attempt,
    *,
    max_result: int,
    when_stopped: Callable[[], HandedBack | TryAgain],
) -> BatchOutcome:
    """Makes the one call of a batch, as `outcome_of` does of a job; `members` are those of whom it is made.

    An outcome for each of them, in their order, or one for the whole: Split (the content may be the reason: halves are
    tried, and a job that is alone has the outcome that it names), or what sends all of them again together.
    """
    called: list[Member] = []

    def call() -> Sequence[Member]:
        called.extend(members())
        return tuple(called)

    try:
        outcome = operation.run_batch(call, attempt)
    except AttemptStopped:
        return when_stopped()
    except (Exception, SystemExit) as error:
        log.exception("batch %s: %s raised", attempt.job_id, operation.name)
        return Split(alone=unexpected(error))
    match outcome:
        case Failed():
            return Split(alone=outcome)
        case Split() | TryAgain() | Refused() | HandedBack():
            return outcome
    if len(outcome) != len(called):
        message = f"{operation.name} has {len(outcome)} outcomes for {len(called)} jobs"
        return Split(alone=Failed(code=ErrorCode.OPERATION_ERROR, message=message))
    return tuple(_within(each, max_result) for each in outcome)


def _within(outcome: Outcome, max_result: int) -> Outcome:
    if isinstance(outcome, Succeeded) and len(outcome.content) > max_result:
        size = f"{len(outcome.content)} bytes, and {max_result} is the most"
        return Failed(code=ErrorCode.OPERATION_ERROR, message=f"the result is too large: {size}")
    return outcome
