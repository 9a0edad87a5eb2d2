"""Tracing: spans of a job's submit, release, attempt, downstream call and webhook. Does nothing without a tracer.

The trace goes with the job as a `traceparent` (W3C Trace Context): the job's row has that of its submit, an operation
is given that of its attempt, and the downstream that of the call.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["server", "internal", "consumer", "client"]
Value: TypeAlias = str | int | float | bool


class Span(Protocol):
    """An open span. `traceparent`: the parent that its children get; None: there is no trace."""

    @property
    def traceparent(self) -> str | None: ...
    def note(self, name: str, value: Value) -> None:
        """Adds an attribute. Never a header, a parameter or a key."""
        ...

    def fail(self, reason: str) -> None:
        """Marks the span as failed, with the reason."""
        ...


class Tracer(Protocol):
    """The interface of a tracer; `config/tracing.py` has the one implementation, over OpenTelemetry."""

    def span(
        self, name: str, kind: Kind, parent: str | None, attributes: dict[str, Value]
    ) -> AbstractContextManager[Span]:
        """Opens a span for as long as the context lasts; an exception that leaves it marks it as failed."""
        ...

    def happened(self, name: str, parent: str | None, seconds: float, attributes: dict[str, Value]) -> None:
        """Records a span after the fact: it ends now and began so many seconds ago."""
        ...


class _NoSpan:
    """The span without a tracer: passes the parent's traceparent on as it came."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def note(self, name: str, value: Value) -> None:
        """Does nothing."""

    def fail(self, reason: str) -> None:
        """Does nothing."""


_installed: list[Tracer] = []


def install(tracer: Tracer | None) -> None:
    """Sets the tracer of this process; None: no tracer."""
    _installed[:] = [tracer] if tracer else []


def is_on() -> bool:
    """Whether a tracer is installed."""
    return bool(_installed)


@contextmanager
def span(name: str, *, parent: str | None, kind: Kind = "internal", **attributes: Value) -> Iterator[Span]:
    """Opens a span below `parent`; its attributes get the prefix `tidegate.`."""
    if not _installed:
        yield _NoSpan(parent)
        return
    with _installed[0].span(name, kind, parent, _named(attributes)) as opened:
        yield opened


def happened(name: str, *, parent: str | None, seconds: float, **attributes: Value) -> None:
    """Records a span below `parent` of something that took so many seconds and is over."""
    if _installed:
        _installed[0].happened(name, parent, seconds, _named(attributes))


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {f"tidegate.{name}": value for name, value in attributes.items()}
