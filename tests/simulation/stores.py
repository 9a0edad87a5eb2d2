"""The real stores on SQLite in memory, asked over a network that loses, cuts, delays and stands still.

Between two statements, and between a statement and its answer, any other task may run. Within a transaction none does:
SQLite has one writer.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import orjson
import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.pool import ConnectionPoolEntry

from migrations.upgrade import upgrade
from tests.simulation.world import Process, World
from tests.support.present import present
from tidegate.database.connection import Database
from tidegate.database.driver_errors import translated

T = TypeVar("T")
_URL = "sqlite:///file:/{name}?vfs=memdb&uri=true"
# What a client waits for an answer, and then asks again on another connection.
_PATIENCE_SECONDS = 10.0

# What happens to rows, for the invariants: written by triggers, so that nothing that is committed goes by unseen.
_NOTED = {
    "jobs": (
        "id",
        "state",
        "percent",
        "version",
        "fence",
        "losses",
        "attempt",
        "poll_url",
        "downstream",
        "deadline",
        "finished_at",
        "slot_at",
        "run_at",
        "rank_at",
        "partition",
        "cancel_requested",
    ),
    "attempts": (
        "job_id",
        "fence",
        "downstream",
        "worker",
        "claimed_at",
        "ended_at",
        "outcome",
        "slot_at",
        "released_at",
        "follows_job",
        "partition",
        "turn",
    ),
    "downstreams": (
        "name",
        "failures",
        "refusals",
        "breaker_after",
        "concurrency",
        "rates",
        "burst",
        "paused",
        "turns",
    ),
    "partitions": ("downstream", "client", "name", "returned", "changes", "paused"),
    "shared_clients": ("downstream", "client", "returned", "weight"),
}


@dataclass
class Faults:
    """What is wrong with the way to the database. Times are those of the world.

    `cut`: by process, how the next statements end: their answer is "lost" (nothing was done), "unknown" (it was done),
    or "late" (it is done a while later).
    """

    away_until: float = 0.0
    frozen_until: float = 0.0
    read_only_until: float = 0.0
    cut: dict[str, list[str]] = field(default_factory=dict)
    broke: Counter[str] = field(default_factory=Counter)
    """By process, how many statements were not answered."""


@dataclass(frozen=True)
class Change:
    """A row that was written. Columns before and after, by name; none before: it is new, none after: it is gone."""

    table: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class Rows:
    """The one database of all simulations in this interpreter, empty at the beginning of each."""

    def __init__(self) -> None:
        template = sqlite3.connect("file:/template?vfs=memdb", uri=True, isolation_level=None)
        self._template = template
        upgrade(_URL.format(name="template"))
        for table, columns in _NOTED.items():
            _note(template, table, columns)
        self.keeper = sqlite3.connect("file:/simulated?vfs=memdb", uri=True, isolation_level=None)
        self.database = Database(_URL.format(name="simulated"), pool_size=2, busy_timeout=timedelta(0))
        self.read_only = False

        @event.listens_for(self.database.engine, "checkout")
        def protect(connection: sqlite3.Connection, record: ConnectionPoolEntry, _: object) -> None:
            if record.info.get("read_only", False) != self.read_only:  # the pragma has each statement compiled anew
                connection.execute(f"PRAGMA query_only = {'ON' if self.read_only else 'OFF'}")
                record.info["read_only"] = self.read_only

    def empty(self) -> None:
        """Begins again with a migrated database without rows."""
        self._template.backup(self.keeper)
        self.read_only = False

    def changes(self) -> list[Change]:
        """What was written since the last call, in order."""
        rows = self.keeper.execute("SELECT told FROM simulated_changes ORDER BY number").fetchall()
        if rows:
            self.keeper.execute("DELETE FROM simulated_changes")
        return [_change(told) for (told,) in rows]

    def ask(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Reads rows as an onlooker, whom no simulated process sees."""
        cursor = self.keeper.execute(sql, values)
        cursor.row_factory = sqlite3.Row
        return cursor.fetchall()


@cache
def rows() -> Rows:
    """This interpreter's database."""
    return Rows()


class SimulatedDatabase:
    """One simulated process's way to the database: what `Database` is to the stores."""

    is_sqlite = True

    def __init__(self, world: World, process: Process, faults: Faults, seen: Callable[[list[Change]], None]) -> None:
        self._world = world
        self._process = process
        self._faults = faults
        self._seen = seen
        self._rows = rows()
        self._inner = rows().database
        self.engine = self._inner.engine

    def fetch_one(self, *asked: Any, **options: Any) -> Any:
        """As `Database.fetch_one`."""
        return self._statement(self._inner.fetch_one, asked, options)

    def fetch_all(self, *asked: Any, **options: Any) -> Any:
        """As `Database.fetch_all`."""
        return self._statement(self._inner.fetch_all, asked, options)

    def fetch_in_order(self, *asked: Any, **options: Any) -> Any:
        """As `Database.fetch_in_order`; the order of an index is of no concern here."""
        return self._statement(self._inner.fetch_all, asked, options)

    def execute(self, *asked: Any, **options: Any) -> Any:
        """As `Database.execute`."""
        return self._statement(self._inner.execute, asked, options)

    def _statement(self, run: Callable[..., Any], asked: Sequence[Any], options: dict[str, Any]) -> Any:
        """Runs a statement: at once as a part of a transaction, else over the network. None is slow: no time limit."""
        options.pop("limit", None)
        if options.get("within") is not None:
            return run(*asked, **options)
        return self._step(lambda: run(*asked, **options))

    def batched(self, write: Callable[[Connection], T]) -> T:
        """As `Database.batched`."""
        return self._step(lambda: self._inner.batched(write))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `Database.transaction`. It can't be done later: what it does is known to its caller alone."""
        cut = self._on_the_way()
        if cut in {"lost", "late"}:
            self._faults.broke[self._process.name] += 1
            raise _refused()
        with self._inner.transaction() as connection:
            yield connection
        self._look()
        self._on_the_way_back(cut)

    def check_writable(self) -> None:
        """As `Database.check_writable`."""
        self._step(self._inner.check_writable)

    def _step(self, act: Callable[[], T]) -> T:
        cut = self._on_the_way()
        if cut == "lost":
            self._faults.broke[self._process.name] += 1
            raise _cut_off()
        if cut == "late":
            self._later(act)
            self._faults.broke[self._process.name] += 1
            raise _cut_off()
        answer = act()
        self._look()
        self._on_the_way_back(cut)
        return answer

    def _on_the_way(self) -> str | None:
        """Brings a statement to the server; returns how it will be cut."""
        world, faults = self._world, self._faults
        cuts = faults.cut.get(self._process.name)
        cut = cuts.pop(0) if cuts else None
        world.sleep(_latency(world, "there"))
        if world.now < faults.frozen_until:
            left = faults.frozen_until - world.now
            world.sleep(min(left, _PATIENCE_SECONDS))
            if left > _PATIENCE_SECONDS:
                return "late"
        if world.now < faults.away_until:
            world.sleep(world.draw_here("refused") * 0.2)
            faults.broke[self._process.name] += 1
            raise _refused()
        self._rows.read_only = world.now < faults.read_only_until
        return cut

    def _on_the_way_back(self, cut: str | None) -> None:
        self._world.sleep(_latency(self._world, "back"))
        if cut == "unknown" or self._world.now < self._faults.away_until:
            self._faults.broke[self._process.name] += 1
            raise _cut_off()

    def _later(self, act: Callable[[], object]) -> None:
        """Does it although nobody waits for it any more, as a server does whose client has gone."""

        def late() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - nobody hears it
                self._world.tell(f"a statement that was given up failed: {error}")
            else:
                self._world.tell("a statement that was given up is done", self._process.name)
            self._look()

        self._world.spawn(
            f"{self._process.name}/late",
            late,
            after=max(0.05 + 8 * self._world.draw_here("late"), self._faults.frozen_until - self._world.now),
        )

    def _look(self) -> None:
        self._seen(self._rows.changes())


def _latency(world: World, way: str) -> float:
    """Mostly a millisecond, at times twenty, seldom half a second."""
    drawn = world.draw_here(way)
    if drawn > 0.998:
        return 0.5 * world.draw_here(f"{way} slow")
    return 0.02 * drawn if drawn > 0.95 else 0.001 * (0.2 + drawn)


def _refused() -> Exception:
    """What a driver's error becomes when nobody answers: nothing was sent."""
    return present(translated(psycopg.OperationalError("simulated: connection refused")))


def _cut_off() -> Exception:
    """What a driver's error becomes when the connection breaks after the statement was sent."""
    error = psycopg.OperationalError("simulated: server closed the connection unexpectedly")
    return present(translated(error, sql="UPDATE", commits=True))


def _note(connection: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS simulated_changes (number INTEGER PRIMARY KEY, told TEXT)")

    def told(row: str) -> str:
        values = ", ".join(f"'{column}', {row}.{column}" for column in columns)
        return f"json_object({values})"

    for what, before, after in (
        ("INSERT", "'{}'", told("NEW")),
        ("UPDATE", told("OLD"), told("NEW")),
        ("DELETE", told("OLD"), "'{}'"),
    ):
        connection.execute(
            f"CREATE TRIGGER simulated_{table}_{what} AFTER {what} ON {table} BEGIN "  # noqa: S608 - our own names
            f"INSERT INTO simulated_changes (told) VALUES (json_array('{table}', json({before}), json({after}))); END"
        )


def _change(told: str) -> Change:
    table, before, after = orjson.loads(told)
    return Change(table, before, after)
