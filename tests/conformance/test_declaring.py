"""Several schedulers make the lanes of one file."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, select

from tests.support.jobs import (
    LANE,
    change_lane,
    claim,
    downstreams_of,
    know_call_seconds,
    open_lane,
    release_one,
    row_of,
    submit,
)
from tidegate.clock import to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams
from tidegate.operations.limits import Limits
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
    (lane,) = downstreams_of(store)
    assert (lane.limits, lane.declared) == (DECLARED, DECLARED)
    second.database.close()


def names(store: Store) -> set[str]:
    """The lanes that there are."""
    return {lane.name for lane in downstreams_of(store)}


def called(store: Store, name: str, ago: timedelta) -> None:
    """The lane's last call had its slot so long ago."""
    at = to_microseconds(store.callers.now() - ago)
    pace = f'{{"free_at": {at}, "ends": [{at}], "calls": [1], "steps": [0]}}'
    change_lane(store, name=name, pace=pace)


def test_a_lane_that_is_declared_no_more_goes_when_it_is_empty(store: Store) -> None:
    open_lane(store, "kept")
    open_lane(store, "gone", rates=("5/s",))
    know_call_seconds(store, 1.0, "gone")
    assert store.limits.forget_undeclared({"kept"}) == ["gone"]
    assert names(store) == {"kept"}
    assert not store.limits.forget_undeclared({"kept"})
    assert {sample.downstream for sample in store.samples.latest()} == {"kept"}


def test_a_lane_with_a_job_or_an_open_call_stays(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    assert not store.limits.forget_undeclared([])
    released = release_one(store)
    called(store, LANE, timedelta(days=40))
    assert not store.limits.forget_undeclared([]), "released"
    claimed = claim(store, released)
    assert claimed
    assert not store.limits.forget_undeclared([]), "running"
    assert store.workers.fail(claimed, {}, call_seconds=None)
    assert store.limits.forget_undeclared([]) == [LANE]
    assert row_of(store, job_id).downstream == LANE, "its jobs are kept as long as others"


@pytest.mark.parametrize(
    ("rates", "changes", "window"),
    [
        (("10000/d", "5/s"), {}, timedelta(days=1)),
        (("100/15m",), {}, timedelta(hours=1)),
        ((), {}, timedelta(hours=1)),
        (("5/s",), {"rates": ["10/7d"]}, timedelta(days=7)),
        (("10/7d",), {"rates": ["5/s"]}, timedelta(days=7)),
    ],
)
def test_a_lane_stays_until_its_last_call_counts_for_none_of_its_windows(
    store: Store, rates: tuple[str, ...], changes: dict[str, list[str]], window: timedelta
) -> None:
    open_lane(store, rates=rates)
    store.limits.change(LANE, changes, paused=None)
    called(store, LANE, window - timedelta(seconds=2))
    assert not store.limits.forget_undeclared([])
    called(store, LANE, window + timedelta(seconds=2))
    assert store.limits.forget_undeclared([]) == [LANE]
