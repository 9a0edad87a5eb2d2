"""A downstream's row under its lock: what the gate and a claimed job read of it, and the pace they leave."""

from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, bindparam, select, type_coerce, update

from tidegate import pacing
from tidegate.models import downstreams, samples


def locked(name: str, is_sqlite: bool, *, wait: bool) -> Any:
    """SELECT of the row and its lock. `wait` False: no row while another transaction has it."""
    columns = select(
        downstreams.c.name,
        downstreams.c.rates,
        downstreams.c.burst,
        downstreams.c.concurrency,
        downstreams.c.breaker_after,
        downstreams.c.failures,
        downstreams.c.refusals,
        downstreams.c.pace,
        downstreams.c.paused,
        type_coerce(downstreams.c.paused_until, BigInteger).label("paused_until"),
        # Little's law: how long a place is taken by one call.
        select(samples.c.held_mean / samples.c.per_second)
        .where(samples.c.downstream == downstreams.c.name, samples.c.per_second > 0)
        .scalar_subquery()
        .label("call_seconds"),
    ).where(downstreams.c.name == name)
    return columns if is_sqlite else columns.with_for_update(skip_locked=not wait, of=downstreams)


_KEEP = (
    update(downstreams)
    .where(downstreams.c.name == bindparam("its_name"))
    .values(pace=bindparam("its_pace"), released=downstreams.c.released + bindparam("its_released", type_=BigInteger))
)


def keep(connection: Connection, name: str, pace: pacing.Pace, *, released: int = 0) -> None:
    """Writes what the calls so far leave free, and how many more jobs were let go."""
    kept = {"its_name": name, "its_pace": orjson.dumps(pace.as_json()).decode(), "its_released": released}
    connection.execute(_KEEP, kept)
