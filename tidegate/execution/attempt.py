"""Values of one attempt in a worker: a slot that is offered, a follower's turn to call, and a success to record."""

from dataclasses import dataclass
from enum import Enum, auto

from tidegate import clock
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An offer of a slot, the permission to call the downstream once at an instant.

    `due`: that instant, of this process's monotonic clock; None: none may be had for
    `wait_seconds`. `counts` False: the attempt no longer counts and must stop.
    """

    due: float | None = None
    wait_seconds: float = 0.0
    counts: bool = True


class Turn(Enum):
    """Whether an attempt that waits for another attempt's call to end may make its own call now."""

    NOW = auto()
    LATER = auto()
    """The call on whose place it rides is still open."""
    NEVER = auto()
    """Its lane rests, or the attempt no longer counts."""


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
