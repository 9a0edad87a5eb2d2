"""Writes the turns of partitions and of clients: after a release, and when a call was surely not made."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    FromClause,
    String,
    Table,
    and_,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tidegate import rate_limit
from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import as_parameter, given_rows
from tidegate.database.schema import attempts, downstreams, partitions, shared_clients
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant
from tidegate.dispatch.lane import Lane
from tidegate.dispatch.partitions.partition import Chosen, own_allowance, own_next_slot
from tidegate.fairness import Share
from tidegate.operations.sharing import key_of, named_by


def write_turns(database: Database, within: Connection, lane: Lane, chosen: Chosen, *, with_clock: bool = True) -> None:
    """Stores the turns and paces of those that were chosen, in the transaction of the release.

    `with_clock`: with what the lane's row has of them; else the release has written that.
    """
    if not chosen.partitions:  # polls alone take no turns
        return
    kept = lanes_turns(lane.name, chosen)
    if not database.is_sqlite:
        database.execute(_KEEP_TURNS, {**kept, **turns_as_parameter(lane, chosen)}, within=within)
        return
    for row in _rows(lane, chosen):  # a statement costs no round trip there
        statement = _KEEP_CLIENT if row["name"] is None else _KEEP_PARTITION
        values = {f"its_{name}": value for name, value in row.items()}
        database.execute(statement, {**kept, **values}, within=within)
    if with_clock:
        database.execute(_KEEP_CLOCK, kept, within=within)


def lanes_turns(name: str, chosen: Chosen) -> dict[str, Any]:
    """The parameters for what a lane's row has of turns."""
    return {"lane": name, "its_clock": str(chosen.clock), "its_turns": chosen.turns}


def turns_as_parameter(lane: Lane, chosen: Chosen) -> dict[str, str]:
    """The rows of partitions and of clients as a parameter of `upserts`."""
    return as_parameter(_rows(lane, chosen), _GIVEN_TURNS)


def _rows(lane: Lane, chosen: Chosen) -> Sequence[dict[str, Any]]:
    return [*_partition_rows(chosen, lane.jitter), *_client_rows(chosen)]


def _partition_rows(chosen: Chosen, jitter: int) -> Iterator[dict[str, Any]]:
    for each in chosen.partitions.values():
        yield {
            "client": each.client,
            "name": each.name,
            **_share_row(each.share),
            "pace": orjson.dumps(each.pace.as_json()).decode(),
            "next_slot_at": own_next_slot(each.limits, each.pace, jitter),
            "most_open": each.limits.most_open,
            "released": each.released,
            "clock": None,
        }


def _client_rows(chosen: Chosen) -> Iterator[dict[str, Any]]:
    for client, each in chosen.clients.items():
        of_partitions = dict.fromkeys(("pace", "next_slot_at", "most_open", "released"))
        yield {"client": client, "name": None, **_share_row(each.share), **of_partitions, "clock": str(each.clock)}


def _share_row(share: Share) -> dict[str, Any]:
    return {"turn": str(share.turn), "returned": share.returned, "weight": share.weight}


def give_turns_back(within: Connection, lane: str, calls: Sequence[tuple[str, int | None]]) -> None:
    """Gives turns back to the partitions of calls that were surely not made, and to their clients.

    `calls`: of each its partition's key and the slot that it took; that is returned to the partition's own rates.
    """
    slots: dict[tuple[str, str], list[int | None]] = {}
    for key, slot in calls:
        slots.setdefault(named_by(key), []).append(slot)
    for (client, name), taken in sorted(slots.items()):
        of_client = (shared_clients.c.downstream == lane, shared_clients.c.client == client)
        of_partition = (partitions.c.downstream == lane, partitions.c.client == client, partitions.c.name == name)
        turns = len(taken)
        # The lane's row is locked before the others, as by a release.
        changed = count_change(within, lane, turns)
        for table, which in ((shared_clients, of_client), (partitions, of_partition)):
            within.execute(update(table).where(*which).values(returned=table.c.returned + turns, changed=changed))
        pace = rate_limit.Pace.from_json(
            orjson.loads(within.execute(select(partitions.c.pace).where(*of_partition)).scalar() or "{}")
        )
        if pace.log:
            kept = rate_limit.given_back(pace, [slot for slot in taken if slot is not None])
            text = orjson.dumps(kept.as_json()).decode()
            within.execute(update(partitions).where(*of_partition).values(pace=text))


OwnPace: TypeAlias = tuple[rate_limit.Allowance, rate_limit.Pace]
"""A partition's own rates, and what it has used of them."""


def own_pace(within: Connection, lane: Lane, key: str | None) -> OwnPace | None:
    """A partition's own rates and what it has used of them; None: it has none. The lane's row must be locked."""
    if key is None or lane.sharing is None:
        return None
    _, name = named_by(key)
    row = within.execute(select(partitions.c.changes, partitions.c.pace).where(*which(lane.name, key))).first()
    limits = lane.sharing.limits_of(name).changed(orjson.loads(row.changes) if row else {})
    if row is None or not limits.rates:
        return None
    return own_allowance(limits, lane.jitter), rate_limit.Pace.from_json(orjson.loads(row.pace))


def keep_own_pace(within: Connection, lane: str, key: str, own: OwnPace) -> None:
    """Stores what a partition has used of its own rates. The lane's row must be locked."""
    allowance, pace = own
    next_slot_at = from_microseconds(rate_limit.next_slot(allowance, pace, now=pace.last))
    change_partition(within, lane, key, pace=orjson.dumps(pace.as_json()).decode(), next_slot_at=next_slot_at)


def change_partition(within: Connection, lane: str, key: str, **values: Any) -> None:
    """Changes a partition's row. Copies of it are read anew. The lane's row must be locked."""
    changed = count_change(within, lane)
    within.execute(update(partitions).where(*which(lane, key)).values(changed=changed, **values))


def count_change(within: Connection, lane: str, number: int = 1) -> int:
    """Counts changes of partitions or clients in the lane's row, and so locks that; returns the number after them.

    Each row that is changed is to bear it: who has a copy of them reads the rows with a number above the copy's.
    """
    changed = update(downstreams).where(downstreams.c.name == lane).values(turns=downstreams.c.turns + number)
    turns: int = within.execute(changed.returning(downstreams.c.turns)).scalar_one()
    return turns


def calls_behind(within: Connection, lane: str, pair: tuple[str, str], instant: int) -> Sequence[int]:
    """When a partition's calls began, or are to begin, whose slots lie behind an instant.

    Of a partition that had no rates until now, so that nobody counted. The cost grows with the attempts that are kept,
    for there is no index: this is for an operator's change. An attempt that took a slot for each of several calls is
    known by the last.
    """
    slot = type_coerce(attempts.c.slot_at, BigInteger)
    began = func.coalesce(type_coerce(attempts.c.call_started_at, BigInteger), slot)
    is_its = and_(attempts.c.downstream == lane, attempts.c.partition == key_of(*pair))
    was_made = or_(attempts.c.claimed_at.is_not(None), attempts.c.ended_at.is_(None))
    return [max(times) for times in within.execute(select(slot, began).where(is_its, was_made, slot > instant))]


def which(lane: str, key: str) -> Sequence[Any]:
    """Conditions: it is the row of this partition."""
    client, name = named_by(key)
    return partitions.c.downstream == lane, partitions.c.client == client, partitions.c.name == name


_OF_PARTITION = ("client", "name", "turn", "returned", "weight", "pace", "next_slot_at", "most_open", "released")
_GIVEN_TURNS = "given_turns"
_TURNS = bindparam("its_turns", type_=BigInteger())
_OF_CLIENT = ("client", "turn", "returned", "weight", "clock")


def _upsert(
    insert: Any, table: Table, names: Sequence[str], key: Sequence[str], given: FromClause | None, *conditions: Any
) -> Any:
    """INSERT, or UPDATE where there is one: of a row given as parameters, or of all rows of a table that have these."""
    lane = bindparam("lane", type_=partitions.c.downstream.type)
    statement = insert(table)
    if given is None:
        values = {name: bindparam(f"its_{name}", type_=_given_type(table.c[name])) for name in names}
        statement = statement.values(downstream=lane, changed=_TURNS, **values)
    else:
        of_partitions = given.c.name.is_not(None) if table is partitions else given.c.name.is_(None)
        rows = select(lane, _TURNS, *(given.c[name] for name in names)).where(of_partitions, *conditions)
        statement = statement.from_select(["downstream", "changed", *names], rows)
    changed = {name: statement.excluded[name] for name in (*names, "changed") if name not in key}
    return statement.on_conflict_do_update(
        index_elements=[table.c[name] for name in ("downstream", *key)], set_=changed
    )


def _given_type(column: Column[Any]) -> Any:
    """Instants are given in microseconds."""
    return BigInteger() if isinstance(column.type, Instant) else column.type


def upserts(*conditions: Any) -> Sequence[Any]:
    """On PostgreSQL: CTEs that store the turns of partitions and clients, if these conditions hold."""
    columns: dict[str, Any] = {name: _given_type(partitions.c[name]) for name in _OF_PARTITION}
    given = given_rows({**columns, "clock": shared_clients.c.clock.type}, _GIVEN_TURNS, "the_turns")
    return (
        _upsert(postgresql_insert, partitions, _OF_PARTITION, ("client", "name"), given, *conditions).cte(
            "of_partitions"
        ),
        _upsert(postgresql_insert, shared_clients, _OF_CLIENT, ("client",), given, *conditions).cte("of_clients"),
    )


LANES_TURNS = {"shared_clock": bindparam("its_clock", type_=String()), "turns": _TURNS}
"""What a lane's row has of turns, for an UPDATE; `lanes_turns` makes the parameters."""


def _keep_clock() -> Any:
    return update(downstreams).where(downstreams.c.name == bindparam("lane")).values(LANES_TURNS)


_KEEP_TURNS = Prepared(_keep_clock().add_cte(*upserts()), bool, on_sqlite=_keep_clock())
_KEEP_CLOCK = Prepared(_keep_clock(), bool)
_KEEP_PARTITION = Prepared(
    _upsert(postgresql_insert, partitions, _OF_PARTITION, ("client", "name"), None),
    bool,
    on_sqlite=_upsert(sqlite_insert, partitions, _OF_PARTITION, ("client", "name"), None),
)
_KEEP_CLIENT = Prepared(
    _upsert(postgresql_insert, shared_clients, _OF_CLIENT, ("client",), None),
    bool,
    on_sqlite=_upsert(sqlite_insert, shared_clients, _OF_CLIENT, ("client",), None),
)
