"""The rate limiter: how many calls a downstream may get now, and at which instants. Pure: the gate keeps its state.

`N/P` promises the downstream at most N calls in any window of P. A call begins between its slot and 20 ms later
(`LATE`), so the slot of each call lies at least P + 20 ms behind that of the N-th call before it: for every rate, by
one log of what went out, which knows of no rates and so outlives their changes (a sliding window log for the latest
calls, sliding window counters for older ones). The rate with the shortest interval spaces its calls besides
(P + 20 ms) / N apart, of which `burst` may come together: the generic cell rate algorithm as a virtual schedule
(ITU-T I.371, 1994). All or none: a slot is granted only where every rate has room.
"""

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from operator import sub
from typing import Any

LATE = 20_000
"""Microseconds: a call that is later than this for its slot takes a new one."""
AHEAD = 1_000_000
"""Microseconds: no slot is taken further ahead than this."""
LONGEST = 31 * 86_400_000_000
"""Microseconds: the longest window of a rate, and so the age at which calls are forgotten."""

_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}
_PATTERN = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*/\s*(\d{1,7})?([smhd])", re.ASCII)
# So many of the latest calls at least are known exactly; some more, so that not each release joins older ones. These
# become counts that span at most an eighth of their age, and a 64th of a window in force that they may decide about; of
# a short window less, so that with the 20 ms it loses at most three hundredths.
_EXACT = 100
_MORE = 28
_COARSE = 8
_FINE = 64
_GRAIN = 1_000  # the instants of counts are whole milliseconds, rounded up: that makes the row shorter


@dataclass(frozen=True)
class Rate:
    """A rate: at most so many calls in any window of a period, which is in microseconds."""

    calls: int
    period: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Reads "50/s", "600/m", "100/15m", "10000/d", "0.5/s" (one in 2 s); ValueError for anything else."""
        match = _PATTERN.fullmatch(text.strip())
        calls = Fraction(match[1]) if match else Fraction(0)
        period = int(match[2] or 1) * _UNITS[match[3]] * calls.denominator if match else 0
        if not calls or not period:
            raise ValueError(
                f'{text!r} is not a rate; write calls per window, such as "50/s", "600/m", "100/15m", "10000/d"'
            )
        if period > LONGEST:
            raise ValueError(f"{text!r} is no rate that can be kept; its window may be 31 days long at most")
        return cls(calls.numerator, period)

    def __str__(self) -> str:
        unit = next(unit for unit in _UNITS if self.period % _UNITS[unit] == 0)
        number = self.period // _UNITS[unit]
        return f"{self.calls}/{number if number > 1 else ''}{unit}"

    @property
    def interval(self) -> int:
        """Microseconds from one call to the next; rounded up, so that rounding never makes it faster."""
        return -(-self.period // self.calls)

    @property
    def window(self) -> int:
        """Microseconds from the slot of a call to the first at which it no longer counts."""
        return self.period + LATE

    @property
    def grain(self) -> int:
        """Microseconds that a count of older calls may span where this rate goes by it."""
        return min(self.period // _FINE, 3 * self.period // 100 - LATE)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The limits of a downstream's calls: rates (none: no limit) and burst."""

    rates: tuple[Rate, ...] = ()
    burst: int = 1

    @property
    def pacing(self) -> Rate | None:
        """The rate with the shortest interval, which spaces the calls; None: no rate."""
        return min(self.rates, key=lambda rate: rate.window / rate.calls, default=None)

    @property
    def spacing(self) -> int:
        """Microseconds from one call to the next. Rounded down: the windows see to it that this adds up to nothing."""
        return self.pacing.window // self.pacing.calls if self.pacing else 0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The limiter's state: what went out and is promised. All instants are microseconds of the database's clock.

    `latest`: the slots of the latest calls, rising. `older`: what was before them, as (slot of the last, calls).
    `free_at`: when the next call is due by the virtual schedule of the rate that spaces them.
    """

    free_at: int = 0
    latest: tuple[int, ...] = ()
    older: tuple[tuple[int, int], ...] = ()

    def nth_latest(self, number: int) -> int | None:
        """The slot of the call before which there were number - 1 later ones, or a later instant; None: no such call.

        None also stands for one that is too old to count.
        """
        if number <= len(self.latest):
            return self.latest[-number]
        number -= len(self.latest)
        for slot, calls in reversed(self.older):
            number -= calls
            if number <= 0:
                return slot
        return None

    def as_json(self) -> dict[str, object]:
        """The state as JSON: instants as differences; of `older` the ends in milliseconds, then the calls."""
        ends = [slot // _GRAIN for slot, _ in self.older]
        calls = [calls for _, calls in self.older]
        older = [*_differences(ends), *calls]
        return {"free_at": self.free_at, "latest": _differences(self.latest), "older": older}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Pace":
        """Restores the state that `as_json` wrote; an empty object is a limiter without past calls."""
        free_at, older = stored.get("free_at", 0), stored.get("older", ())
        if "used" in stored:
            return cls(free_at=free_at, older=_of_quotas(stored["used"], free_at))
        counts = len(older) // 2
        ends = [_GRAIN * end for end in accumulate(older[:counts])]
        return cls(
            free_at=free_at,
            latest=tuple(accumulate(stored.get("latest", ()))),
            older=tuple(zip(ends, older[counts:], strict=True)),
        )


def take_slots(allowance: Allowance, pace: Pace, *, now: int, wanted: int, horizon: int) -> tuple[list[int], Pace]:
    """Takes up to `wanted` slots that lie at most `horizon` microseconds ahead, which is no more than `AHEAD`.

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
    return slots, _coarser(allowance, pace, now=now)


def given_back(pace: Pace, slots: Iterable[int]) -> Pace:
    """The state after calls that surely were not made are returned: the windows have them back.

    The schedule that spaces the calls gives nothing back, for its instants are over.
    """
    latest, older = [*pace.latest], [*pace.older]
    for slot in slots:
        if slot in latest:
            latest.remove(slot)
        elif 0 < (found := bisect.bisect_left(older, (slot, 0))) < len(older):  # the first may begin after it
            end, calls = older[found]
            older[found : found + 1] = [(end, calls - 1)] if calls > 1 else []
    return replace(pace, latest=tuple(latest), older=tuple(older))


def next_slot(allowance: Allowance, pace: Pace, *, now: int) -> int:
    """The first instant, not before `now`, at which every rate has room for one call, behind all that is promised."""
    if not allowance.rates:
        return now
    slot, free_at = now, pace.free_at
    if pace.latest:
        slot = max(slot, pace.latest[-1])
        free_at = max(free_at, pace.latest[-1] + allowance.spacing)
    slot = max(slot, free_at - (allowance.burst - 1) * allowance.spacing)
    for rate in allowance.rates:
        before = pace.nth_latest(rate.calls)
        if before is not None:
            slot = max(slot, before + rate.window)
    return slot


def quota_wait(allowance: Allowance, pace: Pace, *, now: int, behind: int) -> int:
    """Microseconds until the windows have room for a call with `behind` others before it: an estimate.

    A rate holds nobody back before it is used up; then it gives a whole one for each period that passes.
    """
    wait = 0
    for rate in allowance.rates:
        windows, more = divmod(behind, rate.calls)
        before = pace.nth_latest(rate.calls - more)
        first = max(0, before + rate.window - now) if before is not None else 0
        wait = max(wait, first + windows * rate.window)
    return wait


def settle(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """Brings the state near that a clock which was set back left far ahead, and the schedule to the rates in force.

    No call is promised further ahead than `AHEAD`: where one is, everything went out at least so much earlier. The
    schedule of another rate is owed no more than the burst of this one.
    """
    furthest = now + AHEAD
    if pace.latest and (back := (pace.latest[-1] - furthest) // _GRAIN * _GRAIN) > 0:
        pace = Pace(
            free_at=pace.free_at - back,
            latest=tuple(slot - back for slot in pace.latest),
            older=tuple((slot - back, calls) for slot, calls in pace.older),
        )
    elif pace.older and pace.older[-1][0] > furthest:  # of an earlier version, whose counts end when their step does
        pace = replace(pace, older=tuple((min(slot, furthest), calls) for slot, calls in pace.older))
    owed = (pace.latest[-1] if pace.latest else furthest) + allowance.burst * allowance.spacing
    return replace(pace, free_at=min(pace.free_at, owed)) if pace.free_at > owed else pace


def changed(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """The state after the rates were changed: it goes on, for what went out and is promised counts for the new ones."""
    return settle(allowance, pace, now=now)


def _spend(allowance: Allowance, pace: Pace, slot: int) -> Pace:
    free_at = max(pace.free_at, slot) + allowance.spacing
    latest = (*pace.latest, slot)
    if pace.latest and slot < pace.latest[-1]:  # without a rate now, before what was promised when there was one
        latest = tuple(sorted(latest))
    return Pace(free_at=free_at, latest=latest, older=pace.older)


def _coarser(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """Keeps the latest calls exactly, and joins older ones: each then counts from the last of them on."""
    if len(pace.latest) <= _EXACT + _MORE:
        return pace
    steps = sorted((rate.window, rate.grain) for rate in allowance.rates if rate.calls > _EXACT)
    joined: list[tuple[int, int]] = []
    leaving = ((-(-slot // _GRAIN) * _GRAIN, 1) for slot in pace.latest[:-_EXACT])
    for slot, calls in (*pace.older, *leaving):
        age = now - slot
        if age > LONGEST + LATE:
            continue
        longest = min(age // _COARSE, next((step for window, step in steps if age <= window), age))
        if joined and (slot == joined[-1][0] or (len(joined) > 1 and slot - joined[-2][0] <= longest)):
            joined[-1] = slot, joined[-1][1] + calls
        else:
            joined.append((slot, calls))
    return replace(pace, latest=pace.latest[-_EXACT:], older=tuple(joined))


def _differences(numbers: Sequence[int]) -> list[int]:
    return [*numbers[:1], *map(sub, numbers[1:], numbers)]


def _of_quotas(used: Mapping[str, Sequence[Sequence[int]]], free_at: int) -> tuple[tuple[int, int], ...]:
    """What an earlier version counted, for each quota by itself: in sixtieths of its period, by their begin.

    The quotas counted the same calls, the shorter ones more exactly.
    """
    newest_first: list[tuple[int, int]] = []
    before = free_at
    for period in sorted(map(int, used)):
        known = sum(calls for _, calls in newest_first)
        for begin, calls in reversed(used[str(period)]):
            more = max(0, calls - known)
            known -= calls - more
            if more:
                end = min(begin + max(1, period // 60), before)
                newest_first.append((-(-end // _GRAIN) * _GRAIN, more))
            before = min(before, max(begin, 0))
    return tuple(reversed(newest_first))
