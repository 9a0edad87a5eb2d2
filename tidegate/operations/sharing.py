"""How a downstream's calls are shared: whose jobs are a partition of their own, and the limits of each. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import orjson

PRIORITIES = range(8)
"""0 goes first."""
USUAL_PRIORITY = 3


@dataclass(frozen=True, kw_only=True)
class PartitionLimits:
    """What one partition may have beneath the limits of its downstream. No rates: as much as that allows.

    `weight`: its share beside other partitions. `is_strict`: one job at a time, in the order of submit. `max_backlog`:
    jobs that may wait; None: the gateway's own limit.
    """

    weight: float = 1.0
    rates: tuple[str, ...] = ()
    burst: int = 1
    concurrency: int | None = None
    is_strict: bool = False
    max_backlog: int | None = None

    @property
    def most_open(self) -> int | None:
        """How many calls may be open at once; None: any number."""
        return 1 if self.is_strict else self.concurrency

    def changed(self, changes: Mapping[str, Any]) -> "PartitionLimits":
        """These limits, overlaid by what an operator changed."""
        given: dict[str, Any] = {name: tuple(value) if name == "rates" else value for name, value in changes.items()}
        return replace(self, **given)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How the calls of one downstream are shared.

    `by`: a partition for each client, or for each name that a client gives. `each`: the limits of a partition; `named`:
    of those that the operations file names. `max_partitions`: of one client, with jobs that wait. A job of a priority
    stands `priority_step` behind one of the priority before. `throttle`: who rests when the downstream refuses a call.
    """

    by: Literal["client", "header"] = "client"
    each: PartitionLimits = field(default_factory=PartitionLimits)
    named: Mapping[str, PartitionLimits] = field(default_factory=dict)
    max_partitions: int = 1000
    priority_step: timedelta = timedelta(seconds=30)
    throttle: Literal["downstream", "partition"] = "downstream"

    def limits_of(self, name: str) -> PartitionLimits:
        """The declared limits of a partition."""
        return self.named.get(name, self.each)

    @property
    def has_limits(self) -> bool:
        """Whether any partition has limits of its own, or may rest by itself."""
        declared = (self.each, *self.named.values())
        may_rest = self.throttle == "partition"
        return may_rest or any(each.rates or each.concurrency or each.is_strict for each in declared)

    def as_json(self) -> str:
        """The value as text, for the downstream's row."""
        stored = {**asdict(self), "priority_step": self.priority_step.total_seconds()}
        if self.throttle == "downstream":  # an earlier version does not know the word
            del stored["throttle"]
        return orjson.dumps(stored, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def from_json(cls, text: str) -> "Sharing":
        """Restores what `as_json` wrote."""
        stored = orjson.loads(text)
        return cls(
            **{
                **stored,
                "each": _limits(stored["each"]),
                "named": {name: _limits(each) for name, each in stored["named"].items()},
                "priority_step": timedelta(seconds=stored["priority_step"]),
            }
        )


def _limits(stored: Mapping[str, Any]) -> PartitionLimits:
    return PartitionLimits(**{**stored, "rates": tuple(stored["rates"])})


def key_of(client: str, name: str) -> str:
    """The text by which jobs and attempts name their partition; an empty client: shared by all."""
    return f"{client}/{name}"


def named_by(key: str) -> tuple[str, str]:
    """The client and the name of a partition's key."""
    client, _, name = key.partition("/")
    return client, name
