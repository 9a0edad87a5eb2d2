"""The partitions of a downstream with the most waiting jobs, and all others as one: small, however many. Pure.

The sampler makes it of what it has counted anyhow; the live page and the metrics read it, and count nothing themselves.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import orjson

MOST = 20
"""So many partitions of a downstream are told by name."""


class Busy(NamedTuple):
    """A partition: its key, how many of its jobs wait, and the rank of the first of them (microseconds)."""

    key: str
    waiting: int
    first: int


@dataclass(frozen=True, kw_only=True)
class Busiest:
    """`named`: those with the most waiting jobs, the busiest first. `oldest_of_rest`: of all others the one whose first
    job has the lowest rank; None: there are none. `number`: of all in which jobs wait; `waiting`: their jobs.
    """

    number: int
    waiting: int
    named: Sequence[Busy]
    oldest_of_rest: Busy | None = None

    @classmethod
    def of(cls, counted: Iterable[Busy]) -> Self:
        """Condenses all partitions in which jobs wait."""
        every = list(counted)
        named = heapq.nsmallest(MOST, every, key=_by_waiting)
        keys = {each.key for each in named}
        rest = (each for each in every if each.key not in keys)
        return cls(
            number=len(every),
            waiting=sum(each.waiting for each in every),
            named=tuple(named),
            oldest_of_rest=min(rest, key=lambda each: (each.first, each.key), default=None),
        )

    def as_json(self) -> str:
        """The value as text, for its row."""
        rest = self.oldest_of_rest and list(self.oldest_of_rest)
        return orjson.dumps([self.number, self.waiting, [list(each) for each in self.named], rest]).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Restores what `as_json` wrote."""
        number, waiting, named, rest = orjson.loads(text)
        return cls(
            number=number,
            waiting=waiting,
            named=tuple(Busy(*each) for each in named),
            oldest_of_rest=Busy(*rest) if rest else None,
        )


def _by_waiting(each: Busy) -> tuple[int, str]:
    return -each.waiting, each.key
