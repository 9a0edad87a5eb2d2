"""Durations and instants as text: "500ms", "15s", "2m" in settings and files, RFC 3339 in documents."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, overload

from pydantic import AwareDatetime, BeforeValidator, TypeAdapter

from tidegate.clock import MICROSECOND

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_PATTERN = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)?", re.ASCII)
LONGEST = timedelta(days=3650)
_AWARE = TypeAdapter(AwareDatetime)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Reads "2m" as two minutes; a bare number is seconds.

    Raises ValueError for anything else, for zero, and beyond ten years.
    """
    match = _PATTERN.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f'{text!r} is not a duration; write a number and a unit, such as "500ms", "15s", "2m", "1h", "7d"'
        )
    duration = float(match[1]) * _UNITS[match[2] or "s"]
    if not timedelta(0) < duration <= LONGEST:
        raise ValueError(f"{text!r} is out of range: a duration is longer than nothing and at most ten years")
    return duration


def format_duration(duration: timedelta) -> str:
    """Writes a duration in the shortest form that `parse_duration` reads back."""
    for unit in ("d", "h", "m", "s"):
        if duration % _UNITS[unit] == timedelta(0):
            return f"{duration // _UNITS[unit]}{unit}"
    whole, rest = divmod(duration, _UNITS["s"])
    return f"{whole}.{rest // MICROSECOND:06}".rstrip("0") + "s"


def read_duration(value: object) -> timedelta:
    """Reads a text as `parse_duration` does, a number of seconds, or a timedelta; ValueError for all else."""
    if isinstance(value, timedelta):
        if not timedelta(0) < value <= LONGEST:
            raise ValueError(f"{value} is out of range: a duration is longer than nothing and at most ten years")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a duration; write a text such as '2m', or a number of seconds")
    return parse_duration(str(value))


Duration = Annotated[timedelta, BeforeValidator(read_duration)]
"""A pydantic field that reads "2m" or a number of seconds."""


def parse_instant(text: str) -> datetime:
    """Reads an instant of RFC 3339, with its zone, as UTC; raises ValueError for anything else."""
    if _RFC_3339.fullmatch(text):  # pydantic alone takes much else besides, such as a bare number
        try:
            return _AWARE.validate_strings(text).astimezone(UTC)
        except (ValueError, OverflowError):  # pydantic's errors are ValueErrors
            pass
    raise ValueError(
        f"{text[:40]!r} is no instant of RFC 3339 such as 2026-12-24T17:00:00Z or 2026-12-24T18:00:00+01:00"
    )


@overload
def instant(value: datetime) -> str: ...
@overload
def instant(value: None) -> None: ...
@overload
def instant(value: datetime | None) -> str | None: ...
def instant(value: datetime | None) -> str | None:
    """Writes an instant as RFC 3339 in UTC with milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None
