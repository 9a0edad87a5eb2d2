"""The embedded default with a range of workers: it starts and retires them under load, and nobody notices."""

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import orjson
import psutil

from tests.support.gateway import Gateway
from tests.support.waiting import wait_until

ORDER = {"sku": "A-100", "quantity": 3}
THREADS = 4


class Watcher:
    """Reads the pid files of the io workers again and again: how many there were, and which named nobody."""

    def __init__(self, gateway: Gateway) -> None:
        self._folder = gateway.data / "run"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.numbers: list[int] = []
        self.wrong: list[str] = []
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopped.set()
        self._thread.join()

    def names(self) -> list[str]:
        """Of the io workers that have a pid file now."""
        return sorted(path.stem for path in self._folder.glob("io-*.pid"))

    def _look(self) -> None:
        while not self._stopped.wait(0.05):
            pids = {}
            for path in self._folder.glob("io-*.pid"):
                with suppress(FileNotFoundError):  # it retired just now
                    pids[path] = int(path.read_text())
            self.numbers.append(len(pids))
            # Who has just ended is a zombie until the supervisor's next turn.
            self.wrong += [f"{path.name}: {pid}" for path, pid in pids.items() if not psutil.pid_exists(pid)]


class Callers:
    """Submits quotes and calls that are longer than the grace, steadily, until `stop`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._submit, args=("quote", ORDER, 0.07), daemon=True),
            threading.Thread(target=self._submit, args=("sleepy_io", {"seconds": 2.5}, 0.6), daemon=True),
        ]
        self.urls: list[str] = []
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Submits no more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _submit(self, operation: str, params: object, apart: float) -> None:
        with httpx2.Client(base_url=self._gateway.url, timeout=10, trust_env=False) as client:
            while not self._stopped.wait(apart):
                answer = client.post(f"/v1/operations/{operation}/jobs", json=params)
                assert answer.status_code == 202, answer.text
                self.urls.append(answer.headers["Location"])


def places(gateway: Gateway) -> int:
    """Of the io workers, as /health/ready says."""
    answer = gateway.client.get("/health/ready")
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["workers"].get("io", 0)
    return number


def assert_nobody_noticed(gateway: Gateway, urls: list[str]) -> None:
    """Every job succeeded by its one attempt, nothing was lost or handed back, and no call was refused or doubled."""
    for url in urls:
        final = gateway.wait_final(url, timeout_seconds=60)
        assert (final.status_code, final.json()["attempt"]) == (200, 1), final.text
    with closing(sqlite3.connect(gateway.data / "tidegate.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs WHERE losses > 0").fetchone() == (0,)
        claimed = "SELECT job_id, count(*) FROM attempts WHERE claimed_at IS NOT NULL GROUP BY job_id"
        assert [row for row in database.execute(claimed) if row[1] > 1] == [], "begun more than once"
    stats = httpx2.get(f"{gateway.sample_url}/stats", trust_env=False).json()
    assert (stats["refused_rate"], stats["refused_concurrency"]) == (0, 0)
    log = gateway.data / "sample-arrivals.jsonl"
    calls = Counter(orjson.loads(line)["job"] for line in log.read_bytes().splitlines()) if log.exists() else Counter()
    assert set(calls.values()) <= {1}


def test_workers_come_and_go_under_load_and_nobody_notices(tmp_path: Path) -> None:
    """Calls of 2.5 s, a grace of 1 s: a worker that retires ends them all the same."""
    gateway = Gateway(
        tmp_path,
        settings={"IO_WORKERS": "1-3", "IO_CONCURRENCY": str(THREADS), "GRACE_SECONDS": "1"},
        module="tests.support.told_wanted",
    )
    try:
        gateway.start()
        watcher, callers = Watcher(gateway), Callers(gateway)
        for number in (3, 1, 2, 1, 3, 2, 1):
            (gateway.data / "wanted").write_text(str(number))
            wait_until(
                lambda number=number: places(gateway) == number * THREADS,  # type: ignore[misc] # as it is now
                description=f"{number} have places",
                timeout_seconds=30,
            )
        callers.stop()
        wait_until(lambda: watcher.names() == ["io-1"], description="the others have retired", timeout_seconds=30)
        watcher.stop()

        assert not watcher.wrong
        assert max(watcher.numbers) >= 3
        assert len(callers.urls) > 50
        assert_nobody_noticed(gateway, callers.urls)
        assert "is killed" not in gateway.logs()
    finally:
        gateway.stop()


def test_a_step_of_jobs_starts_workers_and_they_retire_when_nothing_has_asked_for_them(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, settings={"IO_WORKERS": "1-3", "IO_CONCURRENCY": str(THREADS)})
    try:
        gateway.start()
        watcher = Watcher(gateway)
        assert watcher.names() == ["io-1"]

        urls = [gateway.submit("sleepy_io", json={"seconds": 4}).headers["Location"] for _ in range(6 * THREADS)]
        began = time.monotonic()
        wait_until(lambda: places(gateway) == 3 * THREADS, description="three have places", timeout_seconds=30)
        print(f"three have places after {time.monotonic() - began:.1f} s")  # noqa: T201 - shown by pytest -rP
        assert_nobody_noticed(gateway, urls)

        wait_until(lambda: watcher.names() == ["io-1"], description="two have retired", timeout_seconds=120)
        watcher.stop()
        assert places(gateway) == THREADS
        assert not watcher.wrong
    finally:
        gateway.stop()
