"""Announced quotas: what a downstream says is left of its calls, and so how many more may be released. Pure.

An answer tells how many calls its downstream has counted, not which. Those that may not be counted yet are the other
ones that were out when it was recorded. So far the counter of a lane's releases may go on; by that number the budget
needs no write at a release, and nothing that is lost on its way makes it too large.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias

from tidegate.clock import MICROSECOND
from tidegate.operations.quota_fields import Quota
from tidegate.rate import Rate

_LONGEST_REST = timedelta(minutes=5)
# Of a quota with more left than this only what is less than was known is worth a write.
_MANY = 50
# After a reset so many calls go without a new announcement, one by one, before the downstream is taken to make none.
_PROBES = 3
_MOST_QUOTAS = 8


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is left of one quota. `left`: the least that was announced in its window, which ends at `until`.

    `used_up_at`: the number of the lane's releases ever at which it is used up. `until` in microseconds.
    """

    left: int
    until: int
    used_up_at: int

    def room(self, *, released: int, held: int, now: int) -> int | None:
        """How many more calls may be released; None: any number, for nothing is announced any more.

        After the reset one call goes first, and its answer tells what is left then: how much the downstream gives back
        at a reset, it alone knows.
        """
        room = self.used_up_at - released
        if now < self.until:
            return max(0, room)
        if room <= -_PROBES:
            return None
        return max(room, 0 if held else 1)


Budgets: TypeAlias = Mapping[str, Budget]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A lane as it is when an answer is recorded. Instants in microseconds.

    `called_at`: when the call began that was answered. `others`: how many other ones are released and have not ended.
    """

    now: int
    called_at: int
    released: int
    others: int
    longest: timedelta


def longest_rest(rates: Iterable[str]) -> timedelta:
    """How long a downstream with these rates may ask for a rest: for its longest window, and 5 minutes at least."""
    return max(_LONGEST_REST, *(Rate.parse(rate).period * MICROSECOND for rate in rates), timedelta(0))


def announced(budgets: Budgets, quotas: Sequence[Quota], seen: Seen) -> Budgets:
    """The budgets after an answer that announces these quotas. The same ones: it says nothing new.

    Answers come out of order. In the same window the least that is left is the latest; a window is a new one when the
    answered call began so late that its reset must lie behind the one known.
    """
    changed = dict(budgets)
    for quota in quotas:
        known = budgets.get(quota.name)
        rest = min(quota.resets_in, seen.longest) // MICROSECOND
        until, used_up_at = seen.now + rest, seen.released + max(0, quota.left - seen.others)
        if known and seen.called_at + rest <= known.until:
            is_less = quota.left < known.left and (quota.left <= _MANY or used_up_at < known.used_up_at)
            if not is_less:
                continue
            until = max(until, known.until)
        changed[quota.name] = Budget(left=quota.left, until=until, used_up_at=used_up_at)
    if changed == budgets:
        return budgets
    latest = sorted(changed, key=lambda name: changed[name].until)[-_MOST_QUOTAS:]
    return {name: changed[name] for name in latest}


def room(budgets: Budgets, *, released: int, held: int, now: int) -> int | None:
    """How many more calls may be released within all budgets; None: any number."""
    rooms = (budget.room(released=released, held=held, now=now) for budget in budgets.values())
    return min((each for each in rooms if each is not None), default=None)


def rests_until(budgets: Budgets, *, released: int, now: int) -> int | None:
    """When the last of the budgets that are used up now is reset; None: none is."""
    used_up = [each.until for each in budgets.values() if each.room(released=released, held=0, now=now) == 0]
    return max(used_up, default=None)


def spent(budgets: Budgets) -> Budgets:
    """The budgets whose quota has nothing left by the downstream's own word."""
    return {name: budget for name, budget in budgets.items() if not budget.left}


def with_one_less(budgets: Budgets) -> Budgets:
    """The budgets after a call that no release stands for."""
    return {name: replace(each, used_up_at=each.used_up_at - 1) for name, each in budgets.items()}


def as_json(budgets: Budgets) -> dict[str, list[int]]:
    """The budgets as JSON."""
    return {name: [each.left, each.until, each.used_up_at] for name, each in budgets.items()}


def from_json(stored: Mapping[str, Any]) -> Budgets:
    """Restores what `as_json` wrote."""
    return {
        name: Budget(left=left, until=until, used_up_at=used_up_at)
        for name, (left, until, used_up_at) in stored.items()
    }
