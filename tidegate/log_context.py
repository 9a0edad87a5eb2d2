"""Context of log lines: job, attempt, downstream and trace, set once and added to every line that a thread logs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})
_about: ContextVar[Mapping[str, object]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Adds these fields to every line that this thread logs within the context; None: not known, left out."""
    token = _about.set(_merged(_about.get(), fields))
    try:
        yield
    finally:
        _about.reset(token)


def now_about(**fields: object) -> None:
    """Replaces the fields of this thread's log lines by these, from now on."""
    _about.set(_merged(_NOTHING, fields))


def current() -> Mapping[str, object]:
    """The fields that a log line of this thread gets now."""
    return _about.get()


def trace_id(traceparent: str | None) -> str | None:
    """The trace id in a traceparent (W3C Trace Context)."""
    return traceparent.split("-")[1] if traceparent else None


def _merged(known: Mapping[str, object], fields: Mapping[str, object]) -> Mapping[str, object]:
    return {**known, **{name: value for name, value in fields.items() if value is not None}}
