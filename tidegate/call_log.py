"""A log of past calls: their instants as runs of equal distances, exactly for the latest, coarser for older ones. Pure.

A call may be logged behind the instant it had, and never before it: what goes by the log is on the safe side.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

# A distance that is longer by such a part at most goes on with a run, whose calls then count a little later.
_ALIKE = 4096


class Run(NamedTuple):
    """Calls at equal distances. Each of them was at that instant or, where runs were joined, before it."""

    last: int
    calls: int
    step: int

    @property
    def first(self) -> int:
        """The slot of its first call."""
        return self.last - (self.calls - 1) * self.step

    def since(self, instant: int) -> int:
        """How many of its calls are not before this instant."""
        if self.last < instant:
            return 0
        return min(self.calls, (self.last - instant) // self.step + 1) if self.step else self.calls


Log: TypeAlias = tuple[Run, ...]
"""Runs, rising."""


def with_call(log: Log, slot: int) -> Log:
    """The log with one more call. Where there is no rate now it may lie before what was promised when there was one."""
    if not log:
        return (Run(slot, 1, 0),)
    last, calls, step = log[-1]
    distance = max(0, slot - last)
    if calls == 1:
        return (*log[:-1], Run(last + distance, 2, distance))
    if step <= distance <= step + step // _ALIKE:
        return (*log[:-1], Run(last + distance, calls + 1, step))
    return (*log, Run(last + distance, 1, 0))


def with_calls(log: Log, slot: int, calls: int) -> Log:
    """The log with so many more calls at one instant."""
    if calls < 2:
        return with_call(log, slot) if calls else log
    *before, latest = log or (Run(slot, 0, 0),)
    slot = max(latest.last, slot)
    if slot == latest.last and not latest.step:
        return (*before, Run(slot, latest.calls + calls, 0))
    return (*log, Run(slot, calls, 0))


def with_earlier_call(log: Log, slot: int) -> Log:
    """The log with one more call, which may lie before others."""
    number = next((number for number, run in enumerate(log) if run.last > slot), len(log))
    if number == len(log):
        return with_call(log, slot)
    run = log[number]
    newer = run.since(slot + 1)
    parts = (Run(run.last - newer * run.step, run.calls - newer, run.step), Run(slot, 1, 0), run._replace(calls=newer))
    return (*log[:number], *(part for part in parts if part.calls), *log[number + 1 :])


def without_call(log: Log, slot: int) -> Log:
    """The log without the call of a slot; as it is where that slot is not surely in it."""
    number = next((number for number, run in enumerate(log) if run.last >= slot), len(log))
    if number == len(log) or not _has(log[number], slot, after=log[number - 1].last if number else None):
        return log
    return (*log[:number], *_without(log[number], slot), *log[number + 1 :])


def joined(log: Log, *, now: int, coarse: int, least: int, windows: Sequence[tuple[int, int]], oldest: int) -> Log:
    """The log with runs joined as far as they may be, and nothing before `oldest`.

    A run may span 1/`coarse` of its age, or `least`; `windows`: for runs so old at most, what they may span, if
    that is less.
    """
    spans = sorted(windows)
    found: list[Run] = []
    for run in log:
        age = now - run.last
        longest = min(max(age // coarse, least), next((span for window, span in spans if age <= window), now))
        if run.last < oldest:
            continue
        if found and run.last - (found[-2].last if len(found) > 1 else found[-1].first) <= longest:
            found[-1] = _join(found[-1], run)
        else:
            found.append(run._replace(calls=run.since(oldest)))
    return tuple(found)


def _has(run: Run, slot: int, *, after: int | None) -> bool:
    """Whether a slot is surely one of a run's, which begins after the run before it: at its place, or joined."""
    if slot >= run.first:
        return run.step == 0 or (run.last - slot) % run.step <= run.calls * (run.step // _ALIKE)
    return run.calls > 1 and after is not None and slot > after


def _without(run: Run, slot: int) -> list[Run]:
    """What is left of a run without the call of a slot."""
    newer = min(run.calls - 1, (run.last - slot) // run.step) if run.step else run.calls - 1
    older = run.calls - 1 - newer
    left = [Run(run.last - (newer + 1) * run.step, older, run.step), Run(run.last, newer, run.step)]
    return [each for each in left if each.calls]


def _join(older: Run, newer: Run) -> Run:
    """One run for two: its calls are as far apart as they can be while none is put before the instant it had."""
    gap = newer.last - older.last
    steps = [gap // newer.calls, (gap + (older.calls - 1) * older.step) // (newer.calls + older.calls - 1)]
    return Run(newer.last, older.calls + newer.calls, min([*steps, newer.step] if newer.calls > 1 else steps))
