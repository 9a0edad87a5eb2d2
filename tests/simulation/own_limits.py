"""Whether each partition keeps limits of its own, judged from what its downstream sees: rate, concurrency, order."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tests.simulation.fairness import SharedLane, most_open_of
from tidegate.rate import Rate

if TYPE_CHECKING:
    from tests.simulation.invariants import Call

RULES = {
    "own concurrency": "No more calls of a partition are open than its own concurrency allows.",
    "own rate": "No more calls of a partition begin in any window than its own rate allows.",
    "order of submit": "A strict partition calls in the order of submit: no job while one before it has no end.",
}

_RELEASED_AHEAD_SECONDS = 1.5
_ROUNDED_SECONDS = 1e-6


class OwnLimits:
    """Watches the calls of shared downstreams. `broken`: makes the error of a rule that does not hold."""

    def __init__(self, broken: Callable[[str, str], BaseException]) -> None:
        self._broken = broken
        self._calls: dict[tuple[str, str], list[Call]] = {}
        self._partition_of: dict[str, str] = {}

    def call_begins(self, call: "Call", lane: SharedLane, released_at: float, *, now: float, disturbed: float) -> None:
        """A call begins, now by the database's clock. `disturbed`: until then a clock was set."""
        key = next((key for key, jobs in lane.unfinished.items() if call.job in jobs), None)
        key = self._partition_of.get(call.job) if key is None else key
        if key is None:
            return
        self._partition_of[call.job] = key
        calls = self._calls.setdefault((call.downstream, key), [])
        calls.append(call)
        known = [(0.0, lane.sharing.limits_of(key.partition("/")[2])), *lane.history[key]]
        self._check_concurrency(key, lane, [each for each in calls if each.end > call.start], released_at)
        if call.start > disturbed:
            self._check_rates(key, lane, [each for each in calls if each.start >= disturbed])
            if known[0][1].is_strict:
                self._check_order(key, lane, call, now)

    def _check_concurrency(self, key: str, lane: SharedLane, opened: "Sequence[Call]", released_at: float) -> None:
        known = [(0.0, lane.sharing.limits_of(key.partition("/")[2])), *lane.history[key]]
        # What was released under a higher limit may still be open; nothing is asked for while that may be so.
        since = min([released_at, *(each.start - _RELEASED_AHEAD_SECONDS for each in opened)])
        first = max(number for number, (at, _) in enumerate(known) if at <= max(since, 0.0))
        allowed = [most_open_of(limits) for _, limits in known[first:]]
        if None not in allowed and len(opened) > max(each for each in allowed if each is not None):
            raise self._broken("own concurrency", f"{len(opened)} calls of {key!r} are open, of {allowed}")

    def _check_rates(self, key: str, lane: SharedLane, calls: "Sequence[Call]") -> None:
        known = [(-1e9, lane.sharing.limits_of(key.partition("/")[2])), *lane.history[key]]
        at, limits = known[-1]
        # Of one that had no rate before, no calls are known; and slots may have been given while there was another.
        since = at + _RELEASED_AHEAD_SECONDS
        last = calls[-1].start
        for text in limits.rates:
            rate = Rate.parse(text)
            begins = last - rate.period / 1e6 + _ROUNDED_SECONDS
            count = sum(each.start > max(begins, since) for each in calls)
            if count > rate.calls:
                raise self._broken("own rate", f"{count} calls of {key!r} within {text}")

    def _check_order(self, key: str, lane: SharedLane, call: "Call", now: float) -> None:
        for job, deadline in lane.unfinished[key].items():
            if job == call.job:
                return
            if deadline > now * 1e6:
                raise self._broken("order of submit", f"{call.job} of {key!r} calls before {job}")
