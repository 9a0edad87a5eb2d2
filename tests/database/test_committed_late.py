"""What a database does although its client has given up: statements that wait in PostgreSQL for a lock, or to be
committed, when their connection is cut. Whatever comes of them, no job ends in nobody's hands and no place is lost.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from tests.support import run
from tests.support.jobs import (
    LANE,
    change_attempts,
    open_lane,
    outcomes_of,
    release,
    release_one,
    row_of,
    running,
    submit,
)
from tests.support.postgresql import LOOPBACK, Server
from tests.support.running import runner_of
from tests.support.waiting import wait_until
from tidegate.database.connection import UNREACHABLE, Database
from tidegate.database.retrying import retry_until_answered
from tidegate.database.statement import required
from tidegate.database.time import database_now
from tidegate.execution.runner import Runner
from tidegate.jobs.job import Released
from tidegate.maintenance.sweep import sweep
from tidegate.operations.outcome import Succeeded
from tidegate.operations.python_operation import operation
from tidegate.stores import Store

PATIENCE = timedelta(seconds=0.4)
_TOGETHER = 8
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event IN ('SyncRep', 'transactionid', 'tuple', 'relation')"
)


@operation(name="made", downstream=LANE, attempt_timeout="2s")
def made(params: dict[str, object]) -> int:
    """Is done at once."""
    return len(params)


def _without_time_limit(connection: psycopg.Connection, _record: object) -> None:
    connection.execute("SET statement_timeout = 0")


class Cluster:
    """A `store` that waits as long as it takes, and an `impatient` one that gives up after 0.4 s, as workers do after
    ten; the server does not stop its statements before that, as behind a pooler. `holder`: a session that holds locks.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(Database(url))
        impatient = Database(url, pool_size=20, patience=PATIENCE)
        event.listen(impatient.engine, "connect", _without_time_limit)
        self.impatient = Store(impatient)
        at = make_url(url)
        self.holder = psycopg.connect(host=at.host, port=at.port, user=at.username, dbname=at.database)
        open_lane(self.store, size=50, concurrency=_TOGETHER)

    @property
    def runner(self) -> Runner:
        return runner_of(self.impatient, made)

    def waiting(self) -> int:
        """How many statements wait in the server for a lock, or to be committed."""
        return int(required(self.store.database.fetch_one(text(_WAITING)))[0])

    def releases(self) -> Sequence[Released]:
        """Eight jobs, released."""
        for _ in range(_TOGETHER):
            submit(self.store, operation="made")
        released = release(self.store)
        assert len(released) == _TOGETHER
        return released

    def run(self, released: Sequence[Released], *, meanwhile: Callable[[], object]) -> None:
        """Their messages come, and none can be claimed."""
        with ThreadPoolExecutor(_TOGETHER) as pool:
            runs = [pool.submit(self.runner.run, each.job_id, each.fence) for each in released]
            try:
                meanwhile()
            finally:
                self.holder.rollback()
            assert not any(run.result(timeout=30) for run in runs)

    def assert_in_nobodys_hands(self, released: Sequence[Released]) -> None:
        """All of them wait, no place is taken, and they go at the next release."""
        wait_until(lambda: not self.waiting(), description="nothing waits in the server any more")
        assert {row_of(self.store, each.job_id).state for each in released} == {"queued"}
        assert self.store.lanes.held() == {}
        again = release(self.store)
        assert {each.job_id for each in again} == {each.job_id for each in released}
        assert all(self.runner.run(each.job_id, each.fence) for each in again)
        rows = [row_of(self.store, each.job_id) for each in released]
        assert {(row.state, row.attempt) for row in rows} == {("succeeded", 1)}

    def close(self) -> None:
        self.holder.close()
        self.impatient.database.close()
        self.store.database.close()
        # Those that were out when the pool was given up are closed by their end, which psycopg complains of.
        gc.collect()


@pytest.fixture
def cluster(postgresql_url: str) -> Iterator[Cluster]:
    cluster = Cluster(postgresql_url)
    yield cluster
    cluster.close()


@pytest.fixture
def replicated() -> Iterator[Cluster]:
    """On a server of its own, whose synchronous standby a test may take away."""
    server = Server(run.folder(), settings={**LOOPBACK, "fsync": "off", "full_page_writes": "off"})
    server.start()
    cluster = Cluster(server.make_database())
    yield cluster
    cluster.close()
    server.stop()


def are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    wait_until(
        lambda: caplog.text.count("not claimed") >= _TOGETHER, description="all claims are given up", timeout_seconds=20
    )


@pytest.mark.parametrize("lock", ["SELECT 1 FROM jobs FOR UPDATE", "LOCK TABLE jobs IN SHARE MODE"])
def test_claims_that_wait_for_a_lock_leave_no_job_in_nobodys_hands(
    cluster: Cluster, lock: str, caplog: pytest.LogCaptureFixture
) -> None:
    released = cluster.releases()
    cluster.holder.execute(lock)

    def unlock() -> None:
        are_given_up(caplog)
        cluster.holder.rollback()

    cluster.run(released, meanwhile=unlock)

    cluster.assert_in_nobodys_hands(released)


def test_claims_that_could_not_be_committed_leave_no_job_in_nobodys_hands(
    replicated: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """The synchronous standby is away: they are done, and wait for a commit that comes when nobody asks for it."""
    released = replicated.releases()
    admin = replicated.holder
    admin.autocommit = True
    admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
    admin.execute("SELECT pg_reload_conf()")
    wait_until(
        lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == ("away",), description="it is away"
    )

    def come_back() -> None:
        are_given_up(caplog)
        admin.execute("SET synchronous_commit = local")
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")

    replicated.run(released, meanwhile=come_back)

    replicated.assert_in_nobodys_hands(released)


def test_a_claim_is_handed_back_by_whom_it_belongs_to(cluster: Cluster) -> None:
    """Another worker had a second message of the same release, and was faster."""
    claimed = running(cluster.store, operation="made")

    assert not cluster.store.claims.disclaim(claimed.job_id, claimed.fence, worker="mine")

    assert row_of(cluster.store, claimed.job_id).state == "running"
    assert outcomes_of(cluster.store, claimed.job_id) == [None]


def test_the_server_stops_what_nobody_waits_for(cluster: Cluster) -> None:
    """So that it is not done late, and holds nothing until then."""
    claimed = running(cluster.store)
    cluster.holder.execute("SELECT 1 FROM jobs FOR UPDATE")

    with pytest.raises(UNREACHABLE):
        cluster.impatient.workers.hand_back(claimed, after=timedelta(0), outcome="stopped")
    assert cluster.waiting() == 1

    wait_until(lambda: not cluster.waiting(), description="it waits no longer, though the lock is still held")
    cluster.holder.rollback()


def test_a_result_that_is_committed_late_stands_when_it_is_offered_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = running(cluster.store, operation="made")
    result = Succeeded(content=b"1", content_type="application/json", is_json=True)
    cluster.holder.execute("SELECT 1 FROM attempts FOR UPDATE")

    def offer() -> bool:
        return cluster.impatient.workers.succeed(claimed, result, call_seconds=0.1)

    with ThreadPoolExecutor(1) as pool:
        offered = pool.submit(retry_until_answered, claimed.job_id, offer)
        try:
            wait_until(lambda: "trying on" in caplog.text, description="its first offer is given up, and still waits")
        finally:
            cluster.holder.rollback()
        assert offered.result(timeout=30)

    wait_until(lambda: not cluster.waiting(), description="nothing waits in the server any more")
    assert (row_of(cluster.store, claimed.job_id).state, row_of(cluster.store, claimed.job_id).version) == (
        "succeeded",
        3,
    )
    assert outcomes_of(cluster.store, claimed.job_id) == ["succeeded"]
    assert cluster.store.lanes.held() == {}


def test_a_release_that_is_committed_late_is_taken_back(cluster: Cluster) -> None:
    """Nobody sends its message."""
    store = cluster.store
    job_id = submit(store)
    cluster.holder.execute("LOCK TABLE attempts IN SHARE MODE")
    with pytest.raises(UNREACHABLE):
        release(cluster.impatient)
    cluster.holder.rollback()
    wait_until(lambda: not cluster.waiting(), description="nothing waits in the server any more")

    change_attempts(store, job_id, place_until=database_now(-timedelta(seconds=1)))
    sweep(store.upkeep, retention=timedelta(days=1))

    assert release_one(store).job_id == job_id
