"""Statements on partitions: which have jobs waiting, their rows, first jobs and open calls, and the turns they take."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Integer,
    ScalarSelect,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    func,
    select,
    true,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from tidegate import rate_limit
from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.json_rows import PARAMETER, given_rows
from tidegate.database.schema import attempts, jobs, partitions, shared_clients
from tidegate.database.statement import Prepared
from tidegate.database.time import Instant, statement_now
from tidegate.dispatch.announced import from_json
from tidegate.dispatch.lane import WaitingJob
from tidegate.dispatch.lane_reads import WAITING_COLUMNS
from tidegate.dispatch.partitions.partition import Heads, Partition, SharedClient
from tidegate.dispatch.places import is_held, may_kill_no_other
from tidegate.fairness import Share
from tidegate.jobs.transitions import IN_TIME, IS_POLLED, IS_WAITING
from tidegate.operations.sharing import USUAL_PRIORITY, PartitionLimits, Sharing, named_by

_ROWS = 500
# Jobs that may not run yet are looked for among so many of a partition.
_LOOKED_THROUGH = 100
SURVEY_LIMIT = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class PartitionChanges:
    """Rows that were written since some number of the lane's; `turns`: the highest among theirs."""

    partitions: Mapping[str, Partition]
    clients: Mapping[str, SharedClient]
    turns: int


class PartitionStore:
    """Statements on the partitions of a downstream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def adopt(self, lane: str, sharing: Sharing) -> int:
        """Takes waiting jobs into their clients' partitions that were submitted before the lane was shared."""
        behind = USUAL_PRIORITY * sharing.priority_step // MICROSECOND
        rank_at = type_coerce(type_coerce(jobs.c.run_at, BigInteger) + behind, Instant())
        is_here = and_(jobs.c.downstream == lane, IS_WAITING, jobs.c.partition.is_(None))
        key = jobs.c.client_id.concat("/")
        return self._database.execute(update(jobs).where(is_here).values(partition=key, rank_at=rank_at))

    def active(self, lane: str) -> list[str]:
        """The keys of the partitions in which jobs wait: an index step each (a loose index scan)."""
        return self._in_order(_ACTIVE.params(lane=lane))

    def some_active(self, lane: str, most: int) -> list[str]:
        """As `active`, so many at the most."""
        return self._in_order(_ACTIVE.params(lane=lane).limit(most))

    def _in_order(self, keys: Any) -> list[str]:
        # By the index of due jobs, the cheaper one while both are small, each step would sort all that waits.
        return [key for (key,) in self._database.fetch_in_order(keys, limit=SURVEY_LIMIT) if key is not None]

    def read(self, lane: str, sharing: Sharing, keys: Collection[str]) -> dict[str, Partition]:
        """Reads partitions by key; one that has no row yet is as it is declared."""
        found: dict[str, Partition] = {}
        pairs = [named_by(key) for key in keys]
        for first in range(0, len(pairs), _ROWS):
            some = pairs[first : first + _ROWS]
            which = tuple_(partitions.c.client, partitions.c.name).in_(some)
            rows = self._database.fetch_all(select(partitions).where(partitions.c.downstream == lane, which))
            stored = {(row.client, row.name): row for row in rows}
            for client, name in some:
                each = _partition(sharing.limits_of(name), client, name, stored.get((client, name)))
                found[each.key] = each
        return found

    def read_with_clients(
        self, lane: str, sharing: Sharing, keys: Collection[str]
    ) -> tuple[dict[str, Partition], dict[str, SharedClient]]:
        """As `read`, in one statement with their clients; one of these that has no row yet begins."""
        found: dict[str, Partition] = {}
        clients: dict[str, SharedClient] = {}
        given = orjson.dumps([{"client": client, "name": name} for client, name in map(named_by, keys)]).decode()
        for row, of_client in self._database.fetch_all(_WITH_CLIENTS, {"lane": lane, PARAMETER: given}):
            client, name = row.its_client, row.its_name
            stored = row if row.downstream is not None else None
            each = _partition(sharing.limits_of(name), client, name, stored)
            found[each.key] = each
            clients[client] = _client(of_client) if of_client else SharedClient(share=Share())
        return found, clients

    def changes(self, lane: str, sharing: Sharing, *, since: int) -> "PartitionChanges":
        """Reads the partitions and clients whose rows were written since this number of the lane's."""
        asked = {"lane": lane, "since": since}
        rows = self._database.fetch_all(_CHANGED, asked)
        found = [_partition(sharing.limits_of(row.name), row.client, row.name, row) for row in rows]
        of_clients = self._database.fetch_all(_CHANGED_CLIENTS, asked)
        return PartitionChanges(
            partitions={each.key: each for each in found},
            clients={row.client: _client(row) for row in of_clients},
            turns=max((row.changed for row in (*rows, *of_clients)), default=since),
        )

    def opened(self, lane: str) -> dict[str, int]:
        """How many calls are open, by partition."""
        return dict(self._database.fetch_all(_OPENED, {"lane": lane}))

    def heads(
        self, lane: str, keys: Collection[str], *, most: int, queues: Collection[str], without: Collection[str]
    ) -> dict[str, Heads]:
        """The first jobs of some partitions that may go, in their order, at most so many of each.

        Jobs of other queues, and of the operations `without`, are passed over.
        """
        asked = {"lane": lane, "most": most, **_given(keys, without, queues)}
        return dict(self._database.fetch_all(_HEADS, asked))

    def strict_heads(self, lane: str, keys: Collection[str]) -> dict[str, Heads]:
        """As `heads`, of partitions that keep the order of submit: the very first job, if it may run."""
        return dict(self._database.fetch_all(_STRICT_HEADS, {"lane": lane, "most": 1, **_given(keys)}))


def _partition(declared: PartitionLimits, client: str, name: str, row: Any) -> Partition:
    if row is None:
        return Partition(client=client, name=name, share=Share(weight=declared.weight), limits=declared)
    limits = declared.changed(orjson.loads(row.changes))
    share = Share(weight=row.weight, turn=int(row.turn), returned=row.returned)
    pace = rate_limit.Pace.from_json(orjson.loads(row.pace))
    return Partition(
        client=client,
        name=name,
        share=share,
        limits=limits,
        paused=row.paused,
        pace=pace,
        rested_until=to_microseconds(row.rests_until) if row.rests_until else 0,
        budgets=from_json(orjson.loads(row.announced or "{}")),
        released=row.released,
    )


def _client(row: Any) -> SharedClient:
    share = Share(weight=row.weight, turn=int(row.turn), returned=row.returned)
    return SharedClient(share=share, clock=int(row.clock))


def _columns_of(table: Table) -> list[Any]:
    # A float as the driver gives it; SQLAlchemy would take it for a decimal that is to be converted.
    return [type_coerce(each, NullType()).label(each.name) if each is table.c.weight else each for each in table.c]


def _changed(table: Table) -> Any:
    return select(*_columns_of(table)).where(
        table.c.downstream == bindparam("lane"), table.c.changed > bindparam("since")
    )


_CLIENT = ("weight", "turn", "returned", "clock")


def _with_clients(given: Any, client: Any, name: Any, *, looks_up: bool) -> Any:
    """The rows of given partitions and of their clients. `looks_up`: each by its key, whatever is thought of tables."""
    is_its_client = and_(shared_clients.c.downstream == bindparam("lane"), shared_clients.c.client == client)
    is_its = and_(
        partitions.c.downstream == bindparam("lane"), partitions.c.client == client, partitions.c.name == name
    )
    columns = {each.name: each for each in _columns_of(shared_clients)}
    of_client = [columns[name].label(f"client_{name}") for name in _CLIENT]
    of_partition = _columns_of(partitions)
    wanted = [client.label("its_client"), name.label("its_name")]
    if not looks_up:
        both = given.outerjoin(partitions, is_its).outerjoin(shared_clients, is_its_client)
        return select(*wanted, *of_partition, *of_client).select_from(both)
    row = select(*of_partition).where(is_its).limit(1).lateral("its_row")
    row_of_client = select(*of_client).where(is_its_client).limit(1).lateral("row_of_client")
    both = given.outerjoin(row, true()).outerjoin(row_of_client, true())
    return select(*wanted, *row.c, *row_of_client.c).select_from(both)


def _with_clients_on_postgresql() -> Any:
    given = given_rows({"client": Text(), "name": Text()})
    return _with_clients(given, given.c.client, given.c.name, looks_up=True)


def _with_clients_on_sqlite() -> Any:
    given = func.json_each(bindparam(PARAMETER, type_=Text())).table_valued("value", name="given")
    client, name = (func.json_extract(given.c.value, f"$.{which}", type_=Text()) for which in ("client", "name"))
    return _with_clients(given, client, name, looks_up=False)


def _read_with_client(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """The row of a partition, as far as there is one, and that of its client."""
    client = {name: row[f"client_{name}"] for name in _CLIENT}
    return SimpleNamespace(**row), SimpleNamespace(**client) if client["turn"] is not None else None


def _active() -> Any:
    here = and_(jobs.c.downstream == bindparam("lane"), IS_WAITING)
    found = select(first_key(here, jobs.c.partition > "").label("key")).cte("found", recursive=True)
    following = first_key(here, jobs.c.partition > found.c.key)
    return select(found.union_all(select(following).where(found.c.key.is_not(None))).c.key)


def first_key(*conditions: ColumnElement[bool]) -> ScalarSelect[str]:
    """The lowest key of partitions with such jobs. Not min(): PostgreSQL may read all of what it takes for one row."""
    return select(jobs.c.partition).where(*conditions).order_by(jobs.c.partition).limit(1).scalar_subquery()


def _given(keys: Collection[str], without: Collection[str] = (), queues: Collection[str] = ()) -> dict[str, str]:
    given = {"keys": keys, "without": without, "queues": queues}
    return {name: orjson.dumps(sorted(names)).decode() for name, names in given.items()}


def _heads(all_of: Any, array_of: Any, given: Callable[[str], Any], *, is_strict: bool) -> Any:
    keys, without, queues = given("keys"), given("without"), given("queues")
    waits = and_(
        jobs.c.downstream == bindparam("lane"), jobs.c.partition == keys.c.value, IS_WAITING, ~IS_POLLED, IN_TIME
    )
    in_order = select(*WAITING_COLUMNS).where(waits).order_by(jobs.c.rank_at, jobs.c.id)
    most = bindparam("most", type_=Integer)
    if is_strict:
        first = in_order.limit(most).correlate(keys).subquery()
        may_run = first.c.run_at <= type_coerce(statement_now(), BigInteger)
        each = select(first).where(may_run, may_kill_no_other(first)).subquery()
    else:
        is_known = jobs.c.operation.not_in(select(without.c.value))
        is_asked = jobs.c.queue.in_(select(queues.c.value))
        may_go = (jobs.c.run_at <= statement_now(), is_asked, is_known, may_kill_no_other())
        each = in_order.where(*may_go).limit(most).correlate(keys).subquery()
    ranked = select(jobs.c.run_at).where(waits).order_by(jobs.c.rank_at, jobs.c.id).limit(_LOOKED_THROUGH)
    later = ranked.correlate(keys).subquery()
    next_run_at = select(func.min(type_coerce(later.c.run_at, BigInteger))).where(later.c.run_at > statement_now())
    return select(
        keys.c.value.label("key"),
        select(cast(all_of(array_of(*each.c)), Text)).scalar_subquery().label("jobs"),
        next_run_at.scalar_subquery().label("next_run_at"),
        most.label("most"),
    )


def _read_heads(row: Mapping[str, Any]) -> tuple[str, Heads]:
    found = [WaitingJob(*each) for each in orjson.loads(row["jobs"] or "[]")]
    return row["key"], Heads(jobs=found, is_all=len(found) < row["most"], next_run_at=row["next_run_at"])


def _on_postgresql(name: str) -> Any:
    texts = func.json_array_elements_text(cast(bindparam(name, type_=Text()), JSON))
    return texts.table_valued("value", name=f"the_{name}").render_derived()


def _on_sqlite(name: str) -> Any:
    return func.json_each(bindparam(name, type_=Text())).table_valued("value", name=f"the_{name}")


_ACTIVE = _active()
_CHANGED = Prepared(_changed(partitions), lambda row: SimpleNamespace(**row))
_CHANGED_CLIENTS = Prepared(_changed(shared_clients), lambda row: SimpleNamespace(**row))
_WITH_CLIENTS = Prepared(_with_clients_on_postgresql(), _read_with_client, on_sqlite=_with_clients_on_sqlite())
_OPENED = Prepared(
    select(attempts.c.partition, func.count().label("number"))
    .where(attempts.c.downstream == bindparam("lane"), is_held(), attempts.c.partition.is_not(None))
    .group_by(attempts.c.partition),
    lambda row: (row["partition"], row["number"]),
)
_ARRAYS, _ARRAYS_ON_SQLITE = (func.json_agg, func.json_build_array), (func.json_group_array, func.json_array)
_HEADS = Prepared(
    _heads(*_ARRAYS, _on_postgresql, is_strict=False),
    _read_heads,
    on_sqlite=_heads(*_ARRAYS_ON_SQLITE, _on_sqlite, is_strict=False),
)
_STRICT_HEADS = Prepared(
    _heads(*_ARRAYS, _on_postgresql, is_strict=True),
    _read_heads,
    on_sqlite=_heads(*_ARRAYS_ON_SQLITE, _on_sqlite, is_strict=True),
)
