"""The rate limiter: how many calls a downstream may get now, and at which instants. Pure: the gate keeps its state.

The first of a downstream's rates (the one with the shortest interval) spaces the calls: the generic cell rate
algorithm as a virtual schedule (ITU-T I.371, 1994). Every further rate is a quota: at most so many calls in
any window of its period, counted in sixtieths of the period and always rounded to the safe side.
All or none: a slot is granted only where every rate has room.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

_PERIODS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_UNITS = {period: unit for unit, period in _PERIODS.items()}
_PATTERN = re.compile(r"(\d{1,9})\s*/\s*([smhd])", re.ASCII)
_STEPS = 60
_CLOCK_STEP = 1_000_000
_LONGEST_AHEAD = 1_000_000  # slot_wait.PATIENCE; the gate's horizon is shorter


@dataclass(frozen=True)
class Rate:
    """A rate: so many calls in a period, which is in microseconds."""

    calls: int
    period: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Reads "50/s", "600/m", "100/h", "10000/d"; ValueError for anything else and for 0 calls."""
        match = _PATTERN.fullmatch(text.strip())
        if not match or int(match[1]) == 0:
            raise ValueError(
                f'{text!r} is not a rate; write calls per unit, such as "50/s", "600/m", "100/h", "10000/d"'
            )
        return cls(int(match[1]), _PERIODS[match[2]])

    def __str__(self) -> str:
        return f"{self.calls}/{_UNITS[self.period]}"

    @property
    def interval(self) -> int:
        """Microseconds from one call to the next; rounded up, so that rounding never makes it faster."""
        return -(-self.period // self.calls)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The limits of a downstream's calls: rates (none: no limit) and burst."""

    rates: tuple[Rate, ...] = ()
    burst: int = 1

    @property
    def pacing(self) -> Rate | None:
        """The rate with the shortest interval, which spaces the calls; None: no rate."""
        return min(self.rates, key=lambda rate: rate.interval, default=None)

    @property
    def quotas(self) -> tuple[Rate, ...]:
        """The other rates, each a quota: at most so many calls in any window of its period."""
        return tuple(rate for rate in self.rates if rate is not self.pacing)

    @property
    def per_second(self) -> float | None:
        """Calls a second that all rates together allow in the long run; None: no limit."""
        return min((1e6 * rate.calls / rate.period for rate in self.rates), default=None)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The limiter's state: what past calls leave free. All instants are microseconds of the database's clock.

    `free_at`: when the virtual schedule's next call is due. `used`: for each quota's period the calls that still
    count, as (begin of the sixtieth, calls), oldest first. `since`: from when on each of them is counted.
    """

    free_at: int = 0
    used: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    since: Mapping[int, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The state as JSON, for the downstream's row."""
        used = {str(period): list(steps) for period, steps in self.used.items()}
        since = {"since": {str(period): at for period, at in self.since.items()}} if self.since else {}
        return {"free_at": self.free_at, "used": used, **since}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> "Pace":
        """Restores the state that `as_json` wrote; an empty object is a limiter without past calls."""
        free_at, used, since = stored.get("free_at", 0), stored.get("used", {}), stored.get("since", {})
        assert isinstance(free_at, int)  # noqa: S101 - our own row
        assert isinstance(used, Mapping)  # noqa: S101 - our own row
        assert isinstance(since, Mapping)  # noqa: S101 - our own row
        return cls(
            since={int(period): at for period, at in since.items()},
            free_at=free_at,
            used={int(period): tuple((begin, calls) for begin, calls in steps) for period, steps in used.items()},
        )


def take_slots(allowance: Allowance, pace: Pace, *, now: int, wanted: int, horizon: int) -> tuple[list[int], Pace]:
    """Takes up to `wanted` slots that lie at most `horizon` microseconds ahead.

    Returns their instants (rising, none before `now`) and the pace after them.
    """
    pace = settle(allowance, pace, now=now)
    slots: list[int] = []
    while len(slots) < wanted:
        slot = next_slot(allowance, pace, now=now)
        if slot > now + horizon:
            break
        slots.append(slot)
        pace = _spend(allowance, pace, slot)
    return slots, pace


def given_back(pace: Pace, calls: Iterable[tuple[int, int]]) -> Pace:
    """The state after calls that surely were not made are returned: quotas have them back.

    Each is (its slot, when that was taken): one that was taken before a quota was counted is not among what it counts.
    The rate that spaces the calls gives nothing back, for its instants are over.
    """
    used = dict(pace.used)
    for slot, taken_at in calls:
        for period, steps in used.items():
            begin = slot - slot % _step(period)
            counted = dict(steps)
            if taken_at >= pace.since.get(period, taken_at + 1) and begin in counted:
                counted[begin] -= 1
                used[period] = tuple((each, number) for each, number in counted.items() if number)
    return replace(pace, used=used)


def next_slot(allowance: Allowance, pace: Pace, *, now: int) -> int:
    """The first instant, not before `now`, at which every rate has room for one call."""
    slot = now
    if allowance.pacing:
        slot = max(slot, pace.free_at - (allowance.burst - 1) * allowance.pacing.interval)
    for quota in allowance.quotas:
        slot = max(slot, _room_at(quota, pace.used.get(quota.period, ()), slot))
    return slot


def quota_wait(allowance: Allowance, pace: Pace, *, now: int, behind: int) -> int:
    """Microseconds until the quotas have room for a call with `behind` others before it: an estimate.

    A quota holds nobody back before it is used up; then it gives a whole one for each period that passes.
    """
    wait = 0
    for quota in allowance.quotas:
        counting = [step for step in pace.used.get(quota.period, ()) if _counts_until(quota, step[0]) > now]
        beyond = behind - (quota.calls - sum(calls for _, calls in counting))
        if beyond >= 0:
            first = _counts_until(quota, counting[0][0]) - now if counting else quota.period
            wait = max(wait, first + beyond // quota.calls * quota.period)
    return wait


def settle(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """Drops from the state what no longer counts, and what a clock that stepped back left too far ahead."""
    if allowance.pacing:
        furthest = allowance.pacing.interval * allowance.burst
        if pace.free_at > now + furthest + _CLOCK_STEP:
            pace = replace(pace, free_at=now + furthest)
    used = {}
    for quota in allowance.quotas:
        steps = pace.used.get(quota.period, ())
        used[quota.period] = tuple(
            step for step in steps if now < _counts_until(quota, step[0]) <= now + 2 * quota.period + _CLOCK_STEP
        )
    return replace(pace, used=used, since={period: pace.since.get(period, now) for period in used})


def changed(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """The state after an operator changed the rates: the old rate's debt must not hold back the new one.

    What was promised already counts: slots are taken up to a second ahead, and to begin before the last of them
    would let both rates through at once.
    """
    if allowance.pacing:
        pace = replace(pace, free_at=min(pace.free_at, now + _LONGEST_AHEAD + allowance.pacing.interval))
    return settle(allowance, pace, now=now)


def _spend(allowance: Allowance, pace: Pace, slot: int) -> Pace:
    if allowance.pacing:
        pace = replace(pace, free_at=max(pace.free_at, slot) + allowance.pacing.interval)
    used = dict(pace.used)
    for quota in {quota.period: quota for quota in allowance.quotas}.values():  # a period is counted once
        begin = slot - slot % _step(quota.period)
        steps = used.get(quota.period, ())
        if steps and steps[-1][0] >= begin:
            used[quota.period] = (*steps[:-1], (steps[-1][0], steps[-1][1] + 1))
        else:
            used[quota.period] = (*steps, (begin, 1))
    return replace(pace, used=used)


def _room_at(quota: Rate, steps: Sequence[tuple[int, int]], at: int) -> int:
    counting = [(begin, calls) for begin, calls in steps if _counts_until(quota, begin) > at]
    spent = sum(calls for _, calls in counting)
    for begin, calls in counting:
        if spent < quota.calls:
            break
        spent -= calls
        at = _counts_until(quota, begin)
    return at


def _step(period: int) -> int:
    return max(1, period // _STEPS)


def _counts_until(quota: Rate, begin: int) -> int:
    return begin + _step(quota.period) + quota.period
