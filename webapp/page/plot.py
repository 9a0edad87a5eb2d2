"""The SVG plot on a lane's card: the rate of releases in the last minute, below the rate that was allowed.

Of a lane that is shared it is stacked: in the proportion in which calls of the busiest partitions ended meanwhile.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

WIDTH, HEIGHT = 240, 48
SPAN = timedelta(seconds=60)
# The plotted rate is a mean over so many seconds: one slot more or less in a second must not show.
_SMOOTH = timedelta(seconds=2.5)
_STACK_SMOOTH = timedelta(seconds=5)
_HEADROOM = 1.2
SHOWN = 3
"""So many partitions are told apart."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A measurement of a lane: calls released ever, and the rate that was allowed then; None: no limit.

    `ended`: how many calls of each partition ended since the one before. `companions`: jobs that went along in these
    calls; `halved`: calls that were tried again in halves.
    """

    at: datetime
    released: int
    allowed: float | None
    ended: Mapping[str, int] = field(default_factory=dict)
    companions: int = 0
    halved: int = 0


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Paths of an SVG of WIDTH x HEIGHT.

    `allowed` empty: there was no limit. `top`: the rate a second at the upper edge. `stack`: for each of the partitions
    that are shown, the area from the ground up to it and all before it: drawn the last first, each covers the others.
    """

    used: str
    edge: str
    allowed: str
    top: float
    stack: tuple[str, ...] = ()


def used_per_second(history: Sequence[Reading]) -> list[float]:
    """Releases a second at each reading but the first, smoothed over the readings shortly before it."""
    used, first = [], 0
    for last in range(1, len(history)):
        while first < last - 1 and history[last].at - history[first + 1].at >= _SMOOTH:
            first += 1
        seconds = (history[last].at - history[first].at) / timedelta(seconds=1)
        used.append(max(0, history[last].released - history[first].released) / seconds if seconds > 0 else 0.0)
    return used


def busiest_of(history: Sequence[Reading]) -> list[tuple[str, float]]:
    """The partitions whose calls ended most in the last minute, with the part of all calls that was theirs, by key.

    None where all calls were of one: there is nothing to tell apart.
    """
    ended: Counter[str] = Counter()
    for reading in history:
        ended.update(reading.ended)
    most = ended.most_common(SHOWN)
    return sorted((key, number / ended.total()) for key, number in most) if len(most) > 1 else []


def plot_of(history: Sequence[Reading], used: Sequence[float], partitions: Sequence[str] = ()) -> Plot | None:
    """Plots these readings, the newest at the right edge, stacked by `partitions`; None for fewer than two points."""
    if len(used) < 2:
        return None
    end = history[-1].at
    first = next(index for index, reading in enumerate(history[1:]) if end - reading.at <= SPAN)
    shown, used = history[1 + first :], used[first:]
    highest = max([*used, *(reading.allowed or 0.0 for reading in shown)], default=0.0)
    top = highest * _HEADROOM or 1.0
    across = [WIDTH * (1 - (end - reading.at) / SPAN) for reading in shown]
    edge = _line([(x, _height(value, top)) for x, value in zip(across, used, strict=True)])
    return Plot(
        used=f"{edge}V{HEIGHT}H{across[0]:.1f}Z",
        edge=edge,
        allowed=_steps([(x, reading.allowed, top) for x, reading in zip(across, shown, strict=True)]),
        top=top,
        stack=_stack(across, used, _parts(history, partitions)[1 + first :], top),
    )


def _parts(history: Sequence[Reading], partitions: Sequence[str]) -> list[list[float]]:
    """For each reading which part of the calls was of these partitions, each with all before it; as last known."""
    parts, known, first = [], [0.0] * len(partitions), 0
    window: Counter[str] = Counter()
    for reading in history:
        window.update(reading.ended)
        while reading.at - history[first].at > _STACK_SMOOTH:
            window.subtract(history[first].ended)
            first += 1
        if number := window.total():
            known = [sum(window[key] for key in partitions[: at + 1]) / number for at in range(len(partitions))]
        parts.append(known)
    return parts


def _stack(
    across: Sequence[float], used: Sequence[float], parts: Sequence[Sequence[float]], top: float
) -> tuple[str, ...]:
    areas = []
    for at in range(len(parts[0]) if parts else 0):
        heights = [_height(value * part[at], top) for value, part in zip(used, parts, strict=True)]
        areas.append(f"{_line([*zip(across, heights, strict=True)])}V{HEIGHT}H{across[0]:.1f}Z")
    return tuple(areas)


def _height(value: float, top: float) -> float:
    return HEIGHT * (1 - value / top)


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _steps(points: Sequence[tuple[float, float | None, float]]) -> str:
    """The path of the allowed rate: level, with a step where it was changed and a gap where there was none."""
    path, last = "", None
    for x, allowed, top in points:
        y = None if allowed is None else _height(allowed, top)
        if y is None:
            last = None
        elif last is None:
            path += f"M{x:.1f} {y:.1f}"
        else:
            path += f"H{x:.1f}" + (f"V{y:.1f}" if y != last else "")
        last = y
    return path
