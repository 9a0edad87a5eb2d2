"""What log lines are about: job, attempt, downstream and trace, said once around the work and not in every call."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})
_about: ContextVar[Mapping[str, object]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Lines that this thread logs within it are about these, too; None: not known."""
    token = _about.set(_merged(_about.get(), fields))
    try:
        yield
    finally:
        _about.reset(token)


def now_about(**fields: object) -> None:
    """From now on lines of this thread are about these and nothing else."""
    _about.set(_merged(_NOTHING, fields))


def current() -> Mapping[str, object]:
    """What a line of this thread is about."""
    return _about.get()


def trace_id(traceparent: str | None) -> str | None:
    """The trace that a traceparent (W3C Trace Context) belongs to."""
    return traceparent.split("-")[1] if traceparent else None


def _merged(known: Mapping[str, object], fields: Mapping[str, object]) -> Mapping[str, object]:
    return {**known, **{name: value for name, value in fields.items() if value is not None}}
