"""The whole stack over RabbitMQ, and over what stands in for SQS: the same story as over Redis, with nothing lost."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import orjson
import pytest
from celery import Celery

from benchmarks.pacing.arrivals import most_within
from tasks.brokers.options import settings_for
from tasks.worker.retirement import RETIRE
from tests.support import rabbitmq, run
from tests.support.gateway import Gateway
from tests.support.present import present
from tests.support.rabbitmq import RabbitMQ
from tests.support.sqs import Sqs
from tests.support.waiting import wait_until

# Of which a busy machine spends most on starting RabbitMQ.
pytestmark = pytest.mark.timeout(300)

ORDER = {"sku": "A-100", "quantity": 3}
RATE = 20
Broker = RabbitMQ | Sqs


@pytest.fixture(scope="module", params=["rabbitmq", "sqs"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One server for the module. RabbitMQ skips where it is not installed; REQUIRE_RABBITMQ=1: fails."""
    if request.param == "rabbitmq" and rabbitmq.find_server() is None:
        if os.environ.get("REQUIRE_RABBITMQ") == "1":
            pytest.fail(f"REQUIRE_RABBITMQ=1, but {rabbitmq.NOT_FOUND}")
        pytest.skip(rabbitmq.NOT_FOUND)
    # In memory where there is a folder there: RabbitMQ syncs each confirmed message.
    folder = run.folder() / f"{request.param}-{os.getpid()}"
    folder.mkdir()
    server = RabbitMQ(folder) if request.param == "rabbitmq" else Sqs(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The stack of `make run` over that server, with a short lease so that rescues are seen soon."""
    settings = {"BROKER_URL": broker.url, "LEASE_SECONDS": "3", "EVENTS": "true"}
    stack = Gateway(tmp_path_factory.mktemp("gateway"), settings=settings)
    try:
        stack.start()
        wait_until(
            lambda: len(stack.client.get("/health/ready").json()["workers"]) == 3,
            description="all workers are there",
            timeout_seconds=120,
        )
        yield stack
    finally:
        stack.stop()


def accepted(gateway: Gateway, operation: str, params: Any = 1, **headers: str) -> str:
    """Submits a job that is taken and returns its URL."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = gateway.submit(operation, json=params, headers=named)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["Location"])


def wait_for_progress(gateway: Gateway, url: str) -> None:
    """Waits until the job is under way."""
    wait_until(lambda: gateway.client.get(url).json()["progress"]["percent"], description="the job is under way")


def test_a_burst_of_quotes_succeeds_and_the_sample_is_called_at_its_pace(gateway: Gateway) -> None:
    with ThreadPoolExecutor(10) as callers:
        urls = list(callers.map(lambda number: accepted(gateway, "quote", {**ORDER, "quantity": number}), range(1, 31)))
    finals = [gateway.wait_final(url) for url in urls]

    assert {final.status_code for final in finals} == {200}
    assert [final.json()["result"]["quantity"] for final in finals] == list(range(1, 31))
    stats = httpx2.get(f"{gateway.sample_url}/stats", trust_env=False).json()
    assert (stats["refused_rate"], stats["refused_concurrency"]) == (0, 0)
    calls = [orjson.loads(line) for line in (gateway.data / "sample-arrivals.jsonl").read_bytes().splitlines()]
    assert sorted(call["job"] for call in calls) == sorted(url.rpartition("/")[2] for url in urls)
    assert most_within(1.0, sorted(call["at"] for call in calls)) <= RATE


def test_both_kinds_of_worker_run_jobs_and_a_held_answer_comes_without_a_poll(gateway: Gateway) -> None:
    for operation, params in (("echo", {"n": 1}), ("sleepy_cpu", {"seconds": 0})):
        answer = gateway.submit(operation, json=params, headers={"Prefer": "wait=8"})
        assert (answer.status_code, answer.headers["Tidegate-Job-State"]) == (200, "succeeded"), answer.text


def test_what_fails_is_tried_again_and_its_owner_may_retry_it(gateway: Gateway) -> None:
    final = gateway.wait_final(accepted(gateway, "raising"))
    assert (final.status_code, final.json()["attempt"]) == (502, 2)
    assert final.json()["error"]["code"] == "attempts_exhausted"

    again = gateway.client.post(final.json()["links"]["retry"])
    assert again.status_code == 202
    assert gateway.wait_final(again.headers["Location"]).json()["attempt"] == 2


def test_a_running_job_is_cancelled_and_one_that_is_late_is_a_504(gateway: Gateway) -> None:
    late = accepted(gateway, "sleepy_io", {"seconds": 60}, Job_Timeout="2")
    cancelled = accepted(gateway, "sleepy_io", {"seconds": 60})
    wait_for_progress(gateway, cancelled)
    assert gateway.client.post(f"{cancelled}/cancel").status_code == 202

    assert gateway.wait_final(cancelled).status_code == 410
    assert gateway.wait_final(late).status_code == 504


def test_what_flower_shows_is_told_over_rabbitmq_and_nothing_over_sqs(gateway: Gateway, broker: Broker) -> None:
    """Flower lives on the workers' events, where a task's id is its job's, and asks them as `celery inspect` does."""
    with Celery() as app:
        app.conf.update(settings_for(broker.url))
        if isinstance(broker, Sqs):
            assert not app.conf.worker_enable_remote_control
            assert not app.conf.worker_send_task_events
            return
        pongs = present(app.control.ping(timeout=20, limit=3))
        events: list[tuple[str, str]] = []
        url = ""
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"*": lambda event: events.append((event["type"], event.get("uuid", "")))}
            )
            # It asks all workers for a sign: after the first it is sure to hear the rest.
            for _ in receiver.itercapture(timeout=20):
                url = url or accepted(gateway, "echo")
                if ("task-succeeded", url.rpartition("/")[2]) in events:
                    break

    assert {name for pong in pongs for name in pong} == {f"{each}-1@tidegate" for each in ("io", "cpu", "webhooks")}
    assert ("task-started", url.rpartition("/")[2]) in events


def test_scheduler_and_workers_have_a_pulse(gateway: Gateway) -> None:
    pulses = [gateway.data / "run" / f"{name}.alive" for name in ("scheduler", "io-1", "cpu-1", "webhooks-1")]
    wait_until(lambda: all(pulse.exists() for pulse in pulses), description="each has a pulse")
    first = [pulse.stat().st_mtime for pulse in pulses]
    wait_until(
        lambda: all(pulse.stat().st_mtime > at for pulse, at in zip(pulses, first, strict=True)),
        description="each has another beat",
    )


def test_a_worker_killed_in_the_middle_of_a_job_costs_it_nothing_but_time(gateway: Gateway) -> None:
    url = accepted(gateway, "sleepy_io", {"seconds": 4})
    wait_for_progress(gateway, url)
    os.killpg(gateway.pid("io-1"), signal.SIGKILL)

    final = gateway.wait_final(url)

    assert (final.status_code, final.json()["result"]) == (200, 2)


def test_a_worker_that_retires_ends_its_call_and_the_next_one_gets_what_waits(gateway: Gateway) -> None:
    long = accepted(gateway, "sleepy_io", {"seconds": 4})
    wait_for_progress(gateway, long)
    os.kill(gateway.pid("io-1"), RETIRE)
    meanwhile = [accepted(gateway, "echo", number) for number in range(10)]

    finals = [gateway.wait_final(url) for url in (long, *meanwhile)]
    assert {(final.status_code, final.json()["attempt"]) for final in finals} == {(200, 1)}
    assert [final.json()["result"] for final in finals] == [1, *range(10)]


def test_a_killed_broker_loses_nothing_and_jobs_run_when_it_is_back(gateway: Gateway, broker: Broker) -> None:
    running = accepted(gateway, "sleepy_io", {"seconds": 2})
    wait_for_progress(gateway, running)
    broker.kill()
    meanwhile = [accepted(gateway, "echo", number) for number in range(5)]
    late = accepted(gateway, "echo", Job_Timeout="1")
    assert gateway.wait_final(late).status_code == 504
    assert gateway.wait_final(running).status_code == 200
    workers = {name: gateway.pid(name) for name in ("io-1", "cpu-1", "webhooks-1", "scheduler")}

    broker.start()

    assert [gateway.wait_final(url).json()["result"] for url in meanwhile] == list(range(5))
    assert gateway.wait_final(accepted(gateway, "sleepy_cpu", {"seconds": 0})).status_code == 200
    assert {name: gateway.pid(name) for name in workers} == workers, "a process died of it"
