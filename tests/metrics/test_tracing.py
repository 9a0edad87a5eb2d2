"""Spans: one trace from the client's request through submit, attempt and call to the downstream, and the webhook."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from config.registry import load_registry_with_secrets
from config.tracing import OtelTracer
from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import REPOSITORY
from tests.support.web import LEASE, Web
from tests.support.webhooks import make_secret, open_senders, send_due
from tidegate import tracing
from tidegate.dispatch.gate import Gate
from tidegate.execution.handoff import SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.notify.notifier import SilentNotifier

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SECRET = "k3y-of-the-downstream"
OPERATIONS = """\
[operations.call]
url = "{url}/price?key=${{SECRET}}"
headers = {{ Authorization = "Bearer ${{SECRET}}" }}
timeout = "1m"
attempt_timeout = "5s"
"""


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span that ends, from now on."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(OtelTracer(provider))
    yield exporter
    tracing.install(None)


@pytest.fixture
def downstream() -> Iterator[HttpServer]:
    """What the operation `call` calls."""
    with serving() as server:
        server.answer = respond(200, b"1", content_type="application/json")
        yield server


@pytest.fixture
def calling(
    tmp_path: Path, database_url: str, downstream: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Web]:
    """A face with that operation."""
    monkeypatch.setenv("SECRET", SECRET)
    face = Web(
        tmp_path,
        database_url,
        operations_toml=OPERATIONS.format(url=downstream.url),
        webhook_networks="127.0.0.0/8",
        webhook_key=base64.b64encode(b"k" * 32).decode(),
    )
    make_secret(face.store)
    yield face
    face.close()


def run_all(web: Web) -> None:
    """What scheduler and worker do with what waits."""
    registry = load_registry_with_secrets(web.settings)
    web.store.limits.declare(registry.downstreams.values())
    web.store.heartbeats.beat("io-1", queue="io", size=100, until=LEASE)
    runner = Runner(
        web.store,
        registry,
        worker="io-1",
        lease=LEASE,
        max_result=1000,
        notifier=SilentNotifier(),
        handoff=SilentHandoff(),
    )
    for job in Gate(web.store.lanes).run_once().released:
        assert runner.run(job.job_id, job.fence)


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The one span of this name."""
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def span_id(span: ReadableSpan) -> str:
    """As a traceparent has it."""
    return f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str | None:
    """As a traceparent has it."""
    return f"{span.parent.span_id:016x}" if span.parent else None


def test_one_trace_from_the_request_to_the_downstream_and_the_webhook(
    calling: Web, downstream: HttpServer, receiver: HttpServer, spans: InMemorySpanExporter
) -> None:
    job_id = calling.accepted("call", traceparent=TRACEPARENT, Webhook_Url=f"{receiver.url}/hook")
    run_all(calling)
    open_senders(calling.store)
    assert send_due(calling.store) == 1

    submit, attempt = named(spans, "submit"), named(spans, "attempt")
    call, webhook = named(spans, "downstream call"), named(spans, "webhook")
    assert {f"{span.context.trace_id:032x}" for span in spans.get_finished_spans()} == {TRACE}
    assert parent_id(submit) == CALLER
    assert calling.row(job_id).traceparent == f"00-{TRACE}-{span_id(submit)}-01"
    assert parent_id(attempt) == parent_id(webhook) == span_id(submit)
    assert parent_id(call) == span_id(attempt)
    assert downstream.received[0].headers["traceparent"] == f"00-{TRACE}-{span_id(call)}-01"
    assert (submit.kind, attempt.kind, call.kind) == (SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT)
    assert attempt.attributes
    assert attempt.attributes["tidegate.job.id"] == job_id
    assert attempt.attributes["tidegate.outcome"] == "succeeded"
    assert call.attributes
    assert call.attributes["http.response.status_code"] == 200
    assert all(span.status.is_ok or span.status.is_unset for span in spans.get_finished_spans())


def test_without_a_trace_of_the_client_a_submit_begins_one(calling: Web, spans: InMemorySpanExporter) -> None:
    for _ in range(2):
        calling.accepted("call")
    submits = [span for span in spans.get_finished_spans() if span.name == "submit"]
    assert [span.parent for span in submits] == [None, None]
    assert len({span.context.trace_id for span in submits}) == 2


def test_what_fails_is_told_and_no_secret_with_it(
    calling: Web, downstream: HttpServer, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    downstream.answer = respond(400, b"no")
    calling.accepted("call")
    run_all(calling)
    assert calling.submit("call", headers={"Job-Timeout": "3600"}).status_code == 400

    assert [span.name for span in spans.get_finished_spans() if not span.status.is_ok and not span.status.is_unset] == [
        "downstream call",
        "attempt",
        "submit",
    ]
    assert SECRET not in "".join(span.to_json() for span in spans.get_finished_spans())


def test_a_client_that_does_not_sample_is_not_sampled(
    calling: Web, downstream: HttpServer, spans: InMemorySpanExporter
) -> None:
    calling.accepted("call", traceparent=TRACEPARENT[:-1] + "0")
    run_all(calling)

    assert spans.get_finished_spans() == ()
    assert downstream.received[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert downstream.received[0].headers["traceparent"].endswith("-00")


def test_without_opentelemetry_all_goes_on_and_says_so(tmp_path: Path, database_url: str) -> None:
    script = """\
import logging, sys
sys.modules["opentelemetry"] = None
logging.basicConfig()
from config import tracing
from config.settings import settings
from webapp.app import create_app
tracing.start("web")
answer = create_app(settings()).test_client().post("/v1/operations/echo/jobs", json=1)
print(answer.status_code)
tracing.stop()
"""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "TIDEGATE_DATA": str(tmp_path),
        "TIDEGATE_DATABASE_URL": database_url,
        "TIDEGATE_OPERATIONS": "tests.support.operations",
    }
    command = [sys.executable, "-c", script]
    ended = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "202\n", ended.stderr
    assert "pip install -r requirements-stack.txt" in ended.stderr
