"""Deletes the rows of partitions and clients that say nothing any more: without them all is as with them."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import and_, delete, exists, select, tuple_

from tidegate import clock, rate_limit
from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, jobs, partitions, shared_clients
from tidegate.database.time import database_now
from tidegate.dispatch.announced import from_json
from tidegate.dispatch.partitions.partition import own_allowance
from tidegate.dispatch.places import is_held
from tidegate.jobs.transitions import IS_WAITING
from tidegate.operations.sharing import Sharing

_ROWS = 500
_SECONDS = 0.25
# What a downstream announced to be reset by then is known for so long afterwards: the first call then goes alone.
_REMEMBERED = timedelta(hours=1) // MICROSECOND


class IdlePartitions:
    """Goes round all clients of all shared downstreams, a quarter of a second at a time.

    A row goes that has no turn to make up for or to get back, no change of an operator's, no call within a window of
    its own rates, no rest or quota by the downstream's answers, no open call and no job that waits. Each delete says so
    again, so a release that comes between wins.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._client: tuple[str, str] = ("", "")
        self._name = ""

    def forget(self) -> int:
        """Deletes some; returns how many partitions. The next call goes on from there."""
        ends_at, gone = clock.monotonic() + _SECONDS, 0
        while rows := self._database.fetch_all(_clients(self._client)):
            for row in rows:
                if (row.downstream, row.client) != self._client:
                    self._client, self._name = (row.downstream, row.client), ""
                gone += self._forget_of(row, lambda: clock.monotonic() < ends_at)
                if clock.monotonic() >= ends_at:
                    return gone
            if len(rows) < _ROWS:
                break
            self._client, self._name = (rows[-1].downstream, rows[-1].client), ""  # once more: its partitions are few
        self._client, self._name = ("", ""), ""
        return gone

    def _forget_of(self, client: Any, may_go_on: Callable[[], bool]) -> int:
        """Deletes the idle partitions of one client, and the client when none is left and it owes nothing."""
        sharing = Sharing.from_json(client.sharing)
        here = and_(partitions.c.downstream == client.downstream, partitions.c.client == client.client)
        gone = 0
        while True:
            found = select(partitions, database_now().label("now")).where(here, partitions.c.name >= self._name)
            rows = self._database.fetch_all(found.order_by(partitions.c.name).limit(_ROWS))
            names = [row.name for row in rows if _is_idle(row, int(client.clock), sharing)]
            if names:
                gone += self._delete(client, names)
            if len(rows) < _ROWS:
                break
            self._name = rows[-1].name + " "
            if not may_go_on():
                return gone
        if client.returned == 0 and int(client.turn) <= int(client.shared_clock):
            is_it = and_(shared_clients.c.downstream == client.downstream, shared_clients.c.client == client.client)
            # A weight that an operator gave it stays.
            as_seen = and_(
                shared_clients.c.turn == client.turn, shared_clients.c.returned == 0, shared_clients.c.weight == 1.0
            )
            self._database.execute(delete(shared_clients).where(is_it, as_seen, ~exists().where(here)))
        return gone

    def _delete(self, client: Any, names: Sequence[str]) -> int:
        key = partitions.c.client.concat("/").concat(partitions.c.name)
        waits = exists().where(jobs.c.downstream == partitions.c.downstream, jobs.c.partition == key, IS_WAITING)
        is_open = exists().where(
            attempts.c.downstream == partitions.c.downstream, attempts.c.partition == key, is_held()
        )
        same_clock = exists().where(
            shared_clients.c.downstream == client.downstream,
            shared_clients.c.client == client.client,
            shared_clients.c.clock == client.clock,
        )
        which = tuple_(partitions.c.downstream, partitions.c.client, partitions.c.name).in_(
            [(client.downstream, client.client, name) for name in names]
        )
        says_nothing = (partitions.c.returned == 0, ~partitions.c.paused, partitions.c.changes == "{}")
        return self._database.execute(delete(partitions).where(which, *says_nothing, same_clock, ~waits, ~is_open))


def _clients(after: tuple[str, str]) -> Any:
    return (
        select(shared_clients, downstreams.c.shared_clock, downstreams.c.sharing)
        .join(downstreams, downstreams.c.name == shared_clients.c.downstream)
        .where(
            downstreams.c.sharing.is_not(None), tuple_(shared_clients.c.downstream, shared_clients.c.client) >= after
        )
        .order_by(shared_clients.c.downstream, shared_clients.c.client)
        .limit(_ROWS)
    )


def _is_idle(row: Any, clock: int, sharing: Sharing) -> bool:
    if row.returned or row.paused or row.changes != "{}" or int(row.turn) > clock:
        return False
    now = to_microseconds(row.now)
    resets = [each.until for each in from_json(orjson.loads(row.announced or "{}")).values()]
    if max([(row.rests_until and to_microseconds(row.rests_until)) or 0, *(at + _REMEMBERED for at in resets)]) > now:
        return False
    pace, limits = rate_limit.Pace.from_json(orjson.loads(row.pace)), sharing.limits_of(row.name)
    if not limits.rates:
        return not pace.log
    allowance = own_allowance(limits, 0)
    longest = max(allowance.window(rate) for rate in allowance.rates)
    return pace.free_at <= now and pace.last + longest <= now
