"""The rate limiter: how many calls a downstream may get now, and at which instants. Pure: the gate keeps its state.

`N/P` promises the downstream at most N calls in any window of P. A call begins between its slot and 20 ms later
(`LATE`, and the jitter that is declared), so the slot of each call lies at least P + 20 ms behind that of the N-th call
before it: for every rate, by one log of what went out, which knows of no rates and so outlives their changes (a sliding
window log, coarser for older calls). The rate with the shortest interval spaces its calls besides (P + 20 ms) / N
apart, of which `burst` may come together: the generic cell rate algorithm as a virtual schedule (ITU-T I.371, 1994).
All or none: a slot is granted only where every rate has room.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from tidegate import call_log
from tidegate.call_log import Log, Run
from tidegate.rate import LONGEST, Rate

LATE = 20_000
"""Microseconds: a call that is later than this for its slot takes a new one."""
AHEAD = 1_000_000
"""Microseconds: no slot is taken further ahead than this."""

# Of the latest runs of the log so many may not be joined yet; when there are more, so many stay as they are. Without a
# rate nothing goes by them now: then they are fewer.
_MOST, _EXACT = 96, 60
_MOST_UNPACED, _EXACT_UNPACED = 16, 4
# A joined run spans at most such a part of its age; without a rate always so much (microseconds).
_COARSE, _COARSE_UNPACED, _SPAN_UNPACED = 8, 2, 500_000
# Runs that are joined span at most such a part of a window in force that goes by them.
_FINE = 64


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The limits of a downstream's calls: rates (none: no limit), burst, and how late for its slot a call may begin."""

    rates: tuple[Rate, ...] = ()
    burst: int = 1
    late: int = LATE

    @property
    def pacing(self) -> Rate | None:
        """The rate that spaces the calls: the one with the shortest interval, of those by the calendar the last.

        None: no rate.
        """
        return min(self.rates, key=lambda rate: (rate.zone is not None, self.window(rate) / rate.calls), default=None)

    @property
    def spacing(self) -> int:
        """Microseconds from one call to the next. Rounded down: the windows see to it that this adds up to nothing."""
        return self.window(self.pacing) // self.pacing.calls if self.pacing else 0

    def window(self, rate: Rate) -> int:
        """Microseconds from the slot of a call to the first at which it no longer counts for a rate."""
        return rate.period + self.late


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The limiter's state: what went out and is promised. All instants are microseconds of the database's clock.

    `log`: the slots of past calls, rising; so many of its first runs are `joined`. `free_at`: when the next call is due
    by the virtual schedule of the rate that spaces them.
    """

    free_at: int = 0
    log: Log = ()
    joined: int = 0

    @property
    def last(self) -> int:
        """The last slot that was given; 0: none."""
        return self.log[-1].last if self.log else 0

    def nth_latest(self, number: int, *, since: int) -> int | None:
        """The slot of the call behind which number - 1 later ones lie, or a later instant; None: before `since`."""
        for run in reversed(self.log):
            if run.last < since:
                return None
            if number <= run.calls:
                return run.last - (number - 1) * run.step
            number -= run.calls
        return None

    def calls_since(self, instant: int) -> int:
        """How many calls have their slots at this instant or behind it, or more."""
        calls = 0
        for run in reversed(self.log):
            if run.last < instant:
                break
            calls += run.since(instant)
        return calls

    def as_json(self) -> dict[str, object]:
        """The state as JSON, for the downstream's row: of the runs' ends all but the first as distances."""
        return {
            "free_at": self.free_at,
            "joined": self.joined,
            "ends": _differences([run.last for run in self.log]),
            "calls": [run.calls for run in self.log],
            "steps": [run.step for run in self.log],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Pace":
        """Restores the state that `as_json` wrote; an empty object is a limiter without past calls."""
        free_at = stored.get("free_at", 0)
        if "used" in stored:
            return cls(free_at=free_at, log=_of_quotas(stored["used"], free_at))
        if "ends" not in stored:
            return cls(free_at=free_at)
        ends = accumulate(stored["ends"])
        log = tuple(map(Run, ends, stored["calls"], stored["steps"]))
        return cls(free_at=free_at, log=log, joined=stored.get("joined", 0))


def take_slots(allowance: Allowance, pace: Pace, *, now: int, wanted: int, horizon: int) -> tuple[list[int], Pace]:
    """Takes up to `wanted` slots that lie at most `horizon` microseconds ahead, which is no more than `AHEAD`.

    Returns their instants (rising, none before `now`) and the pace after them.
    """
    pace = settle(allowance, pace, now=now)
    if not allowance.rates:
        return [now] * wanted, _coarser(
            allowance, replace(pace, log=call_log.with_calls(pace.log, now, wanted)), now=now
        )
    slots: list[int] = []
    while len(slots) < wanted:
        slot = next_slot(allowance, pace, now=now)
        if slot > now + horizon:
            break
        slots.append(slot)
        free_at, log = max(pace.free_at, slot) + allowance.spacing, call_log.with_call(pace.log, slot)
        pace = Pace(free_at=free_at, log=log, joined=pace.joined)
    return slots, _coarser(allowance, pace, now=now) if slots else pace


def counted(allowance: Allowance, pace: Pace, slots: Iterable[int], *, now: int) -> Pace:
    """The state after calls that went out behind all that it knows, while no rate was there to count them."""
    for slot in sorted(slots):
        pace = _coarser(allowance, replace(pace, log=call_log.with_call(pace.log, slot)), now=now)
    return pace


def given_back(pace: Pace, slots: Iterable[int], *, spacing: int = 0) -> Pace:
    """The state after calls that surely were not made are returned: the windows have them back.

    The schedule that spaces the calls gives back the last of them, by its `spacing`, for nothing is promised behind
    that yet, and all where no call is left; else its instants are over. Without that the only call of an hour, once it
    missed its slot, would wait for another hour.
    """
    log, free_at = pace.log, pace.free_at
    for slot in sorted(slots, reverse=True):
        is_last = bool(log) and log[-1].last == slot
        log = call_log.without_call(log, slot)
        if is_last:
            free_at = free_at - spacing if log else 0
    return replace(pace, log=log, free_at=free_at)


def postponed(pace: Pace, slot: int, *, to: int) -> Pace:
    """The state after a call began late for its slot: it counts from then on, for slots that are not given yet."""
    if to <= slot:
        return pace
    return replace(pace, log=call_log.with_earlier_call(call_log.without_call(pace.log, slot), to))


def next_slot(allowance: Allowance, pace: Pace, *, now: int) -> int:
    """The first instant, not before `now`, at which every rate has room for one call, behind all that is promised."""
    if not allowance.rates:
        return now
    slot, free_at = now, pace.free_at
    if pace.log:
        slot = max(slot, pace.last)
        free_at = max(free_at, pace.last + allowance.spacing)
    slot = max(slot, free_at - (allowance.burst - 1) * allowance.spacing)
    for rate in allowance.rates:
        if rate.zone is None:
            window = allowance.window(rate)
            before = pace.nth_latest(rate.calls, since=slot - window)
            if before is not None:
                slot = max(slot, before + window)
    by_calendar = [rate for rate in allowance.rates if rate.zone is not None]
    while (room := max((_calendar_room(rate, pace, slot, allowance.late) for rate in by_calendar), default=0)) > slot:
        slot = room
    return slot


def common_slot(limiters: Sequence[tuple[Allowance, Pace]], *, now: int) -> int:
    """The first instant, not before `now`, at which each of several limiters has room for one call.

    With a rate by the calendar an instant may be too late again that is later than one at which there was room.
    """
    slot = now
    while (later := max((next_slot(*each, now=slot) for each in limiters), default=slot)) > slot:
        slot = later
    return slot


def quota_wait(allowance: Allowance, pace: Pace, *, now: int, behind: int) -> int:
    """Microseconds until the windows have room for a call with `behind` others before it: an estimate.

    A rate holds nobody back before it is used up; then it gives a whole one for each period that passes.
    """
    wait = 0
    for rate in allowance.rates:
        windows, more = divmod(behind, rate.calls)
        if rate.zone is None:
            before = pace.nth_latest(rate.calls - more, since=now - allowance.window(rate))
            first = max(0, before + allowance.window(rate) - now) if before is not None else 0
        else:
            begin, end = rate.calendar_window(now)
            is_full = pace.calls_since(begin - allowance.late) + more >= rate.calls
            first = end + allowance.late - now if is_full else 0
        wait = max(wait, first + windows * allowance.window(rate))
    return wait


def settle(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """Brings the state near that a clock which was set back left far ahead, and the schedule to the rates in force.

    No call is promised further ahead than `AHEAD`: where one is, everything went out at least so much earlier. The
    schedule of another rate is owed no more than the burst of this one. A change of the rates needs no more than this:
    what went out and is promised counts for the new ones.
    """
    furthest = now + AHEAD
    back = pace.last - furthest
    if back > 0:
        log = tuple(run._replace(last=run.last - back) for run in pace.log)
        pace = Pace(free_at=pace.free_at - back, log=log, joined=pace.joined)
    owed = (pace.last or furthest) + allowance.burst * allowance.spacing
    return replace(pace, free_at=owed) if pace.free_at > owed else pace


def _calendar_room(rate: Rate, pace: Pace, slot: int, late: int) -> int:
    """The first instant from this slot on at which a rate by the calendar has room, as far as this window tells.

    A call that lies near a boundary counts on both sides of it: clocks differ, and it may begin late.
    """
    begin, end = rate.calendar_window(slot)
    if pace.calls_since(begin - late) >= rate.calls:
        return end + late + 1
    if slot <= begin + late and pace.calls_since(rate.calendar_window(begin - 1)[0] - late) >= rate.calls:
        return begin + late + 1
    return slot


def _coarser(allowance: Allowance, pace: Pace, *, now: int) -> Pace:
    """Keeps the latest runs as they are and joins older ones, when there are many; forgets what is too old to count."""
    most, exact = (_MOST, _EXACT) if allowance.rates else (_MOST_UNPACED, _EXACT_UNPACED)
    if len(pace.log) - pace.joined <= most:
        return pace
    windows = [(allowance.window(rate), _grain(rate, allowance.late)) for rate in allowance.rates]
    oldest = now - LONGEST - allowance.late
    coarse, least = (_COARSE, 0) if allowance.rates else (_COARSE_UNPACED, _SPAN_UNPACED)
    joined = call_log.joined(pace.log[:-exact], now=now, coarse=coarse, least=least, windows=windows, oldest=oldest)
    return replace(pace, log=(*joined, *pace.log[-exact:]), joined=len(joined))


def _grain(rate: Rate, late: int) -> int:
    """Microseconds that joined runs may span where a rate goes by them.

    Of a short window less, so that with the lateness it loses at most three hundredths.
    """
    return max(0, min(rate.period // _FINE, 3 * rate.period // 100 - late))


def _differences(numbers: Sequence[int]) -> list[int]:
    return [*numbers[:1], *(later - earlier for earlier, later in pairwise(numbers))]


def _of_quotas(used: Mapping[str, Sequence[Sequence[int]]], free_at: int) -> tuple[Run, ...]:
    """What an earlier version counted, for each quota by itself: in sixtieths of its period, by their begin.

    The quotas counted the same calls, the shorter ones more exactly.
    """
    newest_first: list[Run] = []
    before = free_at
    for period in sorted(map(int, used)):
        known = sum(run.calls for run in newest_first)
        for begin, calls in reversed(used[str(period)]):
            more = max(0, calls - known)
            known -= calls - more
            if more:
                newest_first.append(Run(min(begin + max(1, period // 60), before), more, 0))
            before = min(before, max(begin, 0))
    return tuple(reversed(newest_first))
