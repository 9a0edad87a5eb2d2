"""PostgreSQL keeps a plan for each statement that it is asked often. A plan that was made for few rows, or for rows
that were all final, must still be good when a burst has come and nobody has analyzed the tables since.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.conformance.test_partitions import shared
from tests.conformance.test_partitions import submit as of_partition
from tests.support.jobs import (
    LANE,
    WORKER,
    change_job,
    change_lane,
    claim,
    open_lane,
    release,
    release_one,
    submit,
    submit_many,
)
from tests.support.operations import echo
from tests.support.running import runner_of
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.execution.runner import Runner
from tidegate.maintenance.sweep import sweep
from tidegate.operations.operation import Body
from tidegate.stores import Store

_UNTIL_PLANS_ARE_KEPT = 15
_BURST = 5_000
# Submit, due lanes, claim, success, poll.
# And a lane as it is read, and its release.
_HOT = 7
_PLANNED_ANEW = 5
_OUT = 600
_CROWD = 200
# Each look reads what is out at most twice for each table and index on its way.
_FOR_EACH = 8
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
        store.database.execute(text("ANALYZE"))
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
        store.database.execute(text("ANALYZE"))
    submit_many(store, _BURST, lane="resting", operation=echo.name)
    before = _rows_read(store)

    _run_one(store, runner)

    assert _rows_read(store) - before < _FEW


@pytest.mark.long
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_job_that_is_polled_is_found_without_a_look_at_the_backlog_before_it(store: Store, *, analyzed: bool) -> None:
    open_lane(store, concurrency=1)
    submit(store)
    claimed = claim(store, release_one(store))
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        assert claimed is not None
        assert store.workers.poll_later(claimed, "http://d/", after=timedelta(0), call_seconds=0.1)
        claimed = claim(store, release_one(store))
    assert claimed is not None
    assert store.workers.poll_later(claimed, "http://d/", after=timedelta(0), call_seconds=0.1)
    if analyzed:
        store.database.execute(text("ANALYZE"))
    submit_many(store, _BURST)
    change_job(store, claimed.job_id, run_at=database_now())
    before = _rows_read(store)

    assert release_one(store).job_id == claimed.job_id

    assert _rows_read(store) - before < _FEW


@pytest.mark.parametrize("analyzed", [False, True])
def test_what_is_out_is_counted_in_one_pass(store: Store, *, analyzed: bool) -> None:
    """Whatever the statistics say: neither where nothing was out when they were made, nor where they were never made.
    Half of it are calls, and the others follow one each."""
    open_lane(store, size=1, concurrency=_OUT // 2, call_seconds=0.1)
    runner = runner_of(store, echo)
    _look_at_what_is_out(store)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        _run_one(store, runner)
        _look_at_what_is_out(store)
    if analyzed:
        store.database.execute(text("ANALYZE"))
    held = store.lanes.held().get(LANE, 0)
    _let_out(store, _OUT)
    assert store.lanes.held()[LANE] == held + _OUT // 2
    before = _rows_read(store)

    _look_at_what_is_out(store)

    assert _rows_read(store) - before < 4 * _FOR_EACH * _OUT


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_partitions_in_which_jobs_wait_are_found_by_an_index_step_each(store: Store, *, analyzed: bool) -> None:
    sharing = shared(store)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        assert _partitions_that_wait(store) == (0, 0, 0)
    if analyzed:
        store.database.execute(text("ANALYZE"))
    for number in range(_CROWD):
        of_partition(store, sharing, f"p{number}", 10)
    before = _rows_read(store)

    assert _partitions_that_wait(store) == (_CROWD, 5, _CROWD)

    assert _rows_read(store) - before < 8 * _CROWD


def _partitions_that_wait(store: Store) -> tuple[int, int, int]:
    """As the gate, the sweep and admission ask for them."""
    partitions = store.lanes.partitions
    number = store.partition_counts.number_of(LANE, IMPLICIT_CLIENT, most=2 * _CROWD)
    return len(partitions.active(LANE)), len(partitions.some_active(LANE, 5)), number


def _look_at_what_is_out(store: Store) -> None:
    """The four that ask for it: the gate, who may be followed, the page, the sampler."""
    submit(store)
    release(store)
    store.lanes.unfollowed_calls(LANE, 5)
    store.lanes.held()
    store.samples.sample()


def _let_out(store: Store, number: int) -> None:
    """So many attempts are out, claimed by a worker that lives; every other one follows the one before it."""
    with store.database.transaction() as connection:
        connection.execute(
            text(
                """
                INSERT INTO attempts (job_id, fence, downstream, queue, released_at, slot_at, claimed_at, worker,
                                      ends_at, place_until, follows_job, follows_fence)
                SELECT CAST(lpad(to_hex(i), 32, '0') AS uuid), 1, :lane, 'io', i, i, i, :worker, :never, :never,
                       CASE i % 2 WHEN 1 THEN CAST(lpad(to_hex(i - 1), 32, '0') AS uuid) END,
                       CASE i % 2 WHEN 1 THEN 1 END
                FROM generate_series(0, :number - 1) AS numbers(i)
                """
            ),
            {"lane": LANE, "worker": WORKER, "never": 9 * 10**15, "number": number},
        )


def test_hot_statements_are_not_planned_at_each_call(store: Store) -> None:
    """PostgreSQL plans a statement anew for its first five calls; then the plan that serves every call must look as
    good to it."""
    open_lane(store)
    runner = runner_of(store, echo)
    for _ in range(_UNTIL_PLANS_ARE_KEPT):
        _run_one(store, runner)

    kept = store.database.fetch_all(text("SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements"))

    assert len([each for each in kept if each.generic_plans]) >= _HOT
    assert not [each for each in kept if each.custom_plans > _PLANNED_ANEW]


def _run_one(store: Store, runner: Runner) -> None:
    job_id = submit(store, operation=echo.name, body=Body(content=b"1", content_type="application/json"))
    for released in release(store):
        assert runner.run(released.job_id, released.fence)
    store.callers.get(job_id, None)


def _rows_read(store: Store) -> int:
    """By this connection since the server's start: rows by whole tables, and entries of indexes."""
    store.database.execute(text("SELECT pg_stat_force_next_flush()"))
    store.database.execute(text("SELECT 1"))
    return int(required(store.database.fetch_one(text(_READ)))[0])
