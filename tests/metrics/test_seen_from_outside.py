"""What real processes tell: their metrics through one of them, their spans to a collector, their logs as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pytest_celery import CeleryTestSetup

from tests.support.http_server import HttpServer, respond, serving
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.scrape import Scrape
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def collector() -> Iterator[HttpServer]:
    """What spans are sent to."""
    with serving() as server:
        server.answer = respond(200, b"", content_type="application/x-protobuf")
        yield server


@pytest.fixture
def downstream() -> Iterator[HttpServer]:
    """What the operation `call` calls."""
    with serving() as server:
        server.answer = respond(200, b"1", content_type="application/json")
        yield server


@pytest.fixture
def operations_toml(downstream: HttpServer) -> str:
    """One HTTP operation."""
    return f'[operations.call]\nurl = "{downstream.url}/x"\ntimeout = "1m"\nattempt_timeout = "5s"\n'


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str], collector: HttpServer) -> dict[str, str]:
    """All of it on."""
    return {**default_worker_env, "TIDEGATE_LOG_FORMAT": "json", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}


@pytest.fixture
def server(tmp_path: Path, database_url: str, default_worker_env: dict[str, str]) -> Iterator[WebServer]:
    """The web server, with the same settings as the others."""
    (tmp_path / "web").mkdir()
    given = {name.removeprefix("TIDEGATE_"): value for name, value in default_worker_env.items()}
    more = {name: value for name, value in given.items() if name not in {"DATA", "DATABASE_URL", "BROKER_URL"}}
    endpoint = more.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
    running = WebServer(tmp_path / "web", database_url, given["BROKER_URL"], **more)
    running.process.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    running.start()
    yield running
    running.close()


def scrape(server: WebServer) -> Scrape:
    """What Prometheus gets."""
    answer = server.client.get("/metrics")
    assert answer.status_code == 200
    return Scrape(answer.text)


def spans_of(collector: HttpServer) -> dict[str, Span]:
    """By name, those that were sent."""
    found: dict[str, Span] = {}
    for request in collector.received:
        assert request.line == "POST /v1/traces HTTP/1.1"
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            found |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
    return found


def test_a_job_is_seen_from_outside(
    celery_setup: CeleryTestSetup,
    cpu_worker: WorkerNode,
    scheduler: SchedulerNode,
    server: WebServer,
    collector: HttpServer,
) -> None:
    job_id = server.submit("call", traceparent=TRACEPARENT)
    answer = server.client.post("/v1/operations/sleepy_cpu/jobs", json={"seconds": 0})
    for each in (f"/v1/jobs/{job_id}", answer.headers["Location"]):
        wait_until(lambda: ended(server, each), description=f"{each} succeeds", timeout_seconds=30)  # noqa: B023 - called at once

    def is_told() -> bool:
        found = scrape(server)
        return all(
            found.value("tidegate_attempts_total", operation=name, downstream=name, outcome="succeeded") == 1
            for name in ("call", "sleepy_cpu")
        )

    wait_until(is_told, description="the workers' counts are told", timeout_seconds=20)
    found = scrape(server)
    for name in ("call", "sleepy_cpu"):
        assert found.value("tidegate_jobs_finished_total", operation=name, state="succeeded") == 1
        assert found.value("tidegate_queue_wait_seconds_count", downstream=name) == 1
        assert found.value("tidegate_releases_total", downstream=name) == 1
    assert found.value("tidegate_stewards") == 1
    assert found.value("tidegate_worker_slots", queue="io") == 8
    celery_setup.worker.kill()
    assert is_told(), "what a process counted stays when it is gone"

    names = {"submit", "release", "attempt", "downstream call"}
    wait_until(lambda: spans_of(collector).keys() >= names, description="all spans are sent", timeout_seconds=20)
    spans = spans_of(collector)
    of_trace = {name: span for name, span in spans.items() if span.trace_id.hex() == TRACE}
    assert of_trace.keys() >= {"downstream call"}
    assert spans["downstream call"].parent_span_id

    worker = celery_setup.worker.logs()
    worker = worker[worker.index("\n{") :].strip()  # before it is Celery's banner, which --quiet leaves out
    for log, kind in ((worker, "io-test"), (scheduler.logs(), "scheduler"), (server.process.logs(), "web")):
        lines = [json.loads(line) for line in log.splitlines()]
        assert lines
        assert {line["process"] for line in lines} == {kind}
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    about = [json.loads(line) for line in worker.splitlines() if job_id in line]
    assert about
    for line in about:
        assert (line["job_id"], line["attempt"], line["downstream"], line["trace_id"]) == (job_id, 1, "call", TRACE)


def ended(server: WebServer, path: str) -> bool:
    """Whether the job has succeeded."""
    answer: httpx.Response = server.client.get(path)
    assert answer.status_code in {200, 202}, answer.text
    return answer.status_code == 200
