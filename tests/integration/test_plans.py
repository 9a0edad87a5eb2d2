"""PostgreSQL keeps a plan for each statement that it is asked often. A plan that was made for few rows, or for rows
that were all final, must still be good when a burst has come and nobody has analyzed the tables since.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.support.jobs import change_lane, open_lane, release, submit, submit_many
from tests.support.operations import echo
from tests.support.running import runner_of
from tidegate.database import Database
from tidegate.operations import Body
from tidegate.runner import Runner
from tidegate.store import Store
from tidegate.sweep import sweep

pytestmark = pytest.mark.usefixtures("each_way")

_UNTIL_PLANS_ARE_KEPT = 15
_BURST = 5_000
# Submit, due lanes, claim, success, poll.
_HOT = 5
# A lane's row, what is out, its jobs, the release; or a look at all of it, and the release.
_HOT_OF_WAY = {"locked": 4, "few": 2}
_PLANNED_ANEW = 5
# A lane's look at 8 jobs, and some index entries of rows that were moved.
_FEW = 1_000
_READ = """
SELECT (SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables)
+ (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes)
"""


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    """Over one connection, so that its plans are those that were kept."""
    database = Database(postgresql_url, pool_size=1)
    yield Store(database)
    database.close()


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_step_of_a_job_reads_a_burst(store: Store, *, analyzed: bool) -> None:
    """Neither of tables that were never analyzed, nor where the statistics say that no job is open."""
    open_lane(store)
    runner = runner_of(store, echo)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        _run_one(store, runner)
        sweep(store.upkeep, retention=timedelta(days=1))
    if analyzed:
        with store.database.single_write() as connection:
            connection.execute(text("ANALYZE"))
    submit_many(store, _BURST, operation=echo.name)
    before = _rows_read(store)

    _run_one(store, runner)
    sweep(store.upkeep, retention=timedelta(days=1))

    assert _rows_read(store) - before < _FEW


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_step_of_a_job_reads_what_waits_in_a_lane_that_rests(store: Store, *, analyzed: bool) -> None:
    """Its jobs are waiting ones, too, and of no concern to the others."""
    open_lane(store)
    open_lane(store, "resting")
    change_lane(store, "resting", paused=True)
    runner = runner_of(store, echo)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        _run_one(store, runner)
    if analyzed:
        with store.database.single_write() as connection:
            connection.execute(text("ANALYZE"))
    submit_many(store, _BURST, lane="resting", operation=echo.name)
    before = _rows_read(store)

    _run_one(store, runner)

    assert _rows_read(store) - before < _FEW


def test_hot_statements_are_not_planned_at_each_call(store: Store, each_way: str) -> None:
    """PostgreSQL plans a statement anew for its first five calls; then the plan that serves every call must look as
    good to it."""
    open_lane(store)
    runner = runner_of(store, echo)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        _run_one(store, runner)

    with store.database.reading() as connection:
        kept = connection.execute(
            text("SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements")
        ).all()

    assert any("still_waiting" in each.statement for each in kept) == (each_way == "few")
    assert len([each for each in kept if each.generic_plans]) >= _HOT + _HOT_OF_WAY[each_way]
    assert not [each for each in kept if each.custom_plans > _PLANNED_ANEW]


def _run_one(store: Store, runner: Runner) -> None:
    job_id = submit(store, operation=echo.name, body=Body(content=b"1", content_type="application/json"))
    for released in release(store):
        assert runner.run(released.job_id, released.fence)
    store.callers.get(job_id, None)


def _rows_read(store: Store) -> int:
    """By this connection since the server's start: rows by whole tables, and entries of indexes."""
    with store.database.reading() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.execute(text("SELECT 1"))
        return int(connection.execute(text(_READ)).scalar_one())
