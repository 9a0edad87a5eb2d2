"""Runs an operation's code for one attempt: whatever that returns or raises becomes an outcome."""

import logging
import traceback
from collections.abc import Callable

from tidegate.errors import AttemptStopped
from tidegate.operations.operation import Attempt, Body, Operation
from tidegate.operations.outcome import ErrorCode, Failed, Outcome, Succeeded, TryAgain

log = logging.getLogger(__name__)

TIMED_OUT = TryAgain(code=ErrorCode.OPERATION_ERROR, message="the attempt took longer than its timeout")


def outcome_of(
    operation: Operation, body: Body, attempt: Attempt, *, max_result: int, when_stopped: Callable[[], Outcome]
) -> Outcome:
    """Runs the operation. `when_stopped` says what it means that the attempt was stopped; `max_result` is in bytes."""
    try:
        outcome = operation.run(body, attempt)
    except AttemptStopped:
        return when_stopped()
    except (Exception, SystemExit) as error:  # whatever an operation raises is a failed attempt
        log.exception("job %s: %s raised", attempt.job_id, operation.name)
        return TryAgain(code=ErrorCode.OPERATION_ERROR, message=_described(error))
    if isinstance(outcome, Succeeded) and len(outcome.content) > max_result:
        size = f"{len(outcome.content)} bytes, and {max_result} is the most"
        return Failed(code=ErrorCode.OPERATION_ERROR, message=f"the result is too large: {size}")
    return outcome


def _described(error: BaseException) -> str:
    # format_exception_only also copes with an exception whose str() raises.
    text = "".join(traceback.format_exception_only(error)).strip()
    return text[:1000].encode("utf-8", "replace").decode()
