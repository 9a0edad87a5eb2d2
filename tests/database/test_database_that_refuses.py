"""A database that answers and refuses: read-only after a switch-over, full, shutting down, in the way of another.

What is refused for now is kept by who asked for it, and told as 503; what will never be taken is a fault.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import JsonValue
from sqlalchemy import make_url, select

from tests.support.jobs import attempts_of, change_lane, lane_row, open_lane, outcomes_of, result_of, row_of
from tests.support.running import run_one
from tests.support.waiting import wait_until
from tests.support.web import Web, assert_is_problem
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import downstreams, jobs
from tidegate.errors import DatabaseUnreachableError
from tidegate.stores import Store

REFUSALS = {
    "read-only": "25006",
    "the disk is full": "53100",
    "out of memory": "53200",
    "a file can't be read": "58030",
    "not yet started": "57P03",
    "stopped by an operator": "57014",
}


class Server:
    """Another's hand at the database of the test."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def run(self, statement: str) -> list[Any]:
        with self._connect() as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _connect(self) -> psycopg.Connection:
        url = self._url
        return psycopg.connect(
            host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True,
            options="-c default_transaction_read_only=off",
        )  # fmt: skip

    @contextmanager
    def holding(self, statement: str) -> Iterator[psycopg.Connection]:
        """In a transaction that has done this."""
        with self._connect() as connection:
            connection.execute("BEGIN")
            connection.execute(statement)
            yield connection

    def refuse(self, table: str, sqlstate: str) -> None:
        """Says this to every new row of the table."""
        self.run(
            f"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END $$"
        )
        self.run(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")

    def take(self) -> None:
        """Refuses no more."""
        self.run("DROP FUNCTION refuse() CASCADE")

    def let_new_sessions_write(self, *, may: bool) -> None:
        """Those that are open stay as they are, as with a server behind the name that is the primary no more."""
        value = "off" if may else "on"
        self.run(f'ALTER DATABASE "{self._url.database}" SET default_transaction_read_only = {value}')


@pytest.fixture
def server(postgresql_url: str) -> Server:
    return Server(postgresql_url)


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    database = Database(postgresql_url)
    yield Store(database)
    database.close()


@pytest.fixture
def web(tmp_path: Path, postgresql_url: str) -> Iterator[Web]:
    web = Web(tmp_path, postgresql_url)
    yield web
    web.close()


def run_while(
    store: Store, caplog: pytest.LogCaptureFixture, away: Callable[[], object], back: Callable[[], object], said: str
) -> str:
    """A job whose call ends while the database refuses what it brought, until that was said in the log."""
    caplog.set_level(logging.WARNING)

    def give_back() -> None:
        wait_until(lambda: said in caplog.text, description="its result was refused")
        back()

    giving_back = threading.Thread(target=give_back)

    def made(params: JsonValue) -> int:
        away()
        giving_back.start()
        return 42

    job_id = run_one(store, made)
    giving_back.join()
    return job_id


@pytest.mark.parametrize("sqlstate", REFUSALS.values(), ids=REFUSALS)
def test_a_result_is_kept_until_the_database_takes_it(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture, sqlstate: str
) -> None:
    job_id = run_while(store, caplog, lambda: server.refuse("bodies", sqlstate), server.take, "trying on")

    assert (row_of(store, job_id).state, result_of(store, job_id)) == ("succeeded", b"42")
    assert outcomes_of(store, job_id) == ["succeeded"]
    assert store.lanes.held() == {}


def test_an_attempt_is_never_left_whatever_the_database_says(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A table that is not there is a fault and no outage; the attempt must end all the same, when it is there again."""
    job_id = run_while(
        store,
        caplog,
        lambda: server.run("ALTER TABLE attempts RENAME TO attempts_away"),
        lambda: server.run("ALTER TABLE attempts_away RENAME TO attempts"),
        "trying on",
    )

    assert row_of(store, job_id).state == "failed"
    assert [each.ended_at is None for each in attempts_of(store, job_id)] == [False]
    assert store.lanes.held() == {}


def test_a_result_goes_to_the_server_that_is_the_primary_now(
    postgresql_url: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """All pooled connections are of the old one: alive, and read-only for ever."""
    writer = Store(Database(postgresql_url))
    server.let_new_sessions_write(may=False)
    store = Store(Database(postgresql_url))
    store.database.execute(select(jobs))  # one is open
    server.let_new_sessions_write(may=True)
    open_lane(writer)

    with pytest.raises(UNREACHABLE) as raised:
        change_lane(store, burst=7)
    assert isinstance(raised.value, DatabaseUnreachableError)
    assert not raised.value.may_be_done
    change_lane(store, burst=8)
    assert lane_row(store).burst == 8
    store.database.close()
    writer.database.close()


@pytest.mark.parametrize(
    "write",
    [lambda store: change_lane(store, burst=7), lambda store: store.facts.beat_scheduler("it", until=timedelta(1))],
    ids=["by SQLAlchemy", "past it"],
)
def test_a_read_only_server_costs_a_new_connection_a_second_and_not_each_write(
    postgresql_url: str, server: Server, write: Callable[[Store], object]
) -> None:
    writer = Store(Database(postgresql_url))
    open_lane(writer)
    server.let_new_sessions_write(may=False)
    store = Store(Database(postgresql_url, pool_size=1))
    seen = set()
    for _ in range(20):
        with pytest.raises(UNREACHABLE):
            write(store)
        with store.database.transaction() as connection:
            seen.add(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    assert len(seen) <= 3
    store.database.close()
    writer.database.close()


@pytest.mark.parametrize("sqlstate", REFUSALS.values(), ids=REFUSALS)
def test_a_submit_is_a_503_and_nothing_is_recorded(web: Web, server: Server, sqlstate: str) -> None:
    first = web.accepted()
    server.refuse("jobs", sqlstate)
    for headers in ({}, {"Idempotency-Key": "k"}):
        document = assert_is_problem(web.submit(headers=headers), 503, "unavailable")
        assert "nothing was recorded" in document["detail"]
    answer = web.client.post("/v1/operations/echo/jobs/bulk", json=[{"input": 1}, {"input": 2}])
    assert_is_problem(answer, 503, "unavailable")
    assert web.read(first).status_code == 202, "what can be read is read"

    server.take()
    web.accepted("echo", b"1", Idempotency_Key="k")
    assert web.count() == 2


def test_a_fault_of_the_schema_is_a_500(web: Web, server: Server) -> None:
    """It does not pass by itself, and no client should try again and again."""
    server.run("ALTER TABLE bodies RENAME TO bodies_away")
    assert_is_problem(web.submit(), 500, "internal-error")


def test_a_right_that_is_missing_is_a_500(tmp_path: Path, postgresql_url: str, server: Server) -> None:
    role = make_url(postgresql_url).database
    server.run(f'CREATE ROLE "{role}" LOGIN')
    server.run(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
    web = Web(tmp_path, make_url(postgresql_url).set(username=role).render_as_string(hide_password=False))
    try:
        assert_is_problem(web.submit(), 500, "internal-error")
    finally:
        web.close()
        server.run(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_readiness_asks_whether_the_database_takes_writes(tmp_path: Path, postgresql_url: str, server: Server) -> None:
    server.let_new_sessions_write(may=False)
    web = Web(tmp_path, postgresql_url)
    document = assert_is_problem(web.client.get("/health/ready"), 503, "unavailable")
    assert document["title"] == "Nothing can be recorded just now"
    assert web.client.get("/health/live").status_code == 200

    server.let_new_sessions_write(may=True)
    assert web.client.get("/health/ready").status_code == 200, "on a new connection"
    web.accepted()
    web.close()


def test_a_file_of_sqlite_that_may_not_be_written_is_a_503(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url)
    job_id = web.accepted()
    file = make_url(sqlite_url).database
    protected = Web(tmp_path, f"sqlite:///file:{file}?mode=ro&uri=true")

    document = assert_is_problem(protected.submit(), 503, "unavailable")
    assert "nothing was recorded" in document["detail"]
    assert_is_problem(protected.client.get("/health/ready"), 503, "unavailable")
    assert protected.read(job_id).status_code == 202
    assert web.client.get("/health/ready").status_code == 200
    protected.close()
    web.close()


def test_readiness_of_sqlite_does_not_wait_for_who_writes(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url)
    with Database(sqlite_url).transaction() as connection:
        connection.execute(downstreams.update().values(burst=1))
        assert web.client.get("/health/ready").status_code == 200
    web.accepted()
    web.close()


def test_a_deadlock_is_not_the_callers_concern(store: Store, server: Server) -> None:
    """PostgreSQL chooses one of two that wait for each other and undoes it; that one is made again."""
    for name in ("first", "second"):
        open_lane(store, name)
    tries = 0

    with server.holding("UPDATE downstreams SET burst = 3 WHERE name = 'second'") as other:

        def write(connection: Any) -> None:
            nonlocal tries
            tries += 1
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '50ms'")
            connection.execute(downstreams.update().where(downstreams.c.name == "first").values(burst=5))
            if tries == 1:
                waiting.start()
                wait_until(lambda: server.run("SELECT 1 FROM pg_locks WHERE NOT granted"), description="it waits")
            connection.execute(downstreams.update().where(downstreams.c.name == "second").values(burst=5))

        def wait_for_ours() -> None:
            other.execute("SET LOCAL deadlock_timeout = '30s'")
            other.execute("UPDATE downstreams SET burst = 3 WHERE name = 'first'")
            other.execute("COMMIT")

        waiting = threading.Thread(target=wait_for_ours)
        store.database.batched(write)
        waiting.join()

    assert tries == 2
    assert (lane_row(store, "second").burst, lane_row(store, "first").burst) == (5, 5)
