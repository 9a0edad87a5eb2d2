"""Reads what a server's answer says of when to call again, and of what is left of its quotas. Pure.

`Retry-After` (RFC 9110, 10.2.3), `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers, the newest
and the earlier ones), `X-RateLimit-Remaining` with `-Reset`. What can't be read says nothing.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import http_sf

LONGEST = timedelta(days=31)
"""What asks for a longer rest is read as this."""

_NUMBER = re.compile(r"(\d{1,40})(?:\.(\d{0,40}))?", re.ASCII)
# A number of seconds that is larger than the first is an instant since 1970; than the second, in milliseconds.
_EPOCH_SECONDS = 10**8
_EPOCH_MILLISECONDS = 10**11
_REQUESTS = "requests"
_BYTES = "content-bytes"
_MOST_QUOTAS = 8
_NAME_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a server announces of one of its quotas: so many calls are left, and it resets so much later."""

    name: str
    left: int
    resets_in: timedelta


@dataclass(frozen=True, kw_only=True)
class QuotaFields:
    """What an answer's fields say: when to call again, if they ask for that, and what is left of each quota."""

    retry_after: timedelta | None = None
    quotas: tuple[Quota, ...] = ()

    @property
    def rest(self) -> timedelta | None:
        """How long a full server wants to rest: as it asks, else until its spent quotas reset; None: not said."""
        if self.retry_after is not None:
            return self.retry_after
        return max((quota.resets_in for quota in self.quotas if not quota.left), default=None)


def read_quota_fields(headers: Iterable[tuple[bytes, bytes]], now: datetime) -> QuotaFields:
    """Reads an answer's header lines. `now`: our clock, for answers without a `Date` of their own."""
    lines: dict[str, list[str]] = {}
    for name, value in headers:
        lines.setdefault(name.decode("ascii", "replace").lower(), []).append(value.decode("latin-1").strip())
    answered_at = _date(next(iter(lines.get("date", ())), "")) or now
    waits = [_wait(value, answered_at) for value in lines.get("retry-after", ())]
    return QuotaFields(
        retry_after=max((wait for wait in waits if wait is not None), default=None),
        quotas=_structured(lines)
        or _plain("ratelimit", lines, answered_at)
        or _plain("x-ratelimit", lines, answered_at),
    )


def _wait(value: str, answered_at: datetime) -> timedelta | None:
    """A `Retry-After`: seconds, or a date by the clock of the server that answered."""
    seconds = _seconds(value)
    if seconds is not None:
        return _bounded(seconds)
    until = _date(value)
    return None if until is None else min(max(until - answered_at, timedelta(0)), LONGEST)


def _seconds(value: str) -> int | None:
    """A number of seconds, rounded up; None: it is none."""
    match = _NUMBER.fullmatch(value)
    return int(match[1]) + bool((match[2] or "").strip("0")) if match else None


def _bounded(seconds: int) -> timedelta:
    return timedelta(seconds=min(seconds, int(LONGEST.total_seconds())))


def _date(value: str) -> datetime | None:
    """An HTTP-date in any of its three forms; None: it is none."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


def _structured(lines: Mapping[str, Sequence[str]]) -> tuple[Quota, ...]:
    """The quotas of `RateLimit`: the newest drafts' list of items, or the dictionary of an earlier one."""
    items = _items(lines.get("ratelimit", ()))
    policies = dict(_items(lines.get("ratelimit-policy", ())))
    quotas = [quota for name, values in items if (quota := _quota(name, values, policies.get(name, {})))]
    return tuple(sorted(quotas, key=lambda quota: quota.left)[:_MOST_QUOTAS])


def _items(lines: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """The named items of a field, with their parameters; none where it is malformed."""
    value = ", ".join(lines).encode("latin-1")
    if not value:
        return []
    try:
        found: Any = http_sf.parse(value, tltype="list")
        return [(str(name), parameters) for name, parameters in found if isinstance(name, str | http_sf.Token)]
    except ValueError:
        return _earlier_items(value)


def _earlier_items(value: bytes) -> list[tuple[str, Mapping[str, Any]]]:
    """`limit=100, remaining=50, reset=5`, as an earlier draft wrote one quota."""
    try:
        found: Any = http_sf.parse(value, tltype="dictionary")
    except ValueError:
        return []
    values = {name: each[0] for name, each in found.items()}
    return [("", {"r": values.get("remaining"), "t": values.get("reset")})]


def _quota(name: str, values: Mapping[str, Any], policy: Mapping[str, Any]) -> Quota | None:
    """One quota, if it says how many calls are left and until when: of bytes only that none is."""
    left, resets_in, unit = values.get("r"), values.get("t", policy.get("w")), policy.get("qu", _REQUESTS)
    if not (isinstance(left, int) and _is_count(left) and _is_count(resets_in) and resets_in):
        return None
    if unit != _REQUESTS and (unit != _BYTES or left):
        return None
    partition = values.get("pk", b"")
    told = f"{name} {partition.hex()}" if isinstance(partition, bytes) and partition else str(name)
    return Quota(name=told[:_NAME_LENGTH], left=left, resets_in=_bounded(resets_in))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _plain(prefix: str, lines: Mapping[str, Sequence[str]], answered_at: datetime) -> tuple[Quota, ...]:
    """The quota of `…-Remaining` and `…-Reset`; of several lines the least and the last."""
    left = [
        int(value) for value in lines.get(f"{prefix}-remaining", ()) if _NUMBER.fullmatch(value) and "." not in value
    ]
    resets = [_reset(value, answered_at) for value in lines.get(f"{prefix}-reset", ())]
    resets_in = max((reset for reset in resets if reset is not None), default=timedelta(0))
    return (Quota(name="", left=min(left), resets_in=resets_in),) if left and resets_in else ()


def _reset(value: str, answered_at: datetime) -> timedelta | None:
    """A reset in seconds from now, or an instant in seconds or milliseconds since 1970: by its size."""
    number = _seconds(value)
    if number is None or number < _EPOCH_SECONDS:
        return None if number is None else _bounded(number)
    seconds = number / 1000 if number >= _EPOCH_MILLISECONDS else number
    return _bounded(max(0, math.ceil(seconds - answered_at.timestamp())))
