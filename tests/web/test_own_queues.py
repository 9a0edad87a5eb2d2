"""What is seen of queues of one's own from outside: readiness, metrics, why a job waits, the page."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.scrape import Scrape
from tests.support.web import Web

OPERATIONS = """\
[queues.gpu]
pool = "processes"

[operations.embed]
url = "http://127.0.0.1:1/embed"
queue = "gpu"
"""


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    made = Web(tmp_path, sqlite_url, operations_toml=OPERATIONS)
    yield made
    made.close()


def test_metrics_have_the_queue_before_and_after_it_has_workers(web: Web) -> None:
    def value(name: str, queue: str) -> float | None:
        return Scrape(web.client.get("/metrics").text).value(name, queue=queue)

    assert value("tidegate_operations", "gpu") == 1
    assert value("tidegate_worker_slots", "gpu") == 0, "with which the alert of a missing worker begins"
    assert value("tidegate_releases_taken_back_total", "gpu") == 0

    web.store.heartbeats.beat("one", queue="gpu", size=3, until=timedelta(seconds=60))
    web.store.heartbeats.beat("two", queue="of-a-newer-file", size=2, until=timedelta(seconds=60))

    assert value("tidegate_worker_slots", "gpu") == 3
    assert value("tidegate_worker_slots", "of-a-newer-file") == 2
    assert value("tidegate_operations", "io") == sum(
        each.queue == "io" for each in web.app.extensions["tidegate"].registry.operations.values()
    )


def test_its_workers_dispatch_and_those_of_webhooks_do_not(web: Web) -> None:
    def ready() -> tuple[str, dict[str, int]]:
        found = web.client.get("/health/ready").get_json()
        return found["status"], found["workers"]

    web.store.heartbeats.beat("one", queue="webhooks", size=1, until=timedelta(seconds=60))
    assert ready() == ("accepting, not dispatching", {"webhooks": 1})

    web.store.heartbeats.beat("two", queue="gpu", size=3, until=timedelta(seconds=60))
    assert ready() == ("ready", {"webhooks": 1, "gpu": 3})


def test_a_job_waits_for_a_worker_of_its_own_queue(web: Web) -> None:
    web.declare()

    answer = web.submit("embed")

    assert answer.status_code == 202
    assert answer.get_json()["waiting"]["reason"] == "no_worker"
    page = web.client.get("/").text
    assert "No worker" in page
