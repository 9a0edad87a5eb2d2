"""Several schedulers make the lanes of one file."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import delete, insert, select

from tidegate.database.connection import Database
from tidegate.database.schema import downstreams
from tidegate.operations.operation import Limits
from tidegate.stores import Store

DECLARED = Limits(name="lane", rates=("5/s",), concurrency=2)
_BLOCKED_SECONDS = 0.3


class _UndecidedError(Exception):
    """Ends a transaction without a commit."""


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
def test_a_scheduler_that_declares_while_another_does_waits_for_it_and_agrees(
    store: Store, database_url: str, commits: bool
) -> None:
    """The other has written the row and not yet committed."""
    store.limits.declare([DECLARED])
    with store.database.transaction() as connection:
        row = connection.execute(select(downstreams)).one()._asdict()
        connection.execute(delete(downstreams))
    second = Store(Database(database_url))
    with ThreadPoolExecutor(1) as thread:
        with suppress(_UndecidedError), store.database.transaction() as connection:
            connection.execute(insert(downstreams).values(**row))
            declaring = thread.submit(second.limits.declare, [DECLARED])
            with pytest.raises(TimeoutError):
                declaring.result(_BLOCKED_SECONDS)
            if not commits:
                raise _UndecidedError
        declaring.result(30)
    (lane,) = store.limits.downstreams()
    assert (lane.limits, lane.declared) == (DECLARED, DECLARED)
    second.database.close()
