"""The stack of `make run` as a user meets it: quotes at the sample's pace, a big CSV, and every process killed once."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx2
import orjson
import psutil
import pytest

from tests.support.gateway import Gateway
from tests.support.http_server import serving
from tests.support.waiting import wait_until
from tests.support.webhooks import verified

ORDER = {"sku": "A-100", "quantity": 3}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One stack for this module, with a short lease so that rescues are seen soon."""
    stack = Gateway(
        tmp_path_factory.mktemp("gateway"), settings={"LEASE_SECONDS": "3", "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def accepted(gateway: Gateway, operation: str, params: Any, **headers: str) -> str:
    """Submits a job that is taken and returns its URL."""
    answer = gateway.submit(operation, json=params, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def wait_for_progress(gateway: Gateway, url: str) -> dict[str, Any]:
    """Waits until the job is under way and returns its document."""

    def document() -> dict[str, Any] | None:
        found: dict[str, Any] = gateway.client.get(url).json()
        assert found["state"] in ("queued", "running"), found
        return found if found["progress"]["percent"] else None

    return wait_until(document, description="the job is under way")


def test_a_quote_from_submit_to_result(gateway: Gateway) -> None:
    answer = gateway.submit("quote", json=ORDER)
    assert answer.status_code == 202
    assert answer.headers["Location"].startswith(f"{gateway.url}/v1/jobs/")
    assert int(answer.headers["Retry-After"]) >= 1

    final = gateway.wait_final(answer.headers["Location"])

    assert final.status_code == 200
    document = final.json()
    assert (document["state"], document["attempt"], document["progress"]["percent"]) == ("succeeded", 1, 100)
    quote = document["result"]
    assert (quote["sku"], quote["quantity"], quote["currency"]) == ("A-100", 3, "EUR")
    assert quote["total"] == pytest.approx(3 * quote["unit_price"])
    raw = gateway.client.get(document["links"]["result"])
    assert (raw.status_code, raw.json(), raw.headers["Content-Type"]) == (200, quote, "application/json")


def test_what_the_sample_refuses_is_a_502_with_its_words(gateway: Gateway) -> None:
    final = gateway.wait_final(accepted(gateway, "quote", {"sku": ""}))
    assert (final.status_code, final.headers["Content-Type"]) == (502, "application/problem+json")
    error = final.json()["error"]
    assert (error["code"], error["downstream_status"]) == ("downstream_error", 422)
    assert "sku is not a text" in error["downstream_body"]


def test_60_quotes_at_once_all_succeed_and_the_sample_refuses_none(gateway: Gateway) -> None:
    before = httpx2.get(f"{gateway.sample_url}/stats", trust_env=False).json()
    with ThreadPoolExecutor(20) as callers:
        urls = list(callers.map(lambda number: accepted(gateway, "quote", {**ORDER, "quantity": number}), range(1, 61)))
        began = time.monotonic()
        finals = [gateway.wait_final(url) for url in urls]
        took = time.monotonic() - began

    assert {final.status_code for final in finals} == {200}
    assert [final.json()["result"]["quantity"] for final in finals] == list(range(1, 61))
    after = httpx2.get(f"{gateway.sample_url}/stats", trust_env=False).json()
    assert (after["refused_rate"], after["refused_concurrency"]) == (
        before["refused_rate"],
        before["refused_concurrency"],
    )
    assert after["accepted"] - before["accepted"] == 60
    assert after["max_open"] <= 4
    calls = [orjson.loads(line) for line in (gateway.data / "sample-arrivals.jsonl").read_bytes().splitlines()]
    per_job = Counter(call["job"] for call in calls)
    assert all(per_job[url.rpartition("/")[2]] == 1 for url in urls)
    # 60 at 20/s: 59 gaps of 50 ms, less what went out before the last submit was answered.
    assert took < 15


class Memory:
    """The highest resident memory of each process under these roots, looked at each 20 ms."""

    def __init__(self, *roots: int) -> None:
        self._roots = [psutil.Process(root) for root in roots]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.first: dict[int, int] = {}
        self.peak: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._once()
        self.first = dict(self.peak)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """Of the process that grew most, in megabytes."""
        return max(peak - self.first.get(pid, peak) for pid, peak in self.peak.items()) / MEGABYTE

    def _look(self) -> None:
        while not self._stopped.wait(0.02):
            self._once()

    def _once(self) -> None:
        for root in self._roots:
            for process in (root, *root.children(recursive=True)):
                try:
                    resident = process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                self.peak[process.pid] = max(self.peak.get(process.pid, 0), resident)


def csv_of(megabytes: float) -> tuple[bytes, int]:
    """A CSV of about this size, just below it, and how many rows it has."""
    row = "{0},{1}.50,customer number {0} of a long list with a long name,2026-01-{2:02d},yes\n"
    header = "id,price,name,day,active\n"
    size = len(row.format(100_000, 7, 3).encode())
    rows = int((megabytes * MEGABYTE - len(header)) / size)
    return (header + "".join(row.format(100_000 + n, n % 10, n % 28 + 1) for n in range(rows))).encode(), rows


def test_a_csv_of_20_mb_is_profiled_in_little_memory_and_its_progress_is_seen(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    content, rows = csv_of(19.9)
    assert 19 * MEGABYTE < len(content) <= 20 * MEGABYTE
    headers = {"Content-Type": "text/csv"}
    # Both children have profiled something before they are measured.
    small, _ = csv_of(0.2)
    for answer in [gateway.submit("csv_profile", content=small, headers=headers) for _ in range(4)]:
        assert gateway.wait_final(answer.headers["Location"]).status_code == 200

    began = time.monotonic()
    with Memory(gateway.pid("cpu-1")) as worker, Memory(gateway.pid("web")) as web:
        answer = gateway.submit("csv_profile", content=content, headers=headers)
        assert answer.status_code == 202, answer.text
        accepted_after = time.monotonic() - began
        percents: list[int] = []

        def is_final() -> bool:
            document = gateway.client.get(answer.headers["Location"])
            percents.append(document.json()["progress"]["percent"])
            return document.status_code != 202

        wait_until(is_final, description="the profile is done", timeout_seconds=90)
    took = time.monotonic() - began

    final = gateway.client.get(answer.headers["Location"]).json()
    assert final["state"] == "succeeded", final
    profile = final["result"]
    assert (profile["rows"], profile["short_rows"], profile["long_rows"]) == (rows, 0, 0)
    columns = {column["name"]: column for column in profile["columns"]}
    assert [column["type"] for column in profile["columns"]] == ["integer", "number", "text", "date", "boolean"]
    assert (columns["id"]["min"], columns["id"]["max"]) == (100_000, 100_000 + rows - 1)
    assert columns["id"]["mean"] == pytest.approx(100_000 + (rows - 1) / 2)
    assert columns["price"]["mean"] == pytest.approx(sum(n % 10 + 0.5 for n in range(rows)) / rows)
    assert (columns["day"]["min"], columns["day"]["max"]) == ("2026-01-01", "2026-01-28")
    assert all((column["count"], column["missing"]) == (rows, 0) for column in profile["columns"])

    assert percents == sorted(percents)
    assert len({percent for percent in percents if 0 < percent < 100}) >= 3
    figures = {
        "accepted after": f"{accepted_after:.2f} s",
        "profiled after": f"{took:.1f} s",
        "worker grew by": f"{worker.growth:.0f} MB",
        "web grew by": f"{web.growth:.0f} MB",
    }
    for name, figure in figures.items():
        record_property(name, figure)
    print(figures)  # noqa: T201 - shown by pytest -rP
    assert worker.growth < 80
    assert web.growth < 100


def test_a_webhook_comes_signed(gateway: Gateway) -> None:
    secret = gateway.client.post("/v1/webhook-secrets").json()["secret"]
    with serving() as receiver:
        url = accepted(gateway, "echo", {"a": 1}, **{"Webhook-Url": f"{receiver.url}/end"})
        wait_until(lambda: receiver.received, description="the webhook came", timeout_seconds=30)
        payload = verified(receiver.received[0], secret)
    assert (payload["type"], payload["data"]["result"]) == ("job.succeeded", {"a": 1})
    assert payload["data"]["links"]["self"] == url


def test_a_job_whose_worker_is_killed_succeeds_as_attempt_2(gateway: Gateway) -> None:
    url = accepted(gateway, "sleepy_io", {"seconds": 2})
    assert wait_for_progress(gateway, url)["attempt"] == 1
    psutil.Process(gateway.pid("io-1")).kill()
    final = gateway.wait_final(url)
    assert (final.status_code, final.json()["attempt"], final.json()["result"]) == (200, 2, 2)


@pytest.mark.parametrize("name", ["web", "scheduler", "io-1", "cpu-1", "webhooks-1", "broker"])
def test_a_killed_process_is_started_again_and_the_gateway_goes_on(gateway: Gateway, name: str) -> None:
    waiting = [accepted(gateway, "quote", ORDER) for _ in range(10)]
    running = [accepted(gateway, operation, {"seconds": 1.5}) for operation in ("sleepy_io", "sleepy_cpu")]
    old = psutil.Process(gateway.pid(name))
    children = old.children(recursive=True)

    old.kill()

    wait_until(
        lambda: gateway.pid(name) != old.pid and psutil.pid_exists(gateway.pid(name)),
        description=f"{name} runs again",
    )
    wait_until(lambda: not any(child.is_running() for child in children), description="its children are gone")
    for url in (*waiting, *running):
        final = gateway.wait_final(url)
        assert final.status_code == 200, final.text
    for operation in ("echo", "quote", "sleepy_cpu"):
        params = {"echo": 1, "quote": ORDER, "sleepy_cpu": {"seconds": 0}}[operation]

        def answer(operation: str = operation, params: object = params) -> httpx2.Response | None:
            try:
                return gateway.submit(operation, json=params)
            except httpx2.TransportError:
                return None

        submitted = wait_until(lambda: [found] if (found := answer()) is not None else [], description="it answers")[0]
        assert gateway.wait_final(submitted.headers["Location"]).status_code == 200


def test_ctrl_c_ends_it_within_10_s_and_the_next_start_goes_on_where_it_stopped(
    tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    first = Gateway(folder)
    first.start()
    done_url = accepted(first, "echo", {"kept": True})
    done = first.wait_final(done_url).json()
    # A thread that nothing can end, and whose job is over before the second start.
    accepted(first, "ignores_stop_io", {"seconds": 60}, **{"Job-Timeout": "5"})
    long = [accepted(first, operation, {"seconds": 6}) for operation in ("sleepy_io", "sleepy_cpu")]
    for url in long:
        wait_for_progress(first, url)
    waiting = [accepted(first, "quote", ORDER) for _ in range(80)]

    stack = first._stack()
    began = time.monotonic()
    assert first.process.stop(timeout_seconds=10, signal_number=signal.SIGINT) == 0
    took = time.monotonic() - began
    first.client.close()
    record_property("Ctrl-C took", f"{took:.1f} s")
    print(f"Ctrl-C took {took:.1f} s")  # noqa: T201 - shown by pytest -rP
    _, left = psutil.wait_procs(stack, timeout=1)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]

    second = Gateway(folder)
    try:
        second.start()

        def final(url: str) -> dict[str, Any]:
            answer = second.wait_final(url.removeprefix(first.url), timeout_seconds=60)
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

        assert {final(url)["attempt"] for url in waiting} == {1}
        # Handed back at the end of the grace: as if that attempt had never been.
        assert {final(url)["attempt"] for url in long} == {1}
        again = final(done_url)
        assert (again["result"], again["finished_at"]) == (done["result"], done["finished_at"])
        calls = [orjson.loads(line) for line in (folder / "data" / "sample-arrivals.jsonl").read_bytes().splitlines()]
        assert {call["status"] for call in calls} == {200}
    finally:
        second.stop()


def test_after_a_killed_supervisor_the_next_start_clears_up_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    first = Gateway(folder, settings={"LEASE_SECONDS": "2"})
    first.start()
    url = accepted(first, "sleepy_io", {"seconds": 3})
    wait_for_progress(first, url)
    orphans = first._stack()
    first.process.kill()
    first.client.close()

    second = Gateway(folder, settings={"LEASE_SECONDS": "2"})
    try:
        second.start()
        assert not any(orphan.is_running() and orphan.status() != "zombie" for orphan in orphans)
        assert second.wait_final(url.removeprefix(first.url)).json()["result"] in (1, 2)
    finally:
        second.stop()
