"""What the figures of /metrics stand on: counts that many processes add to, final jobs, schedulers that live."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tasks.scheduler.final_count import FinalJobCounter, SchedulerHeartbeat
from tests.support.jobs import open_lane, submit
from tests.support.scrape import write_counts
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.maintenance.fact_store import _COUNTED, _OLDEST_DUE
from tidegate.metrics.families import CALLS
from tidegate.states import State
from tidegate.stores import Store


def test_counts_of_many_at_once_are_exact_and_nobody_waits_for_ever(database_url: str) -> None:
    """Each writes the same rows, counted in another order: all of them lock rows in one."""
    stores = [Store(Database(database_url, pool_size=1)) for _ in range(4)]
    lanes = [f"lane-{number}" for number in range(40)]

    def write(number: int) -> None:
        for _ in range(10):
            for lane in lanes[:: -1 if number % 2 else 1]:
                stores[number].counts.add(CALLS, lane)
            write_counts(stores[number])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert stores[0].counted.all() == {(CALLS.name, (lane,)): 40 for lane in lanes}
    for store in stores:
        store.database.close()


@pytest.mark.postgresql
def test_no_part_of_a_scrape_walks_through_the_jobs(postgresql_url: str, sqlite_url: str) -> None:
    """Each has an index with no more entries than there is to find; forbidden to walk, the database takes it."""
    for url in (postgresql_url, sqlite_url):
        database = Database(url, pool_size=1)
        with database.transaction() as connection:
            if not database.is_sqlite:
                connection.execute(text("SET enable_seqscan = off"))
            for statement in (_COUNTED, _OLDEST_DUE):
                sql = statement.compile(database.engine, compile_kwargs={"literal_binds": True})
                explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
                plan = "\n".join(str(row) for row in connection.execute(text(f"{explain} {sql}")))
                for table in ("jobs", "deliveries", "attempts"):
                    walks = f"SCAN {table}" if database.is_sqlite else f"Seq Scan on {table}"
                    lines = [line for line in plan.splitlines() if walks in line and "USING" not in line]
                    assert not lines, plan
        database.close()


def test_nothing_counted_is_nothing_asked(store: Store) -> None:
    with asked(store.database) as cost:
        assert write_counts(store) == 0
    assert cost.counts == (0, 0)


def test_a_scheduler_says_that_it_lives_and_when_it_stops_but_not_at_each_turn(store: Store) -> None:
    schedulers = [SchedulerHeartbeat(store.facts) for _ in range(2)]
    with asked(store.database) as cost:
        for _ in range(10):
            schedulers[0].beat()
    assert len(cost.statements) == 1
    schedulers[1].beat()
    assert store.facts.read().stewards == 2

    schedulers[1].end()

    assert store.facts.read().stewards == 1
    assert FinalJobCounter(store.facts).run_once() >= 60, "final jobs are counted once a minute at most"


def test_final_jobs_are_counted_as_they_are_kept(store: Store) -> None:
    open_lane(store)
    for _ in range(2):
        assert store.callers.cancel(submit(store), None)
    store.facts.count_final()
    assert store.facts.read().final[State.CANCELLED] == 2
    with store.database.transaction() as connection:
        connection.execute(jobs.delete())

    store.facts.count_final()

    assert store.facts.read().final == dict.fromkeys(("succeeded", "failed", "expired", "cancelled"), 0)
