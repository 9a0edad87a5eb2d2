"""What the downstream's log says: how many calls came in any window, how many were open, which came twice.

A call arrived when its first byte did, which on the loopback interface is when its caller wrote that.
"""

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One call at the downstream; instants in seconds since 1970, `open` with itself.

    `read_at`: when the downstream's process got round to it.
    """

    at: float
    read_at: float
    until: float
    lane: str
    job: str
    status: int
    open: int

    @property
    def is_refused(self) -> bool:
        """Whether it was too many."""
        return self.status == 429


def read_log(path: Path, lane: str | None = None) -> list[Arrival]:
    """All calls by their arrival; only those of one lane if it is named."""
    calls = [Arrival(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted((call for call in calls if lane in {None, call.lane}), key=lambda call: call.at)


def within_before(seconds: float, instants: Sequence[float]) -> list[int]:
    """For each instant, how many there are in the window that ends with it, itself included. `instants` rise."""
    numbers = []
    first = 0
    for last, at in enumerate(instants):
        while at - instants[first] >= seconds:
            first += 1
        numbers.append(last - first + 1)
    return numbers


def most_within(seconds: float, instants: Sequence[float]) -> int:
    """The most instants in any window of this length, wherever it begins; exact. `instants` rise."""
    return max(within_before(seconds, instants), default=0)


def doubles(calls: Iterable[Arrival]) -> int:
    """How many calls came for a job that had one before."""
    return sum(times - 1 for times in Counter(call.job for call in calls).values())


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time in spans that do not overlap, rising."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def without(spans: Iterable[Span], gaps: Iterable[Span]) -> list[Span]:
    """What is left of the spans outside of the gaps."""
    left = union(spans)
    for begin, end in gaps:
        left = [
            piece
            for span in left
            for piece in ((span[0], min(span[1], begin)), (max(span[0], end), span[1]))
            if piece[0] < piece[1]
        ]
    return left


def length(spans: Iterable[Span]) -> float:
    """Seconds in all."""
    return sum(end - begin for begin, end in spans)


def overlap(spans: Iterable[Span], others: Iterable[Span]) -> float:
    """Seconds that `others`, which may overlap each other and then count several times, lie within `spans`."""
    pieces = list(others)
    return sum(max(0.0, min(end, until) - max(begin, at)) for begin, end in spans for at, until in pieces)


def curve(instants: Sequence[float], start: float, end: float, step: float = 0.05) -> list[tuple[float, int]]:
    """For a plot: seconds since `start` and the calls of the second before."""
    steps = int((end - start) / step) + 1
    return [
        (
            number * step,
            bisect.bisect_right(instants, start + number * step)
            - bisect.bisect_right(instants, start + number * step - 1),
        )
        for number in range(steps)
    ]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank)."""
    return sorted(values)[max(0, min(len(values) - 1, -int(-share * len(values) // 1) - 1))]
