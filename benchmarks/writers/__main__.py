"""How long processes wait for SQLite's write lock, by its busy handler and by ours. `python -m benchmarks.writers`."""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

from sqlalchemy import text

from tidegate.database.connection import Database

PROCESSES = 5
SECONDS = 4.0
ROUNDS = 5
_HOLD_SECONDS = 0.002
_PAUSE_SECONDS = 0.01
Write = Callable[[], None]


def own_way(path: str) -> Write:
    """Through SQLite's busy handler."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")

    def write() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO written VALUES (1)")
        time.sleep(_HOLD_SECONDS)
        connection.execute("COMMIT")

    return write


def our_way(path: str) -> Write:
    """Through `Database.transaction`."""
    database = Database(f"sqlite:///{path}")

    def write() -> None:
        with database.transaction() as connection:
            connection.execute(text("INSERT INTO written VALUES (1)"))
            time.sleep(_HOLD_SECONDS)

    return write


def waits(way: Callable[[str], Write], path: str) -> list[float]:
    """Seconds of each write of one process."""
    write = way(path)
    ends, seconds = time.monotonic() + SECONDS, []
    while time.monotonic() < ends:
        began = time.monotonic()
        write()
        seconds.append(time.monotonic() - began)
        time.sleep(_PAUSE_SECONDS)
    return seconds


def main() -> None:
    """Interleaved rounds of both; the medians of their figures."""
    figures: dict[str, list[tuple[float, float, int]]] = {"own_way": [], "our_way": []}
    for _ in range(ROUNDS):
        for way in (own_way, our_way):
            with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(PROCESSES) as pool:
                path = str(Path(folder) / "writers.db")
                with Database(f"sqlite:///{path}").transaction() as connection:
                    connection.execute(text("CREATE TABLE written (number INTEGER)"))
                each = sorted(chain.from_iterable(pool.map(waits, [way] * PROCESSES, [path] * PROCESSES)))
            figures[way.__name__].append((each[int(0.99 * len(each))], each[-1], len(each)))
    for name, title in (("own_way", "SQLite's busy handler"), ("our_way", "tries of even distance")):
        p99, longest, writes = (statistics.median(column) for column in zip(*figures[name], strict=True))
        print(f"{title}: p99 {1e3 * p99:.0f} ms, longest {1e3 * longest:.0f} ms, {writes:.0f} writes")


if __name__ == "__main__":
    main()
