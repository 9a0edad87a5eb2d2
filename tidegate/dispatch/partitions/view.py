"""A partition as operators see it, pages of partitions, and their order. Pure."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from tidegate import rate_limit
from tidegate.errors import InvalidQuery
from tidegate.operations.sharing import PartitionLimits, key_of, named_by

Sort = Literal["waiting", "name"]
"""Where the most jobs wait first, or by name."""
Name = tuple[str, str]
"""A client, empty where all share the partition, and the partition's name, empty for the client's unnamed one."""


class Where(NamedTuple):
    """A partition: its downstream and its key."""

    lane: str
    key: str


@dataclass(frozen=True, kw_only=True)
class PartitionView:
    """A partition of a downstream: its limits in force and as declared, what an operator changed, what waits, is open.

    Of an unnamed one `weight` is its client's, beside the other clients. `share`: the part of the downstream's calls
    that it gets by the weights while everybody who waits may go; None: it does not wait, is paused or rests. `pace`:
    what counts for its own rates, of partitions that were asked for by name. `rests_until`: because of the downstream's
    answers to its own calls, and because of which; None: it does not.
    """

    client: str
    name: str
    limits: PartitionLimits
    declared: PartitionLimits
    changes: Mapping[str, Any]
    paused: bool
    waiting: int
    open: int
    share: float | None
    rests_until: datetime | None = None
    rests_because: Literal["refusals", "quota"] | None = None
    pace: rate_limit.Pace = field(default_factory=rate_limit.Pace)

    @property
    def weight(self) -> float:
        """Its weight in force."""
        return self.limits.weight


@dataclass(frozen=True, kw_only=True)
class PartitionPage:
    """A page of partitions. `cursor`: of the next one; None: there is no more."""

    partitions: Sequence[PartitionView]
    cursor: str | None


def order_of(sort: Sort, pair: Name, waiting: int) -> tuple[Any, ...]:
    """What partitions are sorted by, and a page begins behind."""
    client, name = pair
    return (-waiting, name, client) if sort == "waiting" else (name, client)


CURSOR_PATTERN = r"^[0-9]{1,10}~[!-.0-~]{0,40}/[!-~]{0,64}$"
"""Of a cursor: how many jobs wait, client and name. Each such text is one."""


def cursor_of(order: tuple[Any, ...]) -> str:
    """The page that begins behind this place in the order, as text for a URL."""
    *waiting, name, client = order
    return f"{-sum(waiting)}~{key_of(client, name)}"


def read_cursor(sort: Sort, text: str) -> tuple[Any, ...]:
    """The place in the order behind which the page begins. Raises InvalidQuery for a text that is no cursor."""
    if not re.fullmatch(CURSOR_PATTERN, text):
        raise InvalidQuery("cursor: take it from `next` of the page before")
    waiting, _, key = text.partition("~")
    return order_of(sort, named_by(key), int(waiting))


def shares(weights: Mapping[Name, float], of_clients: Mapping[str, float], able: Collection[Name]) -> dict[Name, float]:
    """The part of all calls that each gets that could go: clients by their weight, then the partitions of each."""
    within: defaultdict[str, float] = defaultdict(float)
    for client, name in able:
        within[client] += weights[client, name]
    of_all = sum(of_clients.get(client, 1.0) for client in within)
    return {
        (client, name): of_clients.get(client, 1.0) / of_all * weights[client, name] / within[client]
        for client, name in able
    }
