"""The only module that reads this machine's clocks: wall time, monotonic time, sleep.

What decides about a job is the database's clock (`tidegate.database.time.database_now`); this one measures
durations and serves SQLite, whose clock is the machine's own.
"""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
"""What instants and durations are counted in where they are stored: `timedelta // MICROSECOND`."""


def now() -> datetime:
    """This machine's wall clock: aware, UTC, microseconds."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


def monotonic() -> float:
    """Seconds on a clock that never steps; only differences mean anything."""
    return time.monotonic()  # noqa: TID251 - the one place


def sleep(seconds: float) -> None:
    """Sleeps for so many seconds; returns at once for zero and less."""
    if seconds > 0:
        time.sleep(seconds)  # noqa: TID251 - the one place


def yield_thread() -> None:
    """Yields the interpreter lock to another thread of this process, which else waits up to 5 ms for it."""
    time.sleep(0)  # noqa: TID251 - the one place


def to_microseconds(instant: datetime) -> int:
    """The instant as whole microseconds since 1970, as it is stored. Exact, as floats would not be."""
    return (instant - EPOCH) // MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The instant of so many whole microseconds since 1970: the inverse of `to_microseconds`."""
    return EPOCH + timedelta(microseconds=microseconds)
