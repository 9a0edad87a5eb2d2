"""The Python client against the stack of `make run`: its README, every way a job can end, and a gateway that dies."""

import doctest
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import psutil
import pytest

from tests.support import clients
from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY
from tests.support.waiting import wait_until
from tidegate_client import (
    Client,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotDone,
    Refused,
    Snapshot,
    SomeRefused,
    State,
)


@pytest.fixture(params=clients.KINDS)
def client(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.opened(request.param, gateway.url) as opened:
        yield opened


def test_every_example_of_its_readme_does_what_it_says(gateway: Gateway) -> None:
    text = (REPOSITORY / "client" / "README.md").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8000", gateway.url)
    examples = doctest.DocTestParser().get_doctest(text, {}, "client/README.md", "client/README.md", 0)
    assert len(examples.examples) > 20
    told: list[str] = []
    result = doctest.DocTestRunner().run(examples, out=told.append, clear_globs=False)
    examples.globs["client"].close()
    assert result.failed == 0, "".join(told)


def test_three_hundred_quotes_in_one_call_come_back_in_their_order(client: Client) -> None:
    jobs = client.submit_many("echo", range(300))
    assert len({job.id for job in jobs}) == 300
    assert [job.result(timeout=60) for job in jobs] == list(range(300))


def test_the_callback_sees_the_place_in_the_queue_and_then_the_percent(client: Client) -> None:
    client.change_downstream("sleepy_io", concurrency=1, paused=True)
    try:
        first = client.submit("sleepy_io", {"seconds": 1})
        second = client.submit("sleepy_io", {"seconds": 1})
        seen: list[Snapshot] = []
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.result, timeout=60, progress=seen.append)
            wait_until(
                lambda: any(each.waiting and each.waiting.reason == "paused" for each in seen), description="told"
            )
            client.change_downstream("sleepy_io", paused=False)
            assert waiting.result() == 1
    finally:
        client.change_downstream("sleepy_io", concurrency=None, paused=False)
    assert first.result(timeout=30) == 1
    percents = [each.percent for each in seen]
    assert percents == sorted(percents)
    assert (seen[-1].state, percents[-1]) == (State.SUCCEEDED, 100)
    assert all(one != other for one, other in pairwise(seen)), "nothing is told twice"


def test_bytes_go_and_come_as_they_are(client: Client) -> None:
    content = bytes(range(256)) * 40
    job = client.submit("raw_echo", content, content_type="image/x-nothing")
    assert job.result(timeout=30) == content
    raw = job.raw_result()
    assert (raw.content, raw.content_type) == (content, "image/x-nothing")
    not_json = client.submit("raw_echo", b"{not json", content_type="application/json")
    assert not_json.result(timeout=30) == b"{not json"
    assert [job.result(timeout=30) for job in client.submit_many("raw_echo", [b"a", b"b"])] == [b"a", b"b"]


@dataclass
class Line:
    """A part of an order, as a user has it."""

    sku: str
    price: Decimal
    on: date
    id: UUID


def test_a_dataclass_comes_to_the_downstream_digit_by_digit(client: Client) -> None:
    line = Line("A-100", Decimal("318.2800000000000000001"), date(2026, 12, 1), UUID(int=7))
    told = b'{"sku": "A-100", "price": %s, "on": "2026-12-01", "id": "00000000-0000-0000-0000-000000000007"}'
    assert client.submit("raw_echo", line).raw_result(timeout=30).content == told % b"318.2800000000000000001"
    several = client.submit_many("raw_echo", [line, replace(line, price=Decimal("1.50"))])
    assert [job.raw_result(timeout=30).content for job in several] == [
        told % b"318.2800000000000000001",
        told % b"1.50",
    ]
    (held,) = client.submit_many("echo", [replace(line, price=Decimal("19.90"))])
    assert held.result(timeout=30)["price"] == 19.9


@pytest.mark.parametrize("value", [None, 0, "", [], {"ä": "\u2028"}, 2**70])
def test_json_results_are_what_they_were(client: Client, value: object) -> None:
    assert client.submit("echo", value).result(timeout=30) == value


def test_each_end_without_a_result_has_its_error(client: Client) -> None:
    with pytest.raises(JobFailed, match="refused by the operation 'permanent'") as failed:
        client.submit("permanent", 1).result(timeout=30)
    assert failed.value.error
    assert failed.value.error.code == "operation_error"

    with pytest.raises(JobExpired) as expired:
        client.submit("sleepy_io", {"seconds": 30}, timeout=1).result(timeout=30)
    assert expired.value.error
    assert expired.value.error.code == "deadline_exceeded"

    running = client.submit("sleepy_io", {"seconds": 60})
    wait_until(lambda: running.refresh().state is State.RUNNING, description="it runs")
    running.cancel()
    with pytest.raises(JobCancelled):
        running.result(timeout=30)
    with pytest.raises(Refused) as refused:
        client.submit("quote", {}, timeout=10_000)
    assert (refused.value.status, refused.value.kind) == (400, "invalid-header")


def test_a_wait_that_is_over_leaves_the_job_alone(client: Client) -> None:
    job = client.submit("sleepy_io", {"seconds": 3})
    with pytest.raises(NotDone) as not_done:
        job.result(timeout=0.2)
    assert not_done.value.job.state in {State.QUEUED, State.RUNNING}
    assert job.result(timeout=30) == 1


def test_of_many_the_faulty_are_named_and_the_others_run(client: Client) -> None:
    inputs = [{"seconds": 0}, {"seconds": "soon"}, {"seconds": 0.1}]
    with pytest.raises(SomeRefused) as some:
        client.submit_many("sleepy_io", inputs)
    assert set(some.value.jobs) == {0, 2}
    assert [fault.pointer for fault in some.value.refusals[1].faults] == ["/seconds"]
    assert some.value.jobs[2].result(timeout=30) == 1
    with pytest.raises(Refused):
        client.submit_many("sleepy_io", inputs, all_or_none=True)


def test_jobs_are_listed_over_pages(client: Client) -> None:
    jobs = client.submit_many("echo", range(130))
    listed = [job.id for job, _ in zip(client.jobs(operation="echo"), range(130), strict=False)]
    assert listed == [job.id for job in reversed(jobs)]
    with pytest.raises(Refused, match="state"):
        next(client.jobs(state="lost"))


def test_a_job_that_is_not_to_start_yet_waits(client: Client) -> None:
    not_before = datetime.now(UTC) + timedelta(seconds=2)
    job = client.submit("echo", 1, not_before=not_before)
    end = job.wait(timeout=30)
    assert end.started_at
    assert end.started_at >= not_before - timedelta(milliseconds=50)


def test_submits_and_waits_outlive_a_killed_web_server(gateway: Gateway, client: Client) -> None:
    """Nobody who waits notices; what is submitted meanwhile is recorded once."""
    waited = [client.submit("sleepy_io", {"seconds": 2}) for _ in range(3)]
    before = {job.id for job in client.jobs(operation="echo")}
    submitted: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            submitted.append(client.submit("echo", len(submitted)).id)

    def kill_web() -> None:
        old, so_far = gateway.pid("web"), len(submitted)
        psutil.Process(old).kill()
        wait_until(lambda: gateway.pid("web") != old, description="web is started again", timeout_seconds=30)
        wait_until(lambda: len(submitted) > so_far + 2, description="submits go on", timeout_seconds=30)

    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(job.result, timeout=60) for job in waited]
        busy = pool.submit(submit)
        try:
            wait_until(lambda: submitted, description="submits have begun")
            kill_web()
            kill_web()
        finally:
            stop.set()
        busy.result()
        assert [result.result() for result in results] == [1, 1, 1]

    recorded = {job.id for job in client.jobs(operation="echo")} - before
    assert recorded == set(submitted), "a submit whose answer was lost made no second job"
    assert client.job(submitted[-1]).result(timeout=60) == len(submitted) - 1
