"""Whether calls were shared by weight in every stretch of an order, exactly. Pure.

Between two that could go, calls by weight may differ by one turn of each: |n1/w1 - n2/w2| <= 1/w1 + 1/w2. The
difference, added up along the order, is a walk; over some stretch it changes by as much as its highest point lies
above its lowest. So one pass tells what trying all stretches would.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The stretch in which two came furthest apart: `apart` in calls by weight, and what is `allowed` between them.

    From the order's place `first` to `last`, both included.
    """

    one: str
    other: str
    apart: Fraction
    allowed: Fraction
    first: int
    last: int

    @property
    def is_fair(self) -> bool:
        """Whether it is within the bound."""
        return self.apart <= self.allowed

    def __str__(self) -> str:
        return (
            f"{self.one} and {self.other} {float(self.apart):.3f} apart of {float(self.allowed):.3f} "
            f"from choice {self.first} to {self.last}"
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of all pairs: how many there are, the one that comes nearest to its bound or is furthest beyond, those beyond."""

    pairs: int
    worst: Stretch | None
    unfair: Sequence[Stretch]

    def joined(self, other: "Found") -> "Found":
        """Both together."""
        worst = max((each for each in (self.worst, other.worst) if each), key=_nearness, default=None)
        return Found(pairs=self.pairs + other.pairs, worst=worst, unfair=[*self.unfair, *other.unfair])


NOTHING = Found(pairs=0, worst=None, unfair=())


@dataclass(frozen=True, kw_only=True)
class Slack:
    """What an order may differ from another that is fair: the log's order from that of the choices.

    `shifted`: so many calls may have changed places at an end of a stretch. `apart`: by name, calls that went far from
    their place, or not at all.
    """

    shifted: int
    apart: Mapping[str, int]


def check(
    order: Sequence[str], weights: Mapping[str, float], until: Mapping[str, int], slack: Slack | None = None
) -> Found:
    """Looks at all pairs, in every stretch in which both could go.

    `until`: by name, how long it could go, as the first place of the order at which it no longer could.
    """
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    # Whole numbers, so that no rounding hides what is just beyond the bound.
    unit = math.lcm(*(weight.numerator for weight in exact.values())) if exact else 1
    strides = {name: int(unit / weight) for name, weight in exact.items()}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(order):
        if place < until.get(name, 0):
            places[name].append(place)
    found = 0
    worst: Stretch | None = None
    unfair: list[Stretch] = []
    for one, other in itertools.combinations(sorted(weights), 2):
        end = min(until[one], until[other])
        span, first, last = _widest(places[one], strides[one], places[other], strides[other], end)
        allowed = strides[one] + strides[other]
        if slack:
            allowed += 2 * slack.shifted * max(strides[one], strides[other])
            allowed += slack.apart.get(one, 0) * strides[one] + slack.apart.get(other, 0) * strides[other]
        found += 1
        is_nearer = worst is None or span * worst.allowed > worst.apart * allowed
        if is_nearer or span > allowed:
            stretch = Stretch(
                one=one, other=other, apart=Fraction(span), allowed=Fraction(allowed), first=first, last=last
            )
            worst = stretch if is_nearer else worst
            unfair += [stretch] if span > allowed else []
    return Found(
        pairs=found, worst=_in_calls(worst, unit) if worst else None, unfair=[_in_calls(each, unit) for each in unfair]
    )


def _in_calls(stretch: Stretch, unit: int) -> Stretch:
    return replace(stretch, apart=stretch.apart / unit, allowed=stretch.allowed / unit)


def _widest(ones: Sequence[int], up: int, others: Sequence[int], down: int, end: int) -> tuple[int, int, int]:
    """How far the walk of two gets in any stretch, up or down, and where that begins and ends."""
    at = lowest = highest = span = 0
    low_since = high_since = first = last = 0
    number = other = 0
    while True:
        one_place = ones[number] if number < len(ones) else end
        other_place = others[other] if other < len(others) else end
        place = min(one_place, other_place)
        if place >= end:
            return span, first, last
        if one_place < other_place:
            number, at = number + 1, at + up
        else:
            other, at = other + 1, at - down
        if at - lowest > span:
            span, first, last = at - lowest, low_since, place
        if highest - at > span:
            span, first, last = highest - at, high_since, place
        if at < lowest:
            lowest, low_since = at, place + 1
        if at > highest:
            highest, high_since = at, place + 1


def _nearness(stretch: Stretch) -> Fraction:
    return stretch.apart / stretch.allowed
