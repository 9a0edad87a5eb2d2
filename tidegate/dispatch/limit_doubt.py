"""Whether a declared limit looks wrong: more than the downstream takes, or a jitter too small to be kept. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.dispatch.downstream import Downstream
from tidegate.rate_limit import LATE

LATELY = timedelta(minutes=1)
"""Refusals and calls are counted over so long."""
_FEWEST = 3
_LEAST_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """The calls that a downstream refused lately, and the slots of the first and the last of them in microseconds."""

    number: int
    first_slot: int
    last_slot: int


@dataclass(frozen=True, kw_only=True)
class LimitDoubt:
    """A limit that looks wrong: so many of so many calls were refused lately, though all were made as it allows.

    `calls`: by their slots, of which a few may have been left unused when the lane came to rest.
    """

    refused: int
    calls: int
    is_changed: bool
    """Whether the limit is an operator's and not the operations file's."""

    @property
    def message(self) -> str:
        """What it says to an operator."""
        limit = "set" if self.is_changed else "declared"
        return f"refused {self.refused} of {self.calls} calls in the last minute: the limit is lower than {limit}"


def doubt_about(downstream: Downstream, refusals: Refusals | None) -> LimitDoubt | None:
    """Judges a lane's limits by what was refused of the calls of the last minute; None: nothing speaks against them.

    A few refusals may have another cause, such as a second user of the same allowance. A downstream that takes no call
    between its first refusal and its last is out of order, whatever its limit.
    """
    limits = downstream.limits
    if refusals is None or not (limits.rates or limits.concurrency):
        return None
    now, pace = to_microseconds(downstream.seen_at), downstream.pace
    calls = max(refusals.number, pace.calls_since(now - LATELY // MICROSECOND) - pace.calls_since(now + 1))
    meanwhile = pace.calls_since(refusals.first_slot) - pace.calls_since(refusals.last_slot + 1)
    if refusals.number < max(_FEWEST, _LEAST_SHARE * calls) or meanwhile <= refusals.number:
        return None
    is_changed = not downstream.changes.keys().isdisjoint({"rates", "concurrency"})
    return LimitDoubt(refused=refusals.number, calls=calls, is_changed=is_changed)


def jitter_doubt(downstream: Downstream, clock_error: int) -> str | None:
    """What to say of a downstream whose calls can't be begun within 20 ms and its jitter; None: they can.

    `clock_error`: microseconds that a worker may be wrong about the database's clock, by which slots are given. Beyond
    half of what is allowed, a call begins when it may by the last that is known.
    """
    limits = downstream.limits
    if not limits.rates or 2 * clock_error <= LATE + limits.jitter:
        return None
    needed = -(-(2 * clock_error - LATE) // 1000)
    return (
        f"the workers know the database's clock to {clock_error / 1000:.0f} ms only, so calls may begin too close "
        f'together: a jitter of "{needed}ms" keeps the rate'
    )
