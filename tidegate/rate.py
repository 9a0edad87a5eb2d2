"""A rate: so many calls in any window of a period, or in each window of the calendar. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from tidegate.clock import from_microseconds, to_microseconds

LONGEST = 31 * 86_400_000_000
"""Microseconds: the longest window of a rate, and so the age at which calls are forgotten."""

_DAY = 86_400_000_000
_HOUR = 3_600_000_000
_UNITS = {"d": _DAY, "h": _HOUR, "m": 60_000_000, "s": 1_000_000}
_WRITE = 'write a text such as "50/s", or { rate = "10000/d", window = "calendar", zone = "Europe/Berlin" }'
_PATTERN = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*/\s*(\d{1,7})?([smhd])(?:\s+calendar\s+(\S+))?", re.ASCII)


@dataclass(frozen=True)
class Rate:
    """At most so many calls in any window of a period, which is in microseconds.

    `zone`: a name of the IANA time zone database; then the windows are those of the clock there, one behind the other.
    """

    calls: int
    period: int
    zone: str | None = None

    @classmethod
    @lru_cache(maxsize=1000)
    def parse(cls, text: str) -> "Rate":
        """Reads "50/s", "600/m", "100/15m", "10000/d", "0.5/s" (one in 2 s), "10000/d calendar Europe/Berlin".

        ValueError for anything else.
        """
        match = _PATTERN.fullmatch(text.strip())
        calls = Fraction(match[1]) if match else Fraction(0)
        period = int(match[2] or 1) * _UNITS[match[3]] * calls.denominator if match else 0
        if not match or not calls or not period:
            raise ValueError(
                f'{text!r} is not a rate; write calls per window, such as "50/s", "600/m", "100/15m", "10000/d"'
            )
        if period > LONGEST:
            raise ValueError(f"{text!r} is no rate that can be kept; its window may be 31 days long at most")
        if match[4]:
            _check_calendar(text, period, match[4])
        return cls(calls.numerator, period, match[4])

    def __str__(self) -> str:
        return f"{self.per_window} calendar {self.zone}" if self.zone else self.per_window

    @property
    def per_window(self) -> str:
        """The rate without its calendar, such as "100/15m"."""
        unit = next(unit for unit in _UNITS if self.period % _UNITS[unit] == 0)
        number = self.period // _UNITS[unit]
        return f"{self.calls}/{number if number > 1 else ''}{unit}"

    @property
    def interval(self) -> int:
        """Microseconds from one call to the next; rounded up, so that rounding never makes it faster."""
        return -(-self.period // self.calls)

    def calendar_window(self, instant: int) -> tuple[int, int]:
        """The window of the calendar that an instant lies in: its begin and its end, both in microseconds.

        Windows of more than an hour begin by the clock on the wall: a day may have 23 or 25 hours. Where that clock is
        put forward or back within one, it reaches further on both sides. Shorter windows follow one behind the other.
        """
        zone = ZoneInfo(self.zone or "UTC")
        here = from_microseconds(instant).astimezone(zone)
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        into_day = (here.replace(tzinfo=None) - midnight) // timedelta(microseconds=1)
        if self.period <= _HOUR:
            begin = instant - into_day % self.period
            return begin, begin + self.period
        wall = midnight + timedelta(microseconds=into_day - into_day % self.period)
        return min(_instants(wall, zone)), max(_instants(wall + timedelta(microseconds=self.period), zone))


def read_rate(value: object) -> str:
    """Reads a rate as files and requests have it: a text, or {rate, window: "calendar", zone}; returns it as a text.

    ValueError for anything else.
    """
    if isinstance(value, str):
        return str(Rate.parse(value))
    keys = {"rate", "window", "zone"}
    if not isinstance(value, Mapping) or value.keys() != keys or not all(isinstance(value[key], str) for key in keys):
        raise ValueError(_WRITE)
    if value["window"] != "calendar":
        raise ValueError(f'{value["window"]!r} is no kind of window; write "calendar", or leave window and zone out')
    return str(Rate.parse(f"{value['rate']} calendar {value['zone']}"))


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """When a clock on the wall shows this: twice in the hour that is repeated; around the gap that is left out."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return to_microseconds(first), to_microseconds(second)


def _check_calendar(text: str, period: int, zone: str) -> None:
    if _DAY % period:
        raise ValueError(f"{text!r}: a window by the calendar is a day, or goes into one, such as 15m, 1h or 6h")
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{text!r}: {zone!r} is no time zone; write one such as Europe/Berlin") from error
