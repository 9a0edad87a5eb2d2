"""Texts of the page: durations, sizes, states, why a job waits. Template filters."""

from datetime import datetime, timedelta

from tidegate import clock
from tidegate.jobs.job import Job, Wait
from tidegate.states import State

STATES = {
    State.QUEUED: "Queued",
    State.RUNNING: "Running",
    State.SUCCEEDED: "Succeeded",
    State.FAILED: "Failed",
    State.EXPIRED: "Expired",
    State.CANCELLED: "Cancelled",
}
TICKS = {
    State.QUEUED: "one",
    State.RUNNING: "two",
    State.SUCCEEDED: "two",
    State.FAILED: "cross",
    State.EXPIRED: "cross",
    State.CANCELLED: "cross",
}
"""As messengers do: one tick when queued, two when a worker has it (in colour when done), a cross when not."""
WAITS = {
    Wait.PACE: "for its turn at the downstream's pace",
    Wait.CONCURRENCY: "for a free place at the downstream",
    Wait.SHARE: "while others of its downstream have their turns",
    Wait.PARTITION_PACE: "for its turn at its partition's own pace",
    Wait.PARTITION_CONCURRENCY: "for a free place of its partition",
    Wait.PARTITION_ORDER: "for those before it: its partition keeps the order",
    Wait.PAUSED: "for its downstream, which is paused",
    Wait.BREAKER: "for its downstream, whose breaker is open",
    Wait.RETRY: "before another attempt",
    Wait.POLL: "for its downstream, which has accepted it and is asked now and then",
    Wait.NOT_BEFORE: "for the instant that its caller asked for",
    Wait.DISPATCH: "for a worker to take it",
    Wait.NO_WORKER: "for a worker: none is there",
    Wait.UNKNOWN_OPERATION: "for a worker that knows its operation: none does",
}
WAITED = WAITS | {
    Wait.PAUSED: "for its downstream, which was paused",
    Wait.BREAKER: "for its downstream, whose breaker was open",
    Wait.POLL: "for its downstream, which had accepted it",
    Wait.NO_WORKER: "for a worker: none that runs it was there",
}
"""As WAITS, of a job that waits no more."""
_SIZES = ("KB", "MB", "GB")
_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400


def state_of(job: Job) -> str:
    """A job's state in one word or more."""
    if job.state is State.RUNNING and job.cancel_requested:
        return "Asked to stop"
    if job.state is State.QUEUED and job.waits_for is Wait.POLL:
        return "Accepted by its downstream"
    if job.state is State.QUEUED and job.attempt:
        return "Waits to be retried"
    return STATES[job.state]


def duration(span: timedelta) -> str:
    """Formats a duration: "85 ms", "2.4 s", "3 min 20 s", "5 h 1 min"."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", _SECOND, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def size(count: int) -> str:
    """Formats a number of bytes: "17 bytes", "4.2 KB", "20 MB"."""
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    value, unit = count / 1000, 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_SIZES[unit]}" if value < 9.95 else f"{value:.0f} {_SIZES[unit]}"


def number(value: float) -> str:
    """Formats a number: "12,000", "19.8", "0.25"."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def percent(value: float) -> str:
    """Formats a part of a hundred: "80", "12.5", "0.01", "< 0.01"."""
    return "< 0.01" if 0 < value < 0.01 else f"{value:.3g}"


def plain_number(value: float) -> str:
    """A number as a form has it, whole: "0.25", "1000"."""
    return f"{value:.15g}"


def utc_time(moment: datetime) -> str:
    """Formats an instant as UTC, with its date unless that is today; the page's script puts in the viewer's own."""
    is_today = moment.date() == clock.now().date()
    return f"{moment:%H:%M:%S} UTC" if is_today else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
