"""Work that a partner has accepted outlives every process here: it is asked for again, and never sent twice."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.http_server import HttpServer, respond
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web

StartWorker = Callable[..., WorkerNode]


@pytest.fixture
def operations_toml(downstream: HttpServer) -> str:
    """A partner that has one place, and an operation that has no second attempt."""
    return (
        f'[downstreams.report]\nconcurrency = 1\n[operations.report]\nurl = "{downstream.url}/reports"\n'
        'poll = true\nattempt_timeout = "3s"\nretry = { attempts = 1 }\n'
    )


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey, operations_toml: str) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url, operations_toml=operations_toml)
    yield web
    web.close()


def is_final(face: Web, job_id: str) -> bool:
    """Whether the job has its end."""
    return face.row(job_id).finished_at is not None


@pytest.mark.both_databases("places outlive processes by rows and a trigger")
def test_a_worker_killed_between_polls_and_one_killed_within_a_poll_cost_nothing(
    face: Web, downstream: HttpServer, scheduler: SchedulerNode, start_worker: StartWorker
) -> None:
    downstream.answer = respond(202, location="/status/1", retry_after="1")
    first = start_worker("io", name="io-first")
    job_id, another = face.accepted("report", b'{"n": 1}'), face.accepted("report", b'{"n": 2}')

    def asked() -> list[str]:
        return [each.line.removesuffix(" HTTP/1.1") for each in downstream.received]

    wait_until(lambda: len(asked()) >= 2, description="it was polled once", timeout_seconds=30)
    wait_until(lambda: face.row(job_id).waits_for == "poll", description="it waits", timeout_seconds=10)
    first.kill()
    scheduler.kill()
    scheduler.restart()
    downstream.answer = lambda _: None  # the next poll gets no answer
    before = len(asked())
    second = start_worker("io", name="io-second")
    wait_until(lambda: len(asked()) > before, description="it is being polled", timeout_seconds=30)
    second.kill()
    downstream.answer = respond(200, b'"done"', content_type="application/json")
    start_worker("io", name="io-third")

    for each in (job_id, another):
        wait_until(partial(is_final, face, each), description="it ends", timeout_seconds=60)
        assert face.read(each).get_json()["result"] == "done"
    sent = [line for line in asked() if line.startswith("POST")]
    assert sent == ["POST /reports"] * 2, "each once"
    assert asked()[-1] == "POST /reports", "the other one waited for the place"
    assert set(asked()) - set(sent) == {"GET /status/1"}
    assert face.row(job_id).losses == 1
