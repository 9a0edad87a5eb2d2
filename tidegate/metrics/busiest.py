"""Which downstreams, and partitions, have series of their own in the metrics, and how all others are counted as one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tidegate.metrics.counters import Key
from tidegate.metrics.families import FAMILIES

REST = "(rest)"
"""The label of all other downstreams together, and of their operations; nothing can have this name."""
MOST = 100
"""So many downstreams have series of their own."""
MOST_PARTITIONS = 20
"""So many partitions, of all downstreams together, have series of their own."""
# One takes another's place if it let so many times and so many more jobs go, ever: what can be only so often.
_TIMES = 2
_MORE = 100
_NO_LABEL = (None, None)


def _labels_at() -> dict[str, tuple[int | None, int | None]]:
    """For each series with a downstream or an operation: at which places of its labels they stand."""
    found: dict[str, tuple[int | None, int | None]] = {}
    for family in FAMILIES:
        at = {label: place for place, label in enumerate(family.labels)}
        places = at.get("downstream"), at.get("operation")
        if places != _NO_LABEL:
            found |= dict.fromkeys((family.name, f"{family.name}_bucket", f"{family.name}_sum"), places)
    return found


_LABELS_AT = _labels_at()


@dataclass(frozen=True)
class Busiest:
    """The downstreams that have series of their own; `names` None: all have.

    `downstreams`: of each operation its downstream, as far as this process knows.
    """

    names: frozenset[str] | None = None
    downstreams: Mapping[str, str] = field(default_factory=dict)

    def folded(self, counts: Mapping[Key, float]) -> dict[Key, float]:
        """The counts, those of all other downstreams added up."""
        found: dict[Key, float] = {}
        for key, value in counts.items():
            mine = self._folded(key)
            found[mine] = found.get(mine, 0) + value
        return found

    def own(self, counts: Mapping[Key, float]) -> dict[Key, float]:
        """The counts without those of other downstreams, which had series of their own once."""
        return {key: value for key, value in counts.items() if self._folded(key) == key}

    def _folded(self, key: Key) -> Key:
        series, labels = key
        downstream_at, operation_at = _LABELS_AT.get(series, _NO_LABEL)
        if self.names is None or (downstream_at is None and operation_at is None):
            return key
        if downstream_at is not None:
            downstream = labels[downstream_at] if downstream_at < len(labels) else None
        else:
            downstream = self.downstreams.get(labels[operation_at or 0]) if labels else None
        if downstream is None or downstream in self.names:
            return key
        places = {downstream_at, operation_at}
        return series, tuple(REST if place in places else label for place, label in enumerate(labels))


def chosen(
    named: Collection[str], numbers: Mapping[str, int], *, most: int = MOST, more: int = _MORE
) -> frozenset[str]:
    """Chooses those that have series of their own: of downstreams by the jobs that each let go, ever.

    Those `named` by now stay, unless they are gone or a much busier one needs the place: one with twice as many, and so
    many `more`. A series that comes and goes is of no use.
    """

    def by_number(name: str) -> tuple[int, str]:
        return -numbers[name], name

    kept = sorted((name for name in named if name in numbers), key=by_number)[:most]
    others = sorted((name for name in numbers if name not in kept), key=by_number)
    room = most - len(kept)
    kept = sorted(kept + others[:room], key=by_number)
    for busier in others[room:]:
        if numbers[busier] <= _TIMES * numbers[kept[-1]] + more:
            break
        kept = sorted([*kept[:-1], busier], key=by_number)
    return frozenset(kept)
