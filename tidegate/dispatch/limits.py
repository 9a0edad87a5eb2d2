"""Limits of downstreams in the database: declared by the operations file, changed by operators."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import rate_limit
from tidegate.clock import MICROSECOND, from_microseconds, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs
from tidegate.dispatch.announced import from_json
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.lane import allowance_of
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.operations.limits import Limits
from tidegate.rate import Rate
from tidegate.rate_limit import Pace

_SHORTEST_WINDOW = timedelta(hours=1) // MICROSECOND
LIMITS = ("rates", "burst", "concurrency", "breaker_after", "jitter")


class LimitStore:
    """Statements on limits. Every change is made under the lock of the downstream's row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def declare(self, declared: Iterable[Limits]) -> None:
        """Writes the file's limits into the rows. What an operator changed stays changed; the pace goes on.

        Schedulers that start together may do it side by side.
        """
        insert = sqlite_insert if self._database.is_sqlite else postgresql_insert
        for limits in declared:
            values = {name: getattr(limits, name) for name in LIMITS}
            text, sharing = orjson.dumps(values).decode(), limits.sharing.as_json() if limits.sharing else None
            with self._database.transaction() as connection:
                connection.execute(
                    insert(downstreams)
                    .values(name=limits.name, declared=text, pace="{}", sharing=sharing, **_stored(values))
                    .on_conflict_do_nothing()
                )
                row = self._lock(connection, limits.name)
                if row.declared != text:
                    self._write(connection, row, declared=values, changes=orjson.loads(row.changes))
                if row.sharing != sharing:
                    is_it = downstreams.c.name == limits.name
                    connection.execute(
                        update(downstreams).where(is_it).values(sharing=sharing, turns=downstreams.c.turns + 1)
                    )

    def change(self, name: str, changes: Mapping[str, Any], *, paused: bool | None) -> bool:
        """Changes limits as an operator wishes (None takes an earlier change back), and pauses or resumes.

        In force for the whole cluster with the next release. False: there is no such downstream.
        """
        with self._database.transaction() as connection:
            row = self._lock(connection, name)
            if row is None:
                return False
            merged = {**orjson.loads(row.changes), **changes}
            kept = {limit: value for limit, value in merged.items() if value is not None}
            self._write(connection, row, declared=orjson.loads(row.declared), changes=kept)
            if paused is not None:
                # To resume also ends a pause by the downstream's answers, and closes the breaker: the operator knows.
                ended = {"paused_until": None, "failures": 0, "refusals": 0, "announced": None}
                connection.execute(
                    update(downstreams)
                    .where(downstreams.c.name == name)
                    .values(paused=paused, **({} if paused else ended))
                )
        return True

    def forget_undeclared(self, declared: Collection[str]) -> list[str]:
        """Deletes the lanes that are declared no more; returns their names.

        Only those in which no job waits and no call is open, and whose last call counts for none of their windows any
        more: one that is declared again must not begin with a fresh quota.
        """
        has_open = select(attempts.c.job_id).where(
            attempts.c.downstream == downstreams.c.name, attempts.c.ended_at.is_(None)
        )
        has_waiting = select(jobs.c.id).where(jobs.c.downstream == downstreams.c.name, IS_WAITING)
        is_empty = and_(~has_open.exists(), ~has_waiting.exists())
        undeclared = [name for (name,) in self._database.fetch_all(select(downstreams.c.name)) if name not in declared]
        forgotten = []
        for name in undeclared:
            with self._database.transaction() as connection:
                row = self._lock(connection, name)
                if row is None or not _is_over(row, now=connection.execute(select(NOW)).scalar_one()):
                    continue
                gone = connection.execute(delete(downstreams).where(downstreams.c.name == name, is_empty))
                forgotten += [name] * gone.rowcount
        return forgotten

    def _lock(self, connection: Connection, name: str) -> Any:
        return connection.execute(select(downstreams).where(downstreams.c.name == name).with_for_update()).one_or_none()

    def _write(
        self, connection: Connection, row: Any, *, declared: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> None:
        values = {**declared, **_effective(changes)}
        now = connection.execute(select(NOW)).scalar_one()
        pace = rate_limit.Pace.from_json(orjson.loads(row.pace))
        paced_by = values["rates"], values["burst"], values.get("jitter", 0)
        if paced_by != (orjson.loads(row.rates), row.burst, row.jitter):
            pace = rate_limit.settle(allowance_of(*paced_by), pace, now=now)
        connection.execute(
            update(downstreams)
            .where(downstreams.c.name == row.name)
            .values(
                **_stored(values),
                declared=orjson.dumps(declared).decode(),
                changes=orjson.dumps(changes).decode(),
                pace=orjson.dumps(pace.as_json()).decode(),
            )
        )


def _is_over(row: Any, *, now: int) -> bool:
    """Whether the last call of a downstream lies behind the longest window of its rates, declared or in force."""
    rates = {*orjson.loads(row.rates), *orjson.loads(row.declared)["rates"]}
    windows = [_SHORTEST_WINDOW, *(Rate.parse(rate).period for rate in rates)]
    last = Pace.from_json(orjson.loads(row.pace)).last
    return bool(last + max(windows) + rate_limit.LATE + row.jitter < now)


UNLIMITED = "unlimited"
"""In `changes`: the operator lifted this limit, where None would mean that there is no change."""


def _effective(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {limit: None if value == UNLIMITED else value for limit, value in changes.items()}


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "rates": orjson.dumps(values["rates"]).decode()}


def downstream_of(row: Any, seen_at: datetime) -> Downstream:
    """Makes a Downstream of its row's columns, as seen at this instant of the database's clock."""
    declared = orjson.loads(row.declared)
    allowance = allowance_of(orjson.loads(row.rates), row.burst, row.jitter)
    pace = rate_limit.Pace.from_json(orjson.loads(row.pace))
    next_slot = rate_limit.next_slot(allowance, pace, now=to_microseconds(seen_at))
    return Downstream(
        name=row.name,
        limits=Limits(
            name=row.name,
            rates=tuple(orjson.loads(row.rates)),
            burst=row.burst,
            concurrency=row.concurrency,
            breaker_after=row.breaker_after,
            jitter=row.jitter,
        ),
        declared=Limits(**{**declared, "name": row.name, "rates": tuple(declared["rates"])}),
        changes=orjson.loads(row.changes),
        paused=row.paused,
        paused_until=row.paused_until,
        refusals=row.refusals,
        failures=row.failures,
        released=row.released,
        next_slot_at=from_microseconds(next_slot),
        seen_at=seen_at,
        pace=pace,
        budgets=from_json(orjson.loads(row.announced or "{}")),
        companions=row.companions,
    )
