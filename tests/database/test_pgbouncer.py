"""PostgreSQL behind a pooler that gives each transaction another server session."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support import pgbouncer
from tests.support.jobs import LANE, claim, submit
from tidegate.database.connection import Database
from tidegate.database.engines import NOT_BY_INDEX
from tidegate.dispatch.gate import Gate
from tidegate.operations.operation import Limits
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

_PROCESSES = 4
_JOBS = 100

# Once it holds, with the settings that docs/operating.md names for it, this fails and the mark goes.
pytestmark = pytest.mark.xfail(
    strict=True,
    reason="options of a connection are refused or lost, prepared statements are another session's",
)


@pytest.fixture(params=["", "ignore_startup_parameters = options"], ids=["its defaults", "options ignored"])
def pooled_url(request: pytest.FixtureRequest, postgresql_url: str, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh database through PgBouncer."""
    with pgbouncer.before(postgresql_url, tmp_path / "pgbouncer.log", request.param) as url:
        yield url


@pytest.fixture
def stores(pooled_url: str) -> Iterator[list[Store]]:
    """As several processes have them."""
    databases = [Database(pooled_url, pool_size=2) for _ in range(_PROCESSES)]
    yield [Store(database) for database in databases]
    for database in databases:
        database.close()


def test_jobs_run_and_no_option_of_a_session_is_lost(stores: list[Store]) -> None:
    """The same lane by several processes, whose transactions meet in four sessions of the server."""
    stores[0].limits.declare([Limits(name=LANE)])
    stores[0].heartbeats.beat("worker-1", queue="io", size=50, until=timedelta(minutes=5))

    def one(number: int) -> str:
        store = stores[number % _PROCESSES]
        job_id = submit(store)
        for released in Gate(store.lanes).run_once().released:
            mine = claim(store, released)
            if mine:
                result = Succeeded(content=b"1", content_type="application/json", is_json=True)
                assert store.workers.succeed(mine, result, call_seconds=0.0)
        return job_id

    with ThreadPoolExecutor(2 * _PROCESSES) as pool:
        ids = list(pool.map(one, range(_JOBS)))
    for store in stores:
        while released := Gate(store.lanes).run_once().released:
            for each in released:
                assert claim(store, each)
        with store.database.transaction() as connection:
            for setting in NOT_BY_INDEX:
                assert connection.execute(text(f"SHOW {setting}")).scalar_one() == "off"
            pause = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
            assert pause == "5s"
    jobs = [stores[0].callers.get(job_id, None) for job_id in ids]
    assert {job and job.state for job in jobs} <= {State.SUCCEEDED, State.RUNNING}
