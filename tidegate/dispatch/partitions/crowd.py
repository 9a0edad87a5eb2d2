"""Those who share a downstream, or a client's part of it, and how many calls go in all while one makes its own. Pure.

In rounds of fair sharing each makes as many calls as its weight says, as long as it has jobs. So what goes before a job
is the sum, over all, of the smaller of what they have and what their weight lets them make by then.
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import orjson


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """How much those who share have waiting, condensed to a handful of numbers however many they are.

    `number`: of them. `calls`: how many they make together within 1, 2, 4, 8, … rounds of the heaviest, whose weight is
    `heaviest`; the last is all that waits.
    """

    number: int
    heaviest: float
    calls: tuple[float, ...]

    @classmethod
    def of(cls, waiting: Iterable[tuple[float, float]]) -> Self:
        """Condenses (weight, calls that its waiting jobs make) of each."""
        ends = sorted((calls / weight, weight, calls) for weight, calls in waiting if calls > 0)
        if not ends:
            return cls(number=0, heaviest=1.0, calls=())
        weights = [0.0, *itertools.accumulate(weight for _, weight, _ in ends)]
        numbers = [0.0, *itertools.accumulate(jobs for *_, jobs in ends)]
        heaviest = max(weight for _, weight, _ in ends)
        calls: list[float] = []
        while not calls or calls[-1] < numbers[-1]:
            rounds = 2 ** len(calls) / heaviest
            at = bisect_left(ends, (rounds,))
            calls.append(
                round(numbers[at] + rounds * (weights[-1] - weights[at]), 3) if at < len(ends) else numbers[-1]
            )
        return cls(number=len(ends), heaviest=heaviest, calls=tuple(calls))

    def calls_by(self, rounds: float) -> float:
        """About how many calls all make together by then; a round is one call of weight 1."""
        steps = rounds * self.heaviest
        if not self.calls or steps <= 1:
            return steps * self.calls[0] if self.calls else 0.0
        at = int(math.log2(steps))
        if at >= len(self.calls) - 1:
            return self.calls[-1]
        part = steps / 2.0**at - 1.0
        return self.calls[at] + part * (self.calls[at + 1] - self.calls[at])

    def as_json(self) -> str:
        """The value as text, for its row."""
        return orjson.dumps([self.number, self.heaviest, self.calls]).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Restores what `as_json` wrote."""
        number, heaviest, calls = orjson.loads(text)
        return cls(number=number, heaviest=heaviest, calls=tuple(calls))
