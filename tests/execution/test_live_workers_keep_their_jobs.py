"""The database stood still, was away, was locked, or its clock was set: whoever lives keeps what it works on, however
late its lease could be renewed. Whoever is dead loses it, one lease later at the most.
"""

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import psutil
import psycopg
import pytest
from sqlalchemy import func, make_url, select

from tasks.health_file import HealthFile
from tasks.scheduler.process import Scheduler
from tasks.scheduler.process import run as run_turns
from tasks.scheduler.publisher import Publisher
from tasks.scheduler.work_signal import WorkSignal
from tests.support import run
from tests.support.jobs import LANE, claim, open_lane, release, submit_many
from tests.support.postgresql import LOOPBACK, Server
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import jobs
from tidegate.database.statement import required
from tidegate.execution.heartbeat import Heartbeat
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.jobs.job import Released
from tidegate.maintenance.sweep import ClockWatch
from tidegate.notify.notifier import SilentNotifier
from tidegate.stores import Store

pytestmark = pytest.mark.long  # outages of the database are waited out

LEASE = timedelta(seconds=2)
LONGER = 3.5
_JOBS = 5


class Sent:
    """Stands for the broker: takes what is published."""

    def send(self, released: Sequence[Released]) -> bool:
        return bool(released)


class Worker:
    """One that lives: its threads have jobs in hand, and its heart beats."""

    def __init__(self, url: str, name: str, released: Sequence[Released]) -> None:
        self._store = Store(Database(url, pool_size=1, patience=LEASE / 2))
        self._hands = ExitStack()
        open_attempts = OpenAttempts()
        for each in released:
            claimed = claim(self._store, each, worker=name, lease=LEASE, attempt_timeout=timedelta(seconds=1))
            assert claimed is not None
            self._hands.enter_context(open_attempts.holding(claimed.job_id, claimed.fence))
        self.heartbeat = Heartbeat(
            self._store.heartbeats,
            worker=name,
            queue="io",
            size=8,
            lease=LEASE,
            wake_all=lambda: None,
            write_counts=lambda: None,
            open_attempts=open_attempts,
        )
        self.heartbeat.start()

    def die(self) -> None:
        """As by kill -9: nothing is said any more."""
        self.heartbeat._stopped.set()
        self.heartbeat._thread.join()

    def close(self) -> None:
        self.die()
        self._store.database.close()


@contextmanager
def scheduler(url: str, folder: Path, number: int = 1) -> Iterator[None]:
    """One that turns, over a broker that takes everything."""
    store = Store(Database(url, pool_size=3, patience=timedelta(seconds=5)))
    turning = Scheduler(
        store,
        cast("Publisher", Sent()),
        SilentNotifier(),
        None,
        retention=timedelta(days=1),
        lease=LEASE,
        pulse=HealthFile(folder / f"scheduler-{number}.alive"),
        work_signal=WorkSignal(),
    )
    stopped = threading.Event()
    thread = threading.Thread(target=run_turns, args=(turning.run_once, turning.wait, stopped))
    thread.start()
    yield
    stopped.set()
    thread.join()
    store.database.close()


class Cluster:
    """Five jobs of a lane of five places, in the hands of one worker; two schedulers. `store` goes past whatever is in
    their way."""

    def __init__(self, url: str, through: str, folder: Path) -> None:
        self.url = url
        self.store = Store(Database(url))
        self._parts = ExitStack()
        open_lane(self.store, concurrency=_JOBS)
        submit_many(self.store, 2 * _JOBS)
        released = release(self.store)
        self.store.heartbeats.remove("worker-1")
        assert len(released) == _JOBS
        self.worker = Worker(through, "mine", released)
        self._parts.callback(self.worker.close)
        for number in (1, 2):
            self._parts.enter_context(scheduler(through, folder, number))
        time.sleep(LEASE.total_seconds() + 1.2)  # they believe what they see

    def assert_all_keep_their_jobs(self) -> None:
        """For longer than a lease and two looks."""
        until = time.monotonic() + LEASE.total_seconds() + 2.5
        while time.monotonic() < until:
            assert self.losses() == 0
            assert self.store.lanes.held() == {LANE: _JOBS}
            time.sleep(0.1)

    def losses(self) -> int:
        return int(required(self.store.database.fetch_one(select(func.sum(jobs.c.losses))))[0])

    def close(self) -> None:
        self._parts.close()
        self.store.database.close()
        gc.collect()


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[Proxy]:
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def cluster(postgresql_url: str, proxy: Proxy, tmp_path: Path) -> Iterator[Cluster]:
    through = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    cluster = Cluster(postgresql_url, through, tmp_path)
    yield cluster
    cluster.close()


def test_after_a_server_that_stood_still(tmp_path: Path) -> None:
    server = Server(run.folder(), settings={**LOOPBACK, "fsync": "off", "full_page_writes": "off"})
    server.start()
    url = server.make_database()
    cluster = Cluster(url, url, tmp_path)
    postmaster = psutil.Process(server.process.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]

    for process in processes:
        process.suspend()
    time.sleep(LONGER)
    for process in processes:
        process.resume()

    cluster.assert_all_keep_their_jobs()
    cluster.close()
    server.stop()


def test_after_a_server_that_was_away(cluster: Cluster, proxy: Proxy) -> None:
    proxy.refuse()
    time.sleep(LONGER)
    proxy.forward()

    cluster.assert_all_keep_their_jobs()


def test_after_a_server_that_could_be_read_and_not_written(cluster: Cluster) -> None:
    """As while an index is made: looks are answered in time, and no lease can be renewed."""
    at = make_url(cluster.url)
    with psycopg.connect(host=at.host, port=at.port, user=at.username, dbname=at.database) as holder:
        holder.execute("LOCK TABLE jobs IN SHARE MODE")
        time.sleep(LONGER)
        holder.rollback()

    cluster.assert_all_keep_their_jobs()


def test_a_dead_worker_loses_its_jobs_in_a_bounded_time(cluster: Cluster, proxy: Proxy) -> None:
    """Also when it dies while the database is away, and nobody knows since when it has been silent."""
    proxy.refuse()
    cluster.worker.die()
    time.sleep(LONGER)
    proxy.forward()
    back_at = time.monotonic()

    wait_until(lambda: cluster.losses() == _JOBS, description="all of them are rescued", timeout_seconds=20)

    assert time.monotonic() - back_at > LEASE.total_seconds() / 2


class Monotonic:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Watched:
    """A watch with a lease of ten seconds, and the two clocks that it compares."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monotonic = Monotonic()
        monkeypatch.setattr(clock, "monotonic", self._monotonic)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.watch = ClockWatch(timedelta(seconds=10))

    def look(self, after: float, *, jump: float = 0.0) -> float | None:
        """One so many seconds later; what is believed, in seconds before it."""
        self._monotonic.seconds += after
        self.now += timedelta(seconds=after + jump)
        until = self.watch.believed_until(self.now)
        return None if until is None else round((self.now - until).total_seconds(), 3)

    def looks(self, number: int) -> list[float | None]:
        """So many, once a second."""
        return [self.look(1.0) for _ in range(number)]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_what_had_run_out_at_the_look_before_is_believed(watched: Watched) -> None:
    assert watched.looks(12) == [None] * 10 + [1.0] * 2, "from one lease after the first look"


def test_a_scheduler_that_could_not_look_for_a_lease_believes_nothing_at_its_first_look(watched: Watched) -> None:
    """It started while the database was away or read-only; workers could not renew their leases either."""
    assert watched.look(30.0) is None
    assert watched.looks(11) == [None] * 9 + [1.0] * 2


def test_looks_that_follow_at_once_believe_no_more(watched: Watched) -> None:
    watched.looks(12)

    assert [watched.look(0.1) for _ in range(3)] == [1.1, 1.2, 1.3]
    assert watched.looks(2) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("after", "jump"), [(6.1, 0.0), (3600.0, 0.0), (1.0, 5.1), (1.0, 3600.0), (1.0, -5.1), (1.0, -3600.0)]
)
def test_after_a_late_look_or_a_jump_nothing_is_believed_for_a_lease(
    watched: Watched, after: float, jump: float
) -> None:
    watched.looks(12)

    assert watched.look(after, jump=jump) is None
    assert watched.looks(11) == [None] * 9 + [1.0] * 2


@pytest.mark.parametrize(("after", "jump"), [(5.9, 0.0), (1.0, 4.9), (1.0, -4.9)])
def test_what_lies_within_half_a_lease_is_nothing(watched: Watched, after: float, jump: float) -> None:
    watched.looks(12)

    assert watched.look(after, jump=jump) == pytest.approx(after + jump)


def test_after_a_rescue_that_could_not_be_made_nothing_is_believed_for_a_lease(watched: Watched) -> None:
    watched.looks(12)

    watched.watch.distrust()

    assert watched.looks(11) == [None] * 9 + [1.0] * 2
