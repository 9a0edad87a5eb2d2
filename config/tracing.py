"""OpenTelemetry tracing: sends spans over OTLP if the group `otel` is installed and an endpoint is set.

The variables are OpenTelemetry's own: OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT), …_HEADERS, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER. Nothing that a tracer does may harm or hold up a job: spans are sent by a thread, and what a
collector does not take in time is dropped.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from config.environment import environment
from tidegate import clock, tracing
from tidegate.tracing import Kind, Span, Value

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

log = logging.getLogger(__name__)

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_TIMEOUT_SECONDS = 2
_EVERY_MILLISECONDS = 1000
_providers: list["TracerProvider"] = []


def start(process: str) -> None:
    """Starts sending this process's spans, if an endpoint is set. Call it after a fork, and once."""
    given = environment()
    endpoint = given.get(_TRACES_ENDPOINT) or given.get(_ENDPOINT, "").rstrip("/")
    if not endpoint or _providers:
        return
    if not given.get(_TRACES_ENDPOINT):
        endpoint += "/v1/traces"
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - optional
    except ImportError:
        missing = "OpenTelemetry is missing, no spans are sent: pip install -r requirements-stack.txt"
        log.warning("%s is set and %s", _ENDPOINT, missing)
        return
    name = given.get("OTEL_SERVICE_NAME") or f"tidegate-{process}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY_MILLISECONDS))
    _providers.append(provider)
    tracing.install(OtelTracer(provider))
    log.info("spans are sent to %s", endpoint)


def stop() -> None:
    """Flushes the spans, for two seconds at the most: a collector that is away must not delay the process's end."""
    tracing.install(None)
    while _providers:
        last = threading.Thread(target=_providers.pop().shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_TIMEOUT_SECONDS)


class OtelTracer:
    """Implements the Tracer interface of `tidegate.tracing` with OpenTelemetry."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("tidegate")

    @contextmanager
    def span(self, name: str, kind: Kind, parent: str | None, attributes: dict[str, Value]) -> Iterator[Span]:
        """Implements `Tracer.span`."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - optional

        opened = self._tracer.start_span(
            name, context=_context(parent), kind=SpanKind[kind.upper()], attributes=attributes
        )
        wrapped = _OtelSpan(opened)
        try:
            yield wrapped
        except BaseException as error:
            wrapped.fail(type(error).__name__)
            raise
        finally:
            opened.end()

    def happened(self, name: str, parent: str | None, seconds: float, attributes: dict[str, Value]) -> None:
        """Implements `Tracer.happened`."""
        now = clock.to_microseconds(clock.now()) * 1000
        began = now - round(seconds * 1e9)
        self._tracer.start_span(name, context=_context(parent), attributes=attributes, start_time=began).end(now)


class _OtelSpan:
    def __init__(self, opened: "OtelSpan") -> None:
        self._opened = opened

    @property
    def traceparent(self) -> str:
        context = self._opened.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, name: str, value: Value) -> None:
        """Implements `Span.note`."""
        self._opened.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        """Implements `Span.fail`."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - optional

        self._opened.set_status(Status(StatusCode.ERROR, reason))


def _context(parent: str | None) -> "Context":
    """The context with the parent's span in it, else an empty one: never the current one of this thread."""
    from opentelemetry.context import Context  # noqa: PLC0415 - optional
    from opentelemetry.trace import (  # noqa: PLC0415 - optional
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    try:
        _, trace, span, flags = (parent or "").split("-")
        remote = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    except ValueError:  # there is none, or none that can be read
        return Context()
    return set_span_in_context(NonRecordingSpan(remote), Context())
