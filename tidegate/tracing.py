"""Spans of what happens to a job: submit, release, attempt, downstream call, webhook. Without a tracer, nothing.

The trace goes with the job as a `traceparent` (W3C Trace Context): the job's row has that of its submit, an operation
is given that of its attempt, and the downstream that of the call.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["server", "internal", "consumer", "client"]
Value: TypeAlias = str | int | float | bool


class Span(Protocol):
    """A span that is open. `traceparent`: what its children are told; None: there is no trace."""

    @property
    def traceparent(self) -> str | None: ...
    def note(self, name: str, value: Value) -> None:
        """Adds an attribute. Never a header, a parameter or a key."""
        ...

    def fail(self, reason: str) -> None:
        """What it is about did not succeed."""
        ...


class Tracer(Protocol):
    """What makes spans; `config/tracing.py` has the one there is."""

    def span(
        self, name: str, kind: Kind, parent: str | None, attributes: dict[str, Value]
    ) -> AbstractContextManager[Span]:
        """A span for as long as the context lasts; an exception that leaves it fails it."""
        ...

    def happened(self, name: str, parent: str | None, seconds: float, attributes: dict[str, Value]) -> None:
        """A span that ends now and began so long ago."""
        ...


class _NoSpan:
    """Passes the trace on as it came."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def note(self, name: str, value: Value) -> None:
        """Nobody listens."""

    def fail(self, reason: str) -> None:
        """Nobody listens."""


_installed: list[Tracer] = []


def install(tracer: Tracer | None) -> None:
    """From now on this process's spans are this tracer's; None: nobody's."""
    _installed[:] = [tracer] if tracer else []


def is_on() -> bool:
    """Whether there is a tracer."""
    return bool(_installed)


@contextmanager
def span(name: str, *, parent: str | None, kind: Kind = "internal", **attributes: Value) -> Iterator[Span]:
    """A span below `parent`; attributes get the prefix `tidegate.`."""
    if not _installed:
        yield _NoSpan(parent)
        return
    with _installed[0].span(name, kind, parent, _named(attributes)) as opened:
        yield opened


def happened(name: str, *, parent: str | None, seconds: float, **attributes: Value) -> None:
    """A span below `parent` of something that took so long and is over."""
    if _installed:
        _installed[0].happened(name, parent, seconds, _named(attributes))


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {f"tidegate.{name}": value for name, value in attributes.items()}
