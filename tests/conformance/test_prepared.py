"""Prepared statements go past SQLAlchemy to the driver: they answer, fail and recover as any other statement does."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from tests.support import postgresql
from tests.support.jobs import open_lane, row_of, submit
from tests.support.present import present
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import downstreams, jobs
from tidegate.database.statement import Prepared, required
from tidegate.stores import Store

JOB = Prepared(
    select(jobs.c.id, jobs.c.created_at, jobs.c.has_webhook, jobs.c.note).where(
        jobs.c.id == bindparam("the_job", type_=jobs.c.id.type), jobs.c.state == "queued"
    ),
    dict,
)


def test_a_row_is_read_as_sqlalchemy_reads_it(store: Store) -> None:
    job_id = submit(store)
    answer: Any = store.database.fetch_one(JOB, {"the_job": job_id})
    row = row_of(store, job_id)
    assert answer == {"id": row.id, "created_at": row.created_at, "has_webhook": False, "note": None}
    assert answer["created_at"].tzinfo is UTC
    assert isinstance(answer["created_at"], datetime)


def test_no_row_is_none(store: Store) -> None:
    assert store.database.fetch_one(JOB, {"the_job": "01a214f1-a38d-72aa-b298-641c9ffd8ce6"}) is None


def test_what_is_asked_by_itself_leaves_no_transaction_behind(store: Store) -> None:
    """The connection that it goes back with is the next one's."""
    job_id = submit(store)
    for _ in range(3):
        assert store.database.fetch_one(JOB, {"the_job": job_id})
    with store.database.transaction() as connection:
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(note="changed"))
    answer: Any = store.database.fetch_one(JOB, {"the_job": job_id})
    assert answer["note"] == "changed"


def test_a_transaction_is_one_still(store: Store) -> None:
    """Connections begin none by themselves; `transaction` does."""
    open_lane(store)
    with pytest.raises(RuntimeError), store.database.transaction() as connection:  # noqa: PT012 - it raises where it ends
        connection.execute(downstreams.update().values(burst=7))
        raise RuntimeError
    assert required(store.database.fetch_one(select(downstreams.c.burst)))[0] == 1


def test_a_wrong_statement_fails_like_any_other(store: Store) -> None:
    with store.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO jobs_gone")
    with pytest.raises((OperationalError, ProgrammingError)) as raised:
        store.database.execute(JOB, {"the_job": "01a214f1-a38d-72aa-b298-641c9ffd8ce6"})
    assert "jobs" in str(raised.value)
    assert "01a214f1" not in str(raised.value), "parameters are nobody's business"


def test_connections_that_died_in_the_pool_are_told_to_nobody(postgresql_url: str) -> None:
    """Hot statements go past SQLAlchemy's own; what they take from the pool is looked at all the same."""
    if postgresql.find_binaries() is None:
        pytest.skip(postgresql.NOT_FOUND)
    database = Database(postgresql_url, pool_size=4)
    store = Store(database)
    job_id = submit(store)
    held = [database.engine.raw_connection() for _ in range(4)]
    for pooled in held:
        pooled.close()
    other = Database(postgresql_url)
    with other.transaction() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    other.close()
    for _ in range(5):
        assert database.fetch_one(JOB, {"the_job": job_id})
    database.close()


SET_BURST = Prepared(downstreams.update().values(burst=bindparam("its_burst", type_=downstreams.c.burst.type)), bool)
BURST = Prepared(select(downstreams.c.burst), lambda row: int(row["burst"]))


def test_a_transaction_of_prepared_statements_happens_or_does_not(store: Store) -> None:
    open_lane(store)
    database = store.database
    with database.transaction() as within:
        database.execute(SET_BURST, {"its_burst": 5}, within=within)
        assert database.fetch_one(BURST, within=within) == 5
        if not database.is_sqlite:
            assert database.fetch_one(BURST) == 1, "nobody else sees it yet"
    assert database.fetch_one(BURST) == 5

    with pytest.raises(RuntimeError), database.transaction() as within:  # noqa: PT012 - it raises where it ends
        database.execute(SET_BURST, {"its_burst": 7}, within=within)
        raise RuntimeError
    assert database.fetch_one(BURST) == 5
    with database.transaction() as within:
        database.execute(SET_BURST, {"its_burst": 9}, within=within)
    assert database.fetch_one(BURST) == 9, "the connection that it went back with is the next one's"


@pytest.mark.parametrize("dies", ["in it", "before its end"])
def test_a_transaction_whose_connection_dies_is_one_failure(postgresql_url: str, *, dies: str) -> None:
    """It counts as a database that can't be reached, and the next one has a new connection."""
    database, other = Database(postgresql_url, pool_size=1), Database(postgresql_url)
    store = Store(database)
    open_lane(store)

    with pytest.raises(UNREACHABLE), database.transaction() as within:  # noqa: PT012 - it raises where it ends, too
        database.execute(SET_BURST, {"its_burst": 7}, within=within)
        with other.transaction() as connection:
            pid = present(within.connection.driver_connection).info.backend_pid
            connection.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
        if dies == "in it":
            database.execute(SET_BURST, {"its_burst": 8}, within=within)

    assert database.fetch_one(BURST) == 1
    with database.transaction() as within:
        database.execute(SET_BURST, {"its_burst": 9}, within=within)
    assert other.fetch_one(BURST) == 9
    database.close()
    other.close()


def test_a_transaction_that_stands_still_counts_as_a_lost_connection(postgresql_url: str) -> None:
    database = Database(postgresql_url, pool_size=1)
    store = Store(database)
    open_lane(store)

    with pytest.raises(UNREACHABLE), database.transaction() as within:  # noqa: PT012 - it raises where it ends
        within.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 100")
        time.sleep(1)
        database.execute(SET_BURST, {"its_burst": 7}, within=within)

    assert database.fetch_one(BURST) == 1
    database.close()
