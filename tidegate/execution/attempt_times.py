"""When an attempt's time is over, and its place is given away: the columns of a claimed attempt that say so."""

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, case, type_coerce

from tidegate.clock import MICROSECOND
from tidegate.database.schema import attempts
from tidegate.database.time import Instant, database_now

# A call may end this much after its attempt's timeout before its place is given away.
PLACE_MARGIN = timedelta(seconds=2)


def place_held(
    begins_at: ColumnElement[int], timeout: ColumnElement[int], worker: ColumnElement[str], pid: ColumnElement[int]
) -> dict[str, Any]:
    """Values of a claimed attempt, whose call begins at an instant and may take so long, in microseconds."""
    return {
        "claimed_at": database_now(),
        "worker": worker,
        "worker_pid": pid,
        "ends_at": type_coerce(begins_at + timeout, Instant()),
        "place_until": type_coerce(begins_at + timeout + PLACE_MARGIN // MICROSECOND, Instant()),
    }


def ends_later(slot: int) -> dict[str, Any]:
    """Moves the end of an attempt that begins at this slot in place of its own, so that it has its whole timeout."""
    claimed_late = attempts.c.claimed_at > attempts.c.slot_at
    moved_by = slot - type_coerce(case((claimed_late, attempts.c.claimed_at), else_=attempts.c.slot_at), BigInteger)
    return {
        column.name: type_coerce(type_coerce(column, BigInteger) + moved_by, Instant())
        for column in (attempts.c.ends_at, attempts.c.place_until)
    }
