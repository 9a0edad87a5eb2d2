"""Threads that meet at SQLite's lock share a transaction; each gets its own answer, and only its own failure."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select

from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import clients
from tidegate.database.time import database_now

WRITERS = 10


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url, busy_timeout=timedelta(seconds=0.2))
    yield opened
    opened.close()


def add(name: str) -> Callable[[Connection], str]:
    """A write that adds a client and returns its name."""

    def write(connection: Connection) -> str:
        connection.execute(insert(clients).values(id=name, name=name, created_at=database_now()))
        return name

    return write


def names(database: Database) -> set[str]:
    with database.transaction() as connection:
        return set(connection.execute(select(clients.c.id)).scalars()) - {"local"}


@contextmanager
def commits_counted(database: Database) -> Iterator[list[None]]:
    seen: list[None] = []

    def committed(_: Connection) -> None:
        seen.append(None)

    event.listen(database.engine, "commit", committed)
    yield seen
    event.remove(database.engine, "commit", committed)


def meet(database: Database, writes: list[Callable[[Connection], Any]]) -> list[Future[Any]]:
    """All of these come while somebody else has the lock, and so meet."""
    group: Any = database._group
    with ThreadPoolExecutor(len(writes)) as pool, database.transaction():
        answers = [pool.submit(database.batched, write) for write in writes]
        wait_until(lambda: len(group._waiting) == len(writes), description="all of them wait")
    return answers


def test_writers_that_meet_share_a_commit_and_each_gets_its_answer(database: Database) -> None:
    wanted = [f"client-{number}" for number in range(WRITERS)]
    with commits_counted(database) as commits:
        answers = meet(database, [add(name) for name in wanted])
    assert [answer.result() for answer in answers] == wanted
    assert names(database) == set(wanted)
    assert len(commits) == 2, "of him who had the lock, and of all of them"


def test_one_that_fails_fails_alone_and_leaves_nothing(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add("half")(connection)
        raise LookupError("on purpose")

    first, failed, taken_twice, last = meet(database, [add("first"), fail, add("first"), add("last")])
    assert (first.result(), last.result()) == ("first", "last")
    with pytest.raises(LookupError, match="on purpose"):
        failed.result()
    with pytest.raises(Exception, match="UNIQUE"):
        taken_twice.result()
    assert names(database) == {"first", "last"}


def test_without_the_lock_nobody_gets_anything_and_all_are_told(database: Database, sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(database.batched, add(f"client-{number}")) for number in range(3)]
        for answer in answers:
            with pytest.raises(UNREACHABLE):
                answer.result(10)
    other.execute("ROLLBACK")
    other.close()
    assert names(database) == set()
    assert database.batched(add("later")) == "later"


def test_a_leader_that_is_interrupted_leaves_the_others_their_turn(database: Database) -> None:
    """A SystemExit is nobody's answer; who shared the transaction tries again."""
    started = threading.Event()

    def exit_once(connection: Connection) -> str:
        if not started.is_set():
            started.set()
            raise SystemExit
        return add("again")(connection)

    answers = meet(database, [exit_once, add("other")])
    assert "other" in names(database)
    assert sum(answer.exception() is None for answer in answers) == 1
