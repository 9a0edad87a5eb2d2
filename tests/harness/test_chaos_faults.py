"""The faults of the chaos suite: the same seed plans the same, and each is what it says until it is undone."""

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import psycopg
import pytest
from sqlalchemy.engine import make_url

from benchmarks.chaos import database_faults
from benchmarks.chaos.database_faults import LOCKED_ROWS, LOCKED_TABLES
from benchmarks.chaos.faults import ALL_WORKERS, Fault, Kind, plan
from benchmarks.chaos.stack import DATABASE, WORKERS
from tests.support import postgresql, run
from tests.support.processes import ChildProcess
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

SECOND_MS = 1000
ELSEWHERE = {
    "postgresql": {Kind.LOCK_FILE},
    "sqlite": {Kind.RESTART, Kind.STANDSTILL, Kind.THROTTLE, Kind.READ_ONLY, Kind.LOCK_TABLE, Kind.LOCK_ROW},
}
"""Kinds of fault that a database can't have."""


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    """A server of these tests' own: others would not like what is done to it."""
    if postgresql.find_binaries() is None:
        pytest.skip(postgresql.NOT_FOUND)
    own = postgresql.Server(run.folder(), settings=postgresql.LOOPBACK)
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def url(server: postgresql.Server) -> str:
    """Of a migrated database in it."""
    return server.make_database()


def planned(seed: int, count: int, database: str, only: Sequence[Kind] = ()) -> list[Fault]:
    """So many faults of this seed."""
    return plan(Random(seed), count, database=database, gap_seconds=2, only=only)  # noqa: S311 - to be repeated


def session(url: str) -> psycopg.Connection:
    """Somebody else's."""
    parts = make_url(url)
    return psycopg.connect(
        host=parts.host, port=parts.port, user="postgres", dbname=parts.database, autocommit=True, connect_timeout=2
    )


def takes(url: str, statement: str) -> bool:
    """Whether it is done within a second."""
    with session(url) as own:
        own.execute(f"SET statement_timeout = {SECOND_MS}")
        try:
            own.execute(statement)
        except (psycopg.errors.QueryCanceled, psycopg.errors.ReadOnlySqlTransaction):
            return False
    return True


@pytest.mark.both_databases("none is opened; what can be done to each is planned")
@pytest.mark.parametrize("database", list(ELSEWHERE))
def test_a_seed_repeats_its_faults_and_each_kind_comes_before_any_comes_twice(database: str) -> None:
    faults = planned(1, 40, database)
    assert faults == planned(1, 40, database)
    assert faults != planned(2, 40, database)
    kinds = [fault.kind for fault in faults]
    number = len(set(kinds))
    assert len(set(kinds[:number])) == number
    assert set(kinds) == set(Kind) - ELSEWHERE[database]
    assert {fault.kind for fault in planned(1, 40, database, only=[Kind.KILL])} == {Kind.KILL}


def test_a_fault_waits_for_everybody_whom_it_hurts() -> None:
    faults = planned(1, 300, "postgresql")
    (of_all, *_) = [fault for fault in faults if fault.target == ALL_WORKERS]
    assert of_all.hurts == set(WORKERS)
    (amid, *_) = [fault for fault in faults if fault.kind is Kind.FREEZE_AMID_WRITE]
    assert amid.hurts == {amid.target, DATABASE}
    assert {fault.seconds for fault in faults if fault.kind is Kind.STANDSTILL} == {12.0}


@pytest.mark.postgresql
def test_a_frozen_server_says_nothing_and_goes_on(server: postgresql.Server, url: str) -> None:
    with session(url) as own:
        undo = database_faults.freeze(server)
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            session(url)
        assert time.monotonic() - began > 1.5, "a new connection is not refused, it hears nothing"
        undo()
        assert own.execute("SELECT 1").fetchone() == (1,), "the old one was kept"
    assert takes(url, "SELECT 1")


@pytest.mark.postgresql
def test_a_throttled_server_is_slow_and_answers(server: postgresql.Server, url: str) -> None:
    with session(url) as own:
        undo = database_faults.throttle(server)
        began = time.monotonic()
        for _ in range(10):
            own.execute("SELECT 1")
            time.sleep(0.07)  # somewhere else in its turn
        assert time.monotonic() - began > 2 * 0.25
        undo()
        began = time.monotonic()
        own.execute("SELECT 1")
        assert time.monotonic() - began < 0.25


@pytest.mark.postgresql
def test_a_read_only_server_ends_its_sessions_and_refuses_writes(url: str) -> None:
    write = "UPDATE counts SET value = value"
    with session(url) as own:
        undo = database_faults.make_read_only(url)
        with pytest.raises(psycopg.OperationalError):
            own.execute("SELECT 1")
    wait_until(lambda: not takes(url, write), description="it refuses writes")
    assert takes(url, "SELECT count(*) FROM counts")
    undo()
    assert takes(url, write)


@pytest.mark.postgresql
@pytest.mark.parametrize("table", LOCKED_TABLES)
def test_a_locked_table_lets_even_readers_wait(url: str, table: str) -> None:
    read = f"TABLE {table}"
    undo = database_faults.lock_table(url, table)
    assert not takes(url, read)
    undo()
    assert takes(url, read)


@pytest.mark.postgresql
def test_a_locked_row_lets_its_writers_wait(url: str) -> None:
    with session(url) as own:
        own.execute("INSERT INTO workers (id, queue, size, seen_until) VALUES ('w', 'io', 8, 0)")
    write = "UPDATE workers SET size = 9 WHERE id = 'w'"
    for which in LOCKED_ROWS:
        undo = database_faults.lock_row(url, which)
        assert takes(url, write) is (which != "a worker"), which
        undo()
        assert takes(url, write)


def test_a_locked_file_lets_writers_wait(sqlite_url: str) -> None:
    file = make_url(sqlite_url).database
    assert file
    undo = database_faults.lock_file(sqlite_url)
    with sqlite3.connect(file, timeout=0.2) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("UPDATE counts SET value = value")
    undo()
    with sqlite3.connect(file, timeout=0.2) as other:
        other.execute("UPDATE counts SET value = value")


WRITES_NOW_AND_THEN = """
import sqlite3, sys, time
own = sqlite3.connect(sys.argv[1], isolation_level=None)
print("up", flush=True)
while True:
    own.execute("BEGIN IMMEDIATE")
    time.sleep(0.1)
    own.execute("COMMIT")
    time.sleep(0.1)
"""


def test_a_process_is_frozen_with_sqlites_lock_in_its_hands(sqlite_url: str, tmp_path: Path) -> None:
    file = make_url(sqlite_url).database
    assert file
    with ChildProcess([sys.executable, "-c", WRITES_NOW_AND_THEN, file], log=tmp_path / "log") as writer:
        writer.wait_for_log("up")
        undo = database_faults.freeze_amid_write(writer, sqlite_url)
        with sqlite3.connect(file, timeout=1) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("UPDATE counts SET value = value")
        undo()
        with sqlite3.connect(file, timeout=5) as other:
            other.execute("UPDATE counts SET value = value")


IDLES_NOW_AND_THEN = """
import psycopg, sys, time
own = psycopg.connect(sys.argv[1], autocommit=True)
print("up", flush=True)
while True:
    own.execute("BEGIN")
    own.execute("UPDATE counts SET value = value")
    time.sleep(0.1)
    own.execute("COMMIT")
    time.sleep(0.1)
"""


@pytest.mark.postgresql
def test_a_process_is_frozen_in_a_transaction_of_postgresql(url: str, tmp_path: Path) -> None:
    plain = url.replace("+psycopg", "")
    with ChildProcess([sys.executable, "-c", IDLES_NOW_AND_THEN, plain], log=tmp_path / "log") as writer:
        writer.wait_for_log("up")
        undo = database_faults.freeze_amid_write(writer, url)
        with session(url) as own:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            assert own.execute(idle).fetchone() == (1,)
            time.sleep(0.3)
            assert own.execute(idle).fetchone() == (1,)
        undo()


@pytest.mark.postgresql
def test_a_slow_wire_hands_on_everything_late(url: str) -> None:
    parts = make_url(url)
    with Proxy(parts.port or 0) as wire, session(str(parts.set(port=wire.port))) as own:
        wire.slow(0.2)
        began = time.monotonic()
        own.execute("SELECT 1")
        assert time.monotonic() - began > 2 * 0.2
        wire.forward()
        began = time.monotonic()
        own.execute("SELECT 1")
        assert time.monotonic() - began < 0.2
