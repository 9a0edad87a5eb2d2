"""Which windows held more calls than a rate promises, and which of their calls came late for their slots. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.pacing.arrivals import Arrival, within_before
from tidegate import rate_limit

_LISTED = 5
LATE_SECONDS = rate_limit.LATE / 1e6


@dataclass(frozen=True, kw_only=True)
class Given:
    """When a job was released and for which slot, in seconds since 1970: what its attempt's row says."""

    job: str
    released: float
    slot: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the rate: when it was asked for, and when it was confirmed."""

    asked: float
    confirmed: float
    calls: int


class Slots:
    """The slots of calls, by the attempts' rows."""

    def __init__(self, given: Iterable[Given]) -> None:
        self._by_job: dict[str, list[Given]] = defaultdict(list)
        for each in sorted(given, key=lambda each: each.released):
            self._by_job[each.job].append(each)

    def of(self, call: Arrival) -> Given | None:
        """The latest attempt of the call's job that was released by then."""
        return next((each for each in reversed(self._by_job[call.job]) if each.released <= call.at), None)

    def late(self, call: Arrival) -> float:
        """Seconds from the call's slot to its first byte."""
        own = self.of(call)
        return call.at - own.slot if own else 0.0


def counted_at(call: Arrival, slots: Slots) -> float:
    """When a call counts that a frozen process may have sent late: at its first byte, or when that was due at last."""
    return call.at - max(0.0, slots.late(call) - LATE_SECONDS)


def in_force(changes: Sequence[Change], since: float, until: float) -> int:
    """The most calls a second that were allowed at any instant of a span; a change is in force from somewhere between
    its request and its confirmation on.
    """
    ends = [*(change.confirmed for change in changes[1:]), float("inf")]
    return max(
        change.calls for change, end in zip(changes, ends, strict=True) if change.asked <= until and since <= end
    )


def broken(
    calls: Sequence[Arrival], slots: Slots, *, seconds: float, allowed: Callable[[Arrival], int], began: float
) -> list[str]:
    """Of each call with which a window ends that holds more than is allowed by then: the latest of the window's calls.

    Slots lie a window and 20 ms apart, so that this one began more than 20 ms after its own.
    """
    found = []
    for last, number in enumerate(within_before(seconds, [call.at for call in calls])):
        call, at_most = calls[last], allowed(calls[last])
        if number > at_most:
            latest = max(calls[last - number + 1 : last + 1], key=slots.late)
            found.append(
                f"{number} calls, not {at_most}, in the {seconds:g} s until {call.at - began:.3f} s; "
                f"the latest for its slot by {1e3 * slots.late(latest):.1f} ms, at {latest.at - began:.3f} s"
            )
    return found[:_LISTED] + ([f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else [])
