"""What an exception that an operation's function raises means for its attempt: an outcome."""

import logging
import traceback
from datetime import timedelta

from tidegate import errors
from tidegate.operations.outcome import ErrorCode, Failed, Refused, TryAgain
from tidegate.operations.quota_fields import LONGEST

log = logging.getLogger(__name__)

_MESSAGE_LENGTH = 1000


def meaning_of(error: errors.PermanentError | errors.Retry, job_id: str) -> Failed | TryAgain | Refused:
    """The outcome of an attempt whose function has raised this. A wait that can't be is logged."""
    message = str(error)[:_MESSAGE_LENGTH] or type(error).__name__
    match error:
        case errors.Refused():
            return Refused(message=message, retry_after=_wait(error, job_id))
        case errors.Retry():
            after = _wait(error, job_id)
            return TryAgain(code=ErrorCode.OPERATION_ERROR, message=message, retry_after=after)
        case _:
            return Failed(code=ErrorCode.OPERATION_ERROR, message=message)


def unexpected(error: BaseException) -> TryAgain:
    """The outcome of an attempt whose function has raised what says nothing of what is to be done."""
    # format_exception_only also copes with an exception whose str() raises.
    text = "".join(traceback.format_exception_only(error)).strip()
    message = text[:_MESSAGE_LENGTH].encode("utf-8", "replace").decode()
    return TryAgain(code=ErrorCode.OPERATION_ERROR, message=message)


def _wait(error: errors.Retry, job_id: str) -> timedelta | None:
    """How long is to be waited: not less than nothing, and as long as a Retry-After may be. None: nothing was said."""
    wait, fault = _read(error.after)
    if fault:
        log.warning("job %s: %s(after=%s): %s", job_id, type(error).__name__, _shown(error.after), fault)
    return wait


def _read(after: object) -> tuple[timedelta | None, str | None]:
    """The wait, and what is wrong with it, if anything."""
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    if seconds is None:
        return None, None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:  # noqa: PLR0124 - NaN; math.isnan has no room for a large int
        return None, "neither a timedelta nor a number of seconds; taken as if it were not given"
    if seconds < 0:
        return timedelta(0), "less than nothing; taken as 0"
    if seconds > LONGEST.total_seconds():
        return LONGEST, f"longer than can be waited; taken as {LONGEST.days} days"
    return timedelta(seconds=seconds), None


def _shown(after: object) -> str:
    try:
        return repr(after)[:50]
    except Exception:  # noqa: BLE001 - a type of the user's, or an int of too many digits
        return type(after).__name__
