"""Counters summed over all processes: one row for each series, which only grows."""

from collections.abc import Mapping
from dataclasses import replace

import orjson
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import counts, downstreams
from tidegate.metrics.busiest import MOST, Busiest, chosen
from tidegate.metrics.counters import Key
from tidegate.metrics.families import Family

_MOST_AT_ONCE = 1000
# A series of its own for each of the busiest downstreams: whoever counts and whoever is scraped goes by these rows.
_NAMED = "tidegate_named_downstreams"
_CHOOSE_SECONDS = 60.0


class CountStore:
    """Statements on the summed counters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._busiest = Busiest()
        self._chosen_at = float("-inf")

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
        rows = self._database.fetch_all(select(counts).where(counts.c.series != _NAMED))
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
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        if new := sorted(names - named):
            values = [{"series": _NAMED, "labels": name, "value": 1} for name in new]
            self._database.execute(insert(counts).values(values).on_conflict_do_nothing())
        if old := sorted(named - names):
            self._database.execute(delete(counts).where(counts.c.series == _NAMED, counts.c.labels.in_(old)))
        return names
