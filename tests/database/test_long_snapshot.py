"""Beside a transaction that stays open, a backup's or a forgotten one: it is told, and what it leaves behind goes."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tests.support.jobs import LANE, open_lane, submit
from tidegate.database.connection import Database
from tidegate.database.statement import required
from tidegate.stores import Store

_WRITTEN = 2_000
_FEW_PAGES = 20
_READ = "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relname = 'downstreams'"


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    """Over one connection, so that its statistics are those of what was asked."""
    with closing(Database(postgresql_url, pool_size=1)) as database:
        yield Store(database)


def session(url: str, *, role: str | None = None, database: str | None = None) -> psycopg.Connection:
    """Of somebody else; a role and a database of their own, if wanted."""
    theirs = make_url(url).set(drivername="postgresql", username=role, database=database)
    return psycopg.connect(theirs.render_as_string(hide_password=False))


def age(store: Store) -> int:
    """What the metrics say about the oldest snapshot, after a hundred transactions more."""
    for _ in range(100):
        store.limits.declare([])
        store.database.execute(text("SELECT txid_current()"))
    return store.facts.read().oldest_snapshot


def test_a_snapshot_that_is_open_for_long_is_told_whoever_has_it(store: Store, postgresql_url: str) -> None:
    assert age(store) < 100
    with closing(session(postgresql_url)) as admin, admin:
        admin.execute("DROP ROLE IF EXISTS backups")
        admin.execute("CREATE ROLE backups LOGIN")
        admin.execute("GRANT pg_read_all_data TO backups")
    with closing(session(postgresql_url, role="backups")) as backup:
        backup.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        backup.execute("SELECT 1 FROM clients")
        assert age(store) >= 100
        assert age(store) >= 200
    assert age(store) < 200


def test_a_transaction_that_wrote_and_was_forgotten_is_told(store: Store, postgresql_url: str) -> None:
    """It reads nothing now, so it has no snapshot between its statements; what it has not committed holds as well."""
    with closing(session(postgresql_url)) as forgotten:
        forgotten.execute("CREATE TABLE something ()")
        assert age(store) >= 100


def test_a_transaction_of_another_database_holds_nothing_here(store: Store, postgresql_url: str) -> None:
    with closing(session(postgresql_url, database="postgres")) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM pg_class")
        age(store)
        assert age(store) < 200


def test_the_pages_that_it_made_a_table_of_few_rows_grow_by_are_not_read_afterwards(
    store: Store, postgresql_url: str
) -> None:
    """The row's last version lies on the last page, so no vacuum makes the table shorter; what reads all rows goes by
    the index then."""
    open_lane(store, rates=("10/s",))
    submit(store)
    with closing(session(postgresql_url)) as backup, closing(session(postgresql_url)) as writer:
        backup.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        backup.execute("SELECT 1 FROM clients")
        writer.autocommit = True
        for _ in range(_WRITTEN):
            writer.execute("UPDATE downstreams SET released = released + 1")
        backup.rollback()
        writer.execute("VACUUM (ANALYZE) downstreams")
        ((pages,),) = writer.execute("SELECT relpages FROM pg_class WHERE relname = 'downstreams'")
        assert pages > 2 * _FEW_PAGES

    of_web = partial(store.lane_rows.read, {LANE: None}, since=None)
    all_of_web = partial(store.lane_rows.read_all, since=None)
    for look in (store.lanes.due, store.facts.read, store.samples.sample, of_web, all_of_web):
        before = _pages_read(store)
        look()
        assert _pages_read(store) - before <= _FEW_PAGES, look


def _pages_read(store: Store) -> int:
    store.database.execute(text("SELECT pg_stat_force_next_flush()"))
    store.database.execute(text("SELECT 1"))
    return int(required(store.database.fetch_one(text(_READ)))[0])
