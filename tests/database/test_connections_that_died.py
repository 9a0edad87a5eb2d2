"""Connections that ended while they lay in the pool: nobody who takes one is told of it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url, text

from tests.support import run
from tests.support.jobs import LANE, submit
from tests.support.postgresql import LOOPBACK, Server
from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.operations.limits import Limits
from tidegate.stores import Store

MANY = 8
PATIENCE = timedelta(seconds=5)
_OURS = "FROM pg_stat_activity WHERE application_name = 'tidegate' AND datname = current_database()"


class Others:
    """What others do to the sessions of a database."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def run(self, statement: str) -> list[tuple[object, ...]]:
        url = self._url
        with psycopg.connect(
            host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True,
            options="-c idle_session_timeout=0",
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def sessions(self) -> int:
        """How many we have."""
        return len(self.run(f"SELECT pid {_OURS}"))

    def end_sessions(self) -> None:
        """All of ours, as an operator, a pooler or a firewall does."""
        self.run(f"SELECT pg_terminate_backend(pid) {_OURS}")
        wait_until(lambda: self.sessions() == 0, description="they have ended")


@pytest.fixture
def others(postgresql_url: str) -> Others:
    """Somebody else at the database."""
    return Others(postgresql_url)


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    """As a web server has it: with a breaker, which one failed statement would set off."""
    opened = Database(postgresql_url, pool_size=MANY, patience=PATIENCE)
    yield opened
    opened.close()


def fill(database: Database) -> None:
    """Has as many connections in the pool as stay there."""
    with ExitStack() as opened:
        for _ in range(MANY):
            opened.enter_context(database.transaction()).execute(text("SELECT 1"))


def burst(store: Store) -> None:
    """As many at once, in each way to run a statement; raises what one of them was told."""
    together = threading.Barrier(MANY)

    def one(number: int) -> None:
        together.wait(timeout=10)
        if number % 4 == 0:
            submit(store)
        elif number % 4 == 1:
            store.database.batched(lambda connection: connection.execute(text("SELECT 1")))
        elif number % 4 == 2:
            store.database.fetch_all(text("SELECT 1"), limit=timedelta(seconds=5))
        else:
            store.lanes.due()
            store.database.check_writable()

    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(one, range(MANY)))


def test_no_session_of_ours_ends_because_it_is_idle(database: Database, others: Others, postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    others.run(f'ALTER DATABASE "{url.database}" SET idle_session_timeout = 200')
    fill(database)

    # Somebody who has the time limit, and whose time begins later: ours would be over.
    with psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as idle:
        with pytest.raises(psycopg.OperationalError):
            list(idle.notifies())
        assert idle.closed

    assert others.sessions() == MANY
    with database.transaction() as connection:
        assert connection.execute(text("SHOW idle_session_timeout")).scalar_one() == "0"


def test_a_burst_after_every_pooled_connection_was_ended_is_served(database: Database, others: Others) -> None:
    store = Store(database)
    store.limits.declare([Limits(name=LANE)])
    for _ in range(3):
        fill(database)
        others.end_sessions()
        burst(store)


def test_a_burst_after_the_server_was_restarted_is_served() -> None:
    server = Server(run.folder(), settings={**LOOPBACK, "fsync": "off", "full_page_writes": "off"})
    server.start()
    database = Database(server.make_database(), pool_size=MANY, patience=PATIENCE)
    store = Store(database)
    store.limits.declare([Limits(name=LANE)])
    try:
        fill(database)
        server.stop()
        server.start()
        burst(store)
        fill(database)
        server.kill()
        server.start()
        burst(store)
    finally:
        database.close()
        server.stop()


def test_a_connection_that_ends_in_the_middle_of_a_transaction_is_told(database: Database, others: Others) -> None:
    """What was done before is lost with it: that is not for us to repeat."""
    with pytest.raises(UNREACHABLE):
        interrupted(database, others)


def interrupted(database: Database, others: Others) -> None:
    with database.transaction() as connection:
        connection.execute(text("SELECT 1"))
        others.end_sessions()
        connection.execute(text("SELECT 1"))
