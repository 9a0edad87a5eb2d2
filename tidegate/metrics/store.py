"""Counters summed over all processes: one row for each series, which only grows."""

from collections.abc import Mapping

import orjson
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.database.connection import Database
from tidegate.database.schema import counts
from tidegate.metrics.counters import Key

_MOST_AT_ONCE = 1000


class CountStore:
    """Statements on the summed counters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, more: Mapping[Key, float]) -> None:
        """Adds these counts in one statement for each thousand (INSERT … ON CONFLICT DO UPDATE)."""
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
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
        rows = self._database.fetch_all(select(counts))
        return {(row.series, tuple(orjson.loads(row.labels))): row.value for row in rows}
