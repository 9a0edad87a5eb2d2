"""Values of one attempt in a worker: a slot that is offered, a follower's turn to call, and a success to record."""

from dataclasses import dataclass
from enum import Enum, auto

from tidegate import clock
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A slot at `due` of this process's monotonic clock, or none, and the seconds until another may be had.

    `counts` False: the attempt no longer counts and must stop.
    """

    due: float | None = None
    wait_seconds: float = 0.0
    counts: bool = True


class Turn(Enum):
    """Whether a follower may call now."""

    NOW = auto()
    LATER = auto()
    """The call on whose place it rides is still open."""
    NEVER = auto()
    """Its lane rests, or the attempt no longer counts."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """A success to record; `call_began`: by the monotonic clock, None where there was no call."""

    claim: Claim
    result: Succeeded
    call_began: float | None

    @property
    def call(self) -> int:
        """How long ago the call began, in microseconds; read it when the statement is sent."""
        return 0 if self.call_began is None else round((clock.monotonic() - self.call_began) * 1e6)
