"""Exit codes: what became of it, for scripts."""

from enum import IntEnum

from tidegate_client.errors import ConnectionFailed, JobEnded, NotDone, OutcomeUnknown, TidegateError, UnexpectedAnswer
from tidegate_client.snapshot import State


class Exit(IntEnum):
    """Every code that the command ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    EXPIRED = 3
    CANCELLED = 4
    REFUSED = 5
    UNREACHABLE = 6
    NOT_DONE = 7
    NOT_WRITTEN = 8
    INTERRUPTED = 130


MEANINGS = """\
Exit codes: 0 done, or the job succeeded; 1 the job failed; 2 wrong usage, or `check` found faults; 3 the job expired;
4 it was cancelled; 5 refused by the gateway; 6 the gateway can't be reached, can't say whether it was done, or
something else answers there; 7 the job is not done yet; 8 it succeeded and its result could not be written; 130
interrupted, and the job goes on.
"""

_OF_STATE = {
    State.QUEUED: Exit.NOT_DONE,
    State.RUNNING: Exit.NOT_DONE,
    State.SUCCEEDED: Exit.DONE,
    State.FAILED: Exit.FAILED,
    State.EXPIRED: Exit.EXPIRED,
    State.CANCELLED: Exit.CANCELLED,
}


def code_of_state(state: State) -> Exit:
    """What a command about one job ends with."""
    return _OF_STATE[state]


def code_of_error(error: TidegateError) -> Exit:
    """What a command ends with that could not do what it was for."""
    match error:
        case JobEnded():
            return code_of_state(error.job.state)
        case NotDone():
            return Exit.NOT_DONE
        case ConnectionFailed() | UnexpectedAnswer() | OutcomeUnknown():
            return Exit.UNREACHABLE
        case _:
            return Exit.REFUSED
