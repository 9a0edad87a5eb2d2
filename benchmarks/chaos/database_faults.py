"""What happens to a database that does not die: it is slow, stands still, takes no writes, or somebody holds a lock.

Each function does it and returns what undoes it.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import psycopg
from sqlalchemy.engine import make_url

from tests.support.postgresql import Server
from tests.support.processes import ChildProcess
from tests.support.waiting import wait_until

Undo = Callable[[], None]

LOCKED_TABLES = ("jobs", "attempts", "downstreams", "workers")
LOCKED_ROWS = {
    "the paced lane": "SELECT name FROM downstreams WHERE name = 'paced' FOR UPDATE",
    "a waiting job": "SELECT id FROM jobs WHERE state = 'queued' AND slot_at IS NULL LIMIT 1 FOR UPDATE",
    "a released job": "SELECT id FROM jobs WHERE state = 'queued' AND slot_at IS NOT NULL LIMIT 1 FOR UPDATE",
    "a running job": "SELECT id FROM jobs WHERE state = 'running' LIMIT 1 FOR UPDATE",
    "an open attempt": "SELECT job_id FROM attempts WHERE ended_at IS NULL LIMIT 1 FOR UPDATE",
    "a worker": "SELECT id FROM workers ORDER BY seen_until DESC LIMIT 1 FOR UPDATE",
}
"""Rows that everybody needs, by what they are. Where there is none just now, nothing is locked."""

_RUNS_SECONDS, _STANDS_SECONDS = 0.05, 0.25
_TRIES_TO_FREEZE = 60
_STILL_WRITING_SECONDS = 0.03
_UNDONE_WITHIN_SECONDS = 30


def freeze(server: Server) -> Undo:
    """The server keeps its connections and says nothing."""
    server.freeze()
    return server.thaw


def throttle(server: Server) -> Undo:
    """The server runs a sixth of the time, as in a container whose share of the processor is used up."""
    is_over = threading.Event()

    def pulse() -> None:
        while not is_over.is_set():
            server.freeze()
            is_over.wait(_STANDS_SECONDS)
            server.thaw()
            is_over.wait(_RUNS_SECONDS)

    pulsing = threading.Thread(target=pulse, daemon=True)
    pulsing.start()

    def undo() -> None:
        is_over.set()
        pulsing.join()

    return undo


def make_read_only(url: str) -> Undo:
    """As after a switch-over behind one name: sessions end, and new ones reach a server that refuses every write."""

    def set_to(is_read_only: bool) -> None:
        with _session(url) as session:
            # A session that is read-only may still change its own setting.
            session.execute("SET default_transaction_read_only = off")
            if is_read_only:
                session.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            else:
                session.execute("ALTER SYSTEM RESET default_transaction_read_only")
            session.execute("SELECT pg_reload_conf()")
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def undo() -> None:
        set_to(False)
        wait_until(lambda: _takes_writes(url), description="it takes writes", timeout_seconds=_UNDONE_WITHIN_SECONDS)

    set_to(True)
    return undo


def lock_table(url: str, table: str) -> Undo:
    """As VACUUM FULL or a careless ALTER TABLE does: even reads wait."""
    return _hold(url, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")


def lock_row(url: str, which: str) -> Undo:
    """A forgotten session of an administrator holds one of LOCKED_ROWS."""
    return _hold(url, LOCKED_ROWS[which])


def lock_file(url: str) -> Undo:
    """Another process has SQLite's write lock, as a backup or a shell does."""
    holder = sqlite3.connect(_file(url), timeout=_UNDONE_WITHIN_SECONDS, check_same_thread=False, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    return holder.close


def freeze_amid_write(process: ChildProcess, url: str) -> Undo:
    """Stops the process in the middle of a transaction; somewhere, when it is never met in one."""
    for _ in range(_TRIES_TO_FREEZE):
        process.freeze()
        if _holds_transaction(process, url):
            break
        process.thaw()
        time.sleep(_STILL_WRITING_SECONDS)
    process.freeze()
    return process.thaw


def _holds_transaction(frozen: ChildProcess, url: str) -> bool:
    """Whether a transaction stays open for longer than those of processes that are not frozen."""
    is_sqlite = url.startswith("sqlite")
    until = time.monotonic() + _STILL_WRITING_SECONDS
    while time.monotonic() < until:
        if not (_file_is_locked(url) if is_sqlite else _is_amid_transaction(frozen, url)):
            return False
        time.sleep(_STILL_WRITING_SECONDS / 5)
    return True


def _file_is_locked(url: str) -> bool:
    with contextlib.closing(sqlite3.connect(_file(url), timeout=0, isolation_level=None)) as probe:
        try:
            probe.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def _is_amid_transaction(process: ChildProcess, url: str) -> bool:
    """By the client's ports; the server does not know those of a process behind a proxy."""
    leader = psutil.Process(process.pid)
    family = [leader, *leader.children(recursive=True)]
    ports = [each.laddr.port for member in family for each in member.net_connections(kind="tcp")]
    with _session(url) as session:
        found = session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND client_port = ANY(%s)",
            [ports],
        ).fetchone()
    return bool(found and found[0])


def _hold(url: str, statement: str) -> Undo:
    # Ours ends where the server does: a restart undoes it, too.
    holder = _connect(url)
    holder.execute("BEGIN")
    holder.execute(statement)
    return holder.close


@contextmanager
def _session(url: str) -> Iterator[psycopg.Connection]:
    with _connect(url) as session:
        yield session


def _connect(url: str) -> psycopg.Connection:
    parts = make_url(url)
    return psycopg.connect(
        host=parts.host, port=parts.port, user=parts.username, dbname=parts.database, autocommit=True
    )


def _takes_writes(url: str) -> bool:
    with _session(url) as session:
        found = session.execute("SHOW default_transaction_read_only").fetchone()
    return bool(found and found[0] == "off")


def _file(url: str) -> str:
    return make_url(url).database or ""
