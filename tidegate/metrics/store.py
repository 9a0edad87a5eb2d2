"""Counters summed over all processes: one row for each series, which only grows."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import orjson
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import counts, downstreams
from tidegate.metrics.busiest import MOST, MOST_PARTITIONS, Busiest, chosen
from tidegate.metrics.counters import Key
from tidegate.metrics.families import Family

_MOST_AT_ONCE = 1000
# A series of its own for each of the busiest downstreams: whoever counts and whoever is scraped goes by these rows.
_NAMED = "tidegate_named_downstreams"
_NAMED_PARTITIONS = "tidegate_named_partitions"
# Unlike all jobs that a downstream ever let go, those that wait go up and down: ten are no reason to change places.
_MORE_WAITING = 10
_CHOOSE_SECONDS = 60.0


class CountStore:
    """Statements on the summed counters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._busiest = Busiest()
        self._chosen_at = float("-inf")
        self._partitions: frozenset[str] = frozenset()
        self._partitions_chosen_at = float("-inf")

    def know_operations(self, downstreams: Mapping[str, str]) -> None:
        """Takes note of each operation's downstream: series of operations are bounded as those of downstreams are."""
        self._busiest = replace(self._busiest, downstreams=dict(downstreams))

    def busiest(self) -> Busiest:
        """The downstreams that have series of their own: the same in all processes, a minute later at most."""
        now = clock.monotonic()
        if now - self._chosen_at > _CHOOSE_SECONDS:
            self._busiest = replace(self._busiest, names=self._choose())
            self._chosen_at = now
        return self._busiest

    def add(self, more: Mapping[Key, float]) -> None:
        """Adds these counts in one statement for each thousand (INSERT … ON CONFLICT DO UPDATE).

        Those of other downstreams than the busiest as one: so no series ever falls, whichever has its own by and by.
        """
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        more = self.busiest().folded(more)
        # Sorted: two statements that lock the same rows in different orders would deadlock.
        rows = [
            {"series": series, "labels": orjson.dumps(labels).decode(), "value": value}
            for (series, labels), value in sorted(more.items())
        ]
        for first in range(0, len(rows), _MOST_AT_ONCE):
            statement = insert(counts).values(rows[first : first + _MOST_AT_ONCE])
            self._database.execute(
                statement.on_conflict_do_update(
                    index_elements=[counts.c.series, counts.c.labels],
                    set_={"value": counts.c.value + statement.excluded.value},
                )
            )

    def all(self) -> dict[Key, float]:
        """Reads every series."""
        rows = self._database.fetch_all(select(counts).where(counts.c.series.not_in([_NAMED, _NAMED_PARTITIONS])))
        return {(row.series, tuple(orjson.loads(row.labels))): row.value for row in rows}

    def by_downstream(self, family: Family) -> dict[str, float]:
        """Reads a counter whose last label is the downstream."""
        found: dict[str, float] = {}
        for row in self._database.fetch_all(select(counts).where(counts.c.series == family.name)):
            name = orjson.loads(row.labels)[-1]
            found[name] = found.get(name, 0.0) + row.value
        return found

    def _choose(self) -> frozenset[str] | None:
        """Chooses the busiest downstreams, where there are many, and writes which; None: all of few."""
        is_named = (
            select(counts.c.labels).where(counts.c.series == _NAMED, counts.c.labels == downstreams.c.name).exists()
        )
        rows = self._database.fetch_all(select(downstreams.c.name, downstreams.c.released, is_named.label("is_named")))
        if len(rows) <= MOST:
            return None
        named = {row.name for row in rows if row.is_named}
        names = chosen(named, {row.name: row.released for row in rows})
        self._keep(_NAMED, named, names)
        return names

    def busiest_partitions(
        self, waiting: Mapping[str, int], lanes: Collection[str], count: Callable[[Collection[str]], Mapping[str, int]]
    ) -> frozenset[str]:
        """The partitions that have series of their own, as `partition_label` writes them; as lasting as `busiest`.

        Chosen by how many of their jobs wait; `count` counts those of others than are given. One of a downstream that
        is none of these `lanes` any more loses its series; one in which nothing waits keeps it until another needs the
        place.
        """
        now = clock.monotonic()
        if now - self._partitions_chosen_at > _CHOOSE_SECONDS:
            rows = self._database.fetch_all(select(counts.c.labels).where(counts.c.series == _NAMED_PARTITIONS))
            named = {row.labels for row in rows}
            others = [label for label in named if label not in waiting and partition_of(label)[0] in lanes]
            names = chosen(named, {**count(others), **waiting}, most=MOST_PARTITIONS, more=_MORE_WAITING)
            self._keep(_NAMED_PARTITIONS, named, names)
            self._partitions, self._partitions_chosen_at = names, now
        return self._partitions

    def _keep(self, series: str, named: Collection[str], names: Collection[str]) -> None:
        """Writes which have series of their own, where that has changed."""
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        if new := sorted({*names} - {*named}):
            values = [{"series": series, "labels": name, "value": 1} for name in new]
            self._database.execute(insert(counts).values(values).on_conflict_do_nothing())
        if old := sorted({*named} - {*names}):
            self._database.execute(delete(counts).where(counts.c.series == series, counts.c.labels.in_(old)))


def partition_label(lane: str, key: str) -> str:
    """A partition as a text, for a row."""
    return orjson.dumps([lane, key]).decode()


def partition_of(label: str) -> tuple[str, str]:
    """The downstream and the key that `partition_label` was given."""
    lane, key = orjson.loads(label)
    return lane, key
