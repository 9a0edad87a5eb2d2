"""The same thing done with few rows and with many, in turns: how much longer, how many pages more."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.backlog.deep_lane import DeepLane

TIMES = 20
MOST_BUFFERS_APART = 10
MOST_RATIO = 1.25


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is timed, and what has to be done before it can be done again."""

    name: str
    do: Callable[[DeepLane], Any]
    after: Callable[[DeepLane], Any] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Seconds of each pair, each the median of twenty; shared buffers of all statements, where they are counted."""

    name: str
    few: Sequence[float]
    many: Sequence[float]
    buffers: tuple[int, int] | None

    @property
    def ratio(self) -> float:
        """How much longer it takes with many rows."""
        return median(many / few for few, many in zip(self.few, self.many, strict=True))

    @property
    def is_kept(self) -> bool:
        """Whether it costs about the same."""
        few, many = self.buffers or (0, 0)
        return self.ratio < MOST_RATIO and abs(few - many) <= MOST_BUFFERS_APART


def compare(few: DeepLane, many: DeepLane, act: Act, pairs: int) -> Pairs:
    """Interleaved pairs."""
    for lane in (few, many):
        lane.sample()
        _timed(lane, act)  # connections and plans are made
    seconds = [[_timed(lane, act) for lane in (few, many)] for _ in range(pairs)]
    return Pairs(
        name=act.name,
        few=[pair[0] for pair in seconds],
        many=[pair[1] for pair in seconds],
        buffers=None if few.database.is_sqlite else (_buffers(few, act), _buffers(many, act)),
    )


def _timed(lane: DeepLane, act: Act) -> float:
    """Median seconds of one."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act.do(lane)
        taken.append(time.perf_counter() - began)
        act.after(lane)
    return median(taken)


def _buffers(lane: DeepLane, act: Act) -> int:
    """Of all statements of one."""
    with lane.buffers() as touched:
        act.do(lane)
    act.after(lane)
    return sum(touched)
