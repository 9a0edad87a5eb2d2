"""The order in which the gate chose, by `attempts.turn`, and which turns were given back and used again. Pure.

A turn that is given back goes to the next choice of the same partition, and of the same client: both together are one
turn. Each one that is given back takes a number of the same series as the choices, so that a gap tells where it was.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One choice of the gate, as its attempt's row tells. Instants in seconds since 1970.

    `slot`: the one it ended with. `is_given_back`: the call was surely not made.
    """

    number: int
    client: str
    partition: str
    """With its client's id."""
    job: str
    released: float
    slot: float
    ended: float | None = None
    outcome: str | None = None
    is_given_back: bool = False


@dataclass(kw_only=True)
class Order:
    """Choices in their order, and what is no turn of its own: `again`, by client or partition, the places of choices
    that used a turn that had been given back. `unexplained`: gaps without a choice that was given back.
    """

    choices: Sequence[Choice]
    again: Mapping[str, set[int]] = field(default_factory=dict)
    unexplained: int = 0
    unused: int = 0

    @property
    def given_back(self) -> Sequence[Choice]:
        """Those whose turn was given back."""
        return [choice for choice in self.choices if choice.is_given_back]

    def of_clients(self) -> list[str]:
        """The clients in the order of their turns."""
        return self._names("clients", [choice.client for choice in self.choices])

    def of_partitions(self) -> list[str]:
        """The partitions in the order of their turns."""
        return self._names("partitions", [choice.partition for choice in self.choices])

    def _names(self, level: str, names: Sequence[str]) -> list[str]:
        again = self.again.get(level, set())
        # A choice that is no turn of its own keeps its place, so that places are those of the choices.
        return ["" if place in again else name for place, name in enumerate(names)]


def in_order(choices: Sequence[Choice], last_number: int) -> Order:
    """Puts choices in order and finds those that used a turn again. `last_number`: of the series, when all was over."""
    rising = sorted(choices, key=lambda choice: choice.number)
    back = sorted((each for each in rising if each.is_given_back), key=lambda each: each.ended or 0.0)
    again: dict[str, set[int]] = {"clients": set(), "partitions": set()}
    owed: dict[str, Counter[str]] = {"clients": Counter(), "partitions": Counter()}
    unexplained = 0
    numbers = [*(choice.number for choice in rising), last_number + 1]
    expected = numbers[0]
    for place, number in enumerate(numbers):
        for gap in range(expected, number):
            giver = next((each for each in back if each.number < gap), None)
            if giver is None:
                unexplained += 1
                continue
            back.remove(giver)
            owed["clients"][giver.client] += 1
            owed["partitions"][giver.partition] += 1
        expected = number + 1
        if place == len(rising):
            break
        for level, name in (("clients", rising[place].client), ("partitions", rising[place].partition)):
            if owed[level][name]:
                owed[level][name] -= 1
                again[level].add(place)
    return Order(choices=rising, again=again, unexplained=unexplained, unused=owed["partitions"].total() + len(back))


def could_go_until(choices: Sequence[Choice], name_of: str) -> dict[str, int]:
    """By `client` or `partition`: the place of the choice that took the last job that had not been chosen before.

    All jobs are there before the first choice. So until that place, itself included, it could go.
    """
    first_of: dict[str, int] = {}
    until: dict[str, int] = {}
    for place, choice in enumerate(choices):
        if first_of.setdefault(choice.job, place) == place:
            until[getattr(choice, name_of)] = place + 1
    return until


def moved(choices: Sequence[Choice]) -> list[Choice]:
    """Those that ended with a later slot than one that was chosen behind them: they took a new one."""
    found: list[Choice] = []
    earliest = float("inf")
    for choice in reversed(choices):
        if choice.slot > earliest:
            found.append(choice)
        earliest = min(earliest, choice.slot)
    return found[::-1]
