"""Statistics of the whole cluster for /metrics, at a cost that does not grow with the backlog."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    String,
    and_,
    column,
    delete,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate.clock import MICROSECOND
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, final_jobs, jobs, samples, stewards, workers
from tidegate.database.statement import Prepared, required
from tidegate.database.time import database_now
from tidegate.execution.heartbeat_store import lives
from tidegate.jobs.transitions import NOW
from tidegate.maintenance.cluster_facts import MOST_DELIVERIES, MOST_OPEN, Facts, Rest
from tidegate.states import FINAL_STATES, State
from tidegate.webhooks.send_store import IS_PENDING

_COUNT_LIMIT = timedelta(minutes=1)
_FORGET_SCHEDULERS_AFTER = timedelta(hours=1)
# Literals: with a bound parameter SQLite does not see that a partial index fits.
_IS_DUE = (jobs.c.state == literal_column(f"'{State.QUEUED.value}'"), jobs.c.slot_at.is_(None))
_RUNS = jobs.c.lease_until.is_not(None)


class FactStore:
    """Queries of the cluster's statistics, and the schedulers' heartbeats."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Facts:
        """Reads all statistics, in two statements."""
        due = self._database.fetch_all(_OLDEST_DUE)
        counted = self._database.fetch_all(_COUNTED if self._database.is_sqlite else _COUNTED_ON_POSTGRESQL)
        numbers = {(kind, name): int(number) for kind, name, number in counted}
        return Facts(
            oldest_due_seconds={row.name: max(0, row.age or 0) / 1e6 for row in due},
            running=numbers["running", ""],
            released=numbers["released", ""],
            workers=_of_kind(numbers, "workers"),
            stewards=numbers["stewards", ""],
            deliveries=numbers["deliveries", ""],
            final=dict.fromkeys(FINAL_STATES, 0) | _of_kind(numbers, "final"),
            oldest_snapshot=numbers.get(("snapshot", ""), 0),
        )

    def rest(self, named: Collection[str]) -> Rest:
        """Reads what all downstreams but these are together."""
        is_broken = and_(downstreams.c.breaker_after > 0, downstreams.c.failures >= downstreams.c.breaker_after)
        rests = downstreams.c.paused_until > database_now()
        numbers = {
            "backlog": func.coalesce(func.sum(samples.c.backlog), 0),
            "paused": func.count().filter(downstreams.c.paused),
            "resting": func.count().filter(rests, ~is_broken),
            "broken": func.count().filter(is_broken),
        }
        lanes = downstreams.outerjoin(samples, samples.c.downstream == downstreams.c.name)
        every = select(*(number.label(name) for name, number in numbers.items())).select_from(lanes)
        row = required(self._database.fetch_one(every.where(downstreams.c.name.not_in(sorted(named)))))
        return Rest(backlog=int(row.backlog), paused=row.paused, resting=row.resting, broken=row.broken)

    def count_open(self) -> int:
        """Counts the jobs that are not final, up to MOST_OPEN."""
        some = select(jobs.c.id).where(jobs.c.finished_at.is_(None)).limit(MOST_OPEN).subquery()
        return int(self._database.fetch_all(select(func.count().label("number")).select_from(some))[0].number)

    def beat_scheduler(self, scheduler: str, *, until: timedelta) -> None:
        """Records a scheduler's heartbeat: it lives for so long from now."""
        values = {"the_id": scheduler, "lasts": until // MICROSECOND}
        self._database.execute(_BEAT_SCHEDULER, values)

    def remove_scheduler(self, scheduler: str) -> None:
        """Deletes the row of a scheduler that stops."""
        self._database.execute(delete(stewards).where(stewards.c.id == scheduler))

    def count_final(self) -> None:
        """Counts and stores the number of final jobs by state; also deletes rows of schedulers long gone.

        That costs more the more jobs there are.
        """
        final = select(jobs.c.state, func.count()).where(jobs.c.finished_at.is_not(None)).group_by(jobs.c.state)
        found = {state: int(number) for state, number in self._database.fetch_all(final, limit=_COUNT_LIMIT)}
        statement = self._insert(final_jobs).values(
            [
                {"state": state, "number": found.get(state, 0), "counted_at": database_now()}
                for state in sorted(FINAL_STATES)
            ]
        )
        changes = {"number": statement.excluded.number, "counted_at": statement.excluded.counted_at}
        gone = delete(stewards).where(stewards.c.seen_until <= database_now(-_FORGET_SCHEDULERS_AFTER))
        self._database.execute(statement.on_conflict_do_update(index_elements=[final_jobs.c.state], set_=changes))
        self._database.execute(gone)

    def _insert(self, table: Any) -> Any:
        return (sqlite_insert if self._database.is_sqlite else postgresql_insert)(table)


_BEAT_SCHEDULER = Prepared(lives(postgresql_insert, stewards), bool, on_sqlite=lives(sqlite_insert, stewards))


def _of_kind(numbers: Mapping[tuple[str, str], int], wanted: str) -> dict[str, int]:
    return {name: number for (kind, name), number in numbers.items() if kind == wanted}


def _oldest_due() -> Any:
    """SELECT of the oldest due job's age for each downstream: one index step each."""
    first = (
        select(type_coerce(jobs.c.run_at, BigInteger))
        .where(jobs.c.downstream == downstreams.c.name, *_IS_DUE)
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
    )
    return select(downstreams.c.name, (NOW - first.scalar_subquery()).label("age")).order_by(downstreams.c.name)


def _counted() -> Any:
    """SELECT of all numbers: each part reads an index that has no more entries than there is work under way."""
    nobody = literal("")
    alive = workers.c.seen_until > database_now()
    pending = select(true().label("it")).where(IS_PENDING).limit(MOST_DELIVERIES).subquery()
    released = attempts.c.ended_at.is_(None) & attempts.c.claimed_at.is_(None)
    return union_all(
        select(literal("running"), nobody, func.count()).select_from(jobs).where(_RUNS),
        select(literal("released"), nobody, func.count()).select_from(attempts).where(released),
        select(literal("workers"), workers.c.queue, func.sum(workers.c.size)).where(alive).group_by(workers.c.queue),
        select(literal("stewards"), nobody, func.count())
        .select_from(stewards)
        .where(stewards.c.seen_until > database_now()),
        select(literal("deliveries"), nobody, func.count()).select_from(pending),
        select(literal("final"), final_jobs.c.state, final_jobs.c.number),
    )


# Whose old row versions PostgreSQL has to keep for somebody: transactions of this database, standbys that say what they
# still read, replication slots, prepared transactions. Visible to every role; for how long they are open is not.
_OLDEST_SNAPSHOT = text("""
SELECT 'snapshot' AS kind, '' AS name, coalesce(max(age), 0) AS number FROM (
  SELECT greatest(age(backend_xmin), age(backend_xid)) FROM pg_stat_activity
  WHERE (datname = current_database() OR datname IS NULL) AND backend_type <> 'autovacuum worker'
  UNION ALL SELECT age(xmin) FROM pg_replication_slots
  UNION ALL SELECT age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
) AS held(age)
""").columns(column("kind", String), column("name", String), column("number", BigInteger))
_OLDEST_DUE = _oldest_due()
_COUNTED = _counted()
_COUNTED_ON_POSTGRESQL = union_all(*_COUNTED.selects, select(_OLDEST_SNAPSHOT.subquery()))
