"""A downstream as its row says: its limits in force and declared, why it rests, what it announced as left. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from tidegate import rate_limit
from tidegate.clock import from_microseconds, to_microseconds
from tidegate.dispatch.announced import Budgets, rests_until
from tidegate.operations.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """A snapshot of a downstream's row. `limits` are in force: `declared`, overlaid by `changes`.

    `released`: calls ever; `companions`: jobs that went along in them, less those that came back in halves.
    `next_slot_at`: when the next call may start. `seen_at`: the database's clock.
    """

    name: str
    limits: Limits
    declared: Limits
    changes: Mapping[str, Any]
    paused: bool
    paused_until: datetime | None
    refusals: int
    failures: int
    released: int
    next_slot_at: datetime
    seen_at: datetime
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)
    budgets: Budgets = field(default_factory=dict)
    companions: int = 0

    @classmethod
    def as_declared(cls, limits: Limits, seen_at: datetime) -> Self:
        """A downstream that has no row yet, with its declared limits."""
        return cls(
            name=limits.name,
            limits=limits,
            declared=limits,
            changes={},
            paused=False,
            paused_until=None,
            refusals=0,
            failures=0,
            released=0,
            next_slot_at=seen_at,
            seen_at=seen_at,
        )

    @property
    def released_jobs(self) -> int:
        """How many jobs were released ever, and did not come back in halves."""
        return self.released + self.companions

    @property
    def is_broken(self) -> bool:
        """Whether its circuit breaker is open: no calls, then one at a time, until one succeeds."""
        return 0 < self.limits.breaker_after <= self.failures

    @property
    def rests_until(self) -> datetime | None:
        """Until when the downstream gets nothing because of its own answers; None: it is not paused so."""
        paused = self.paused_until if self.paused_until and self.paused_until > self.seen_at else None
        return max(filter(None, (paused, self.resets_at)), default=None)

    @property
    def resets_at(self) -> datetime | None:
        """When what the downstream announced as left, and is used up now, is reset; None: nothing is used up."""
        until = rests_until(self.budgets, released=self.released, now=to_microseconds(self.seen_at))
        return from_microseconds(until) if until else None

    @property
    def announced(self) -> Sequence[tuple[str, int, datetime]]:
        """What the downstream announced as left in windows that have not ended: name of the quota, calls, reset."""
        now = to_microseconds(self.seen_at)
        return [
            (name, max(0, each.used_up_at - self.released), from_microseconds(each.until))
            for name, each in sorted(self.budgets.items())
            if each.until > now
        ]

    @property
    def rests_because(self) -> Literal["failures", "refusals", "quota"] | None:
        """Why it gets nothing until `rests_until`."""
        if self.rests_until is None:
            return None
        if self.is_broken:
            return "failures"
        return "quota" if self.rests_until == self.resets_at else "refusals"
