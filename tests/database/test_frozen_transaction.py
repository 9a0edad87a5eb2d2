"""A process that is frozen or cut off in a transaction: what it has locked must not stand still for long.

On SQLite nothing can be done about it but to wait: its one write lock is the frozen process's, and the door says 503.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from tests.support.jobs import LANE, open_lane, release, submit
from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.schema import downstreams
from tidegate.database.statement import required
from tidegate.stores import Store


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
def frozen(database_url: str) -> Iterator[Database]:
    """The frozen process's connections."""
    opened = Database(database_url)
    yield opened
    opened.close()


def test_a_lane_goes_on_although_the_scheduler_that_holds_it_is_frozen(store: Store, frozen: Database) -> None:
    open_lane(store)
    submit(store)
    with pytest.raises(UNREACHABLE), frozen.transaction() as connection:  # noqa: PT012 - the commit raises too  # noqa: PT012 - it raises where it ends
        connection.execute(update(downstreams).where(downstreams.c.name == LANE).values(burst=7))
        assert release(store) == []
        wait_until(lambda: release(store), description="the lane goes on", timeout_seconds=20)
        # It wakes up and goes on as if nothing had been.
        connection.execute(update(downstreams).where(downstreams.c.name == LANE).values(burst=8))
    assert required(frozen.fetch_one(downstreams.select())).burst == 1


def test_a_commit_that_comes_too_late_counts_as_a_lost_connection(store: Store, frozen: Database) -> None:
    """So that a worker offers its outcome again, and does not believe that it can't be stored."""
    open_lane(store)
    submit(store)
    with pytest.raises(UNREACHABLE), frozen.transaction() as connection:  # noqa: PT012 - the commit raises too  # noqa: PT012 - it raises where it ends
        connection.execute(update(downstreams).where(downstreams.c.name == LANE).values(burst=7))
        wait_until(lambda: release(store), description="the lane goes on", timeout_seconds=20)
    with frozen.transaction() as connection:
        connection.execute(update(downstreams).where(downstreams.c.name == LANE).values(burst=3))
