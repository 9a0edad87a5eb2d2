"""Values of one attempt in a worker: a slot that is offered, a follower's turn to call, and a success to record."""

from dataclasses import dataclass
from enum import Enum, auto

from tidegate import clock, rate_limit
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An offer of a slot, the permission to call the downstream once at an instant.

    `due`: that instant, of this process's monotonic clock, and the call may begin so much later; None: none may be had
    for `wait_seconds`. `counts` False: the attempt no longer counts and must stop.
    """

    due: float | None = None
    late_seconds: float = 0.0
    wait_seconds: float = 0.0
    counts: bool = True


def late_seconds(*, jitter: int, clock_error: float) -> float:
    """How late for its slot a call may begin, by this process's clock: 20 ms, and not later by the database's.

    `jitter`: of its downstream, in microseconds. Where the database's clock is not known to the half of what is allowed
    in all, that is how late it may be by the last known distance: else no call could begin.
    """
    late, allowed = rate_limit.LATE / 1e6, (rate_limit.LATE + jitter) / 1e6
    return min(late, max(allowed - clock_error, allowed / 2))


class Turn(Enum):
    """Whether an attempt that waits for another attempt's call to end may make its own call now."""

    NOW = auto()
    LATER = auto()
    """The call on whose place it rides is still open."""
    NEVER = auto()
    """Its lane rests, the place of that call is kept, or the attempt no longer counts."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """A job's success, to be recorded; `call_began`: by the monotonic clock, None where there was no call."""

    claim: Claim
    result: Succeeded
    call_began: float | None

    @property
    def call(self) -> int:
        """How long ago the call began, in microseconds; read it when the statement is sent."""
        return 0 if self.call_began is None else round((clock.monotonic() - self.call_began) * 1e6)
