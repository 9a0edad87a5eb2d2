"""Counts the jobs of one partition, in its order, for forecasts and admission."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    select,
    type_coerce,
)

from tidegate import rate_limit
from tidegate.clock import from_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs, partition_samples, partitions
from tidegate.database.statement import Prepared, required
from tidegate.dispatch.announced import from_json, rests_until
from tidegate.dispatch.partitions.crowd import Crowd
from tidegate.dispatch.partitions.forecast import PartitionCount
from tidegate.dispatch.partitions.sampler import AMONG_CLIENTS
from tidegate.dispatch.partitions.store import SURVEY_LIMIT, first_key
from tidegate.dispatch.places import is_held
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.operations.sharing import key_of, named_by

# So many first jobs of a partition are looked at one by one; behind them positions are interpolated.
_MOST_ROWS = 5_000
_MOST_MARKS = 250


class PartitionCountStore:
    """The statements that count one partition, and a client's partitions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, lane: str, key: str) -> PartitionCount:
        """Counts a partition now. Its cost grows with its jobs, an index entry each, and with no others."""
        client, name = named_by(key)
        asked = {"lane": lane, "key": key, "client": client, "name": name}
        return required(self._database.fetch_one(_COUNT, asked))

    def number_of(self, lane: str, client: str, *, most: int) -> int:
        """In how many partitions of a client jobs wait, up to `most`: an index step each."""
        asked = _NUMBER.params(lane=lane, first=key_of(client, ""), most=most)
        return int(self._database.fetch_in_order(asked, limit=SURVEY_LIMIT)[0].number)


_OF_REST: Sequence[tuple[ColumnElement[Any], Any]] = (
    (partitions.c.rests_until, BigInteger()),
    (partitions.c.announced, Text()),
    (partitions.c.released, BigInteger()),
)


def _count(array: Any, pair: Any) -> Select[Any]:
    lane, key = bindparam("lane", type_=Text()), bindparam("key", type_=Text())
    waits = and_(jobs.c.downstream == lane, jobs.c.partition == key, IS_WAITING)
    order = (jobs.c.rank_at, jobs.c.id)
    here = (
        select(jobs.c.rank_at, (func.row_number().over(order_by=order) - 1).label("before"))
        .where(waits)
        .order_by(*order)
        .limit(_MOST_ROWS)
        .cte("here")
        .prefix_with("MATERIALIZED")
    )
    seen = select(func.count()).select_from(here).scalar_subquery()
    every = case((seen <= _MOST_MARKS, 1), else_=seen // _MOST_MARKS)
    marks = select(array(pair(type_coerce(here.c.rank_at, BigInteger), here.c.before)))
    row = and_(
        partitions.c.downstream == lane,
        partitions.c.client == bindparam("client", type_=Text()),
        partitions.c.name == bindparam("name", type_=Text()),
    )
    is_open = (attempts.c.downstream == lane, attempts.c.partition == key, is_held())

    def crowd(client: Any) -> Any:
        sample = and_(partition_samples.c.downstream == lane, partition_samples.c.client == client)
        return select(partition_samples.c.crowd).where(sample).scalar_subquery()

    return select(
        NOW.label("now"),
        select(func.count()).select_from(jobs).where(waits).scalar_subquery().label("number"),
        select(type_coerce(func.max(jobs.c.rank_at), BigInteger)).where(waits).scalar_subquery().label("last"),
        cast(marks.where((here.c.before % every == 0) | (here.c.before == seen - 1)).scalar_subquery(), Text).label(
            "marks"
        ),
        select(func.count()).select_from(attempts).where(*is_open).scalar_subquery().label("opened"),
        select(partitions.c.changes).where(row).scalar_subquery().label("changes"),
        select(partitions.c.paused).where(row).scalar_subquery().label("paused"),
        select(partitions.c.pace).where(row).scalar_subquery().label("pace"),
        *(
            select(type_coerce(column, kind)).where(row).scalar_subquery().label(column.name)
            for column, kind in _OF_REST
        ),
        crowd(AMONG_CLIENTS).label("among"),
        crowd(bindparam("client", type_=Text())).label("within"),
    )


def _read(row: Mapping[str, Any]) -> PartitionCount:
    marks = sorted(orjson.loads(row["marks"] or "[]"))
    if marks and marks[-1][1] < row["number"] - 1 and row["last"] > marks[-1][0]:
        marks.append((row["last"], row["number"] - 1))
    budgets, released = from_json(orjson.loads(row["announced"] or "{}")), row["released"] or 0
    used_up = rests_until(budgets, released=released, now=row["now"]) or 0
    until = max(row["rests_until"] or 0, used_up)
    return PartitionCount(
        now=from_microseconds(row["now"]),
        number=row["number"],
        marks=tuple((from_microseconds(rank_at), before) for rank_at, before in marks),
        opened=row["opened"],
        changes=orjson.loads(row["changes"] or "{}"),
        paused=bool(row["paused"]),
        rests_until=from_microseconds(until) if until > row["now"] else None,
        pace=rate_limit.Pace.from_json(orjson.loads(row["pace"] or "{}")),
        among=Crowd.from_json(row["among"]) if row["among"] else None,
        within=Crowd.from_json(row["within"]) if row["within"] else None,
    )


def _number() -> Select[Any]:
    first = bindparam("first", type_=Text())
    here = and_(jobs.c.downstream == bindparam("lane", type_=Text()), IS_WAITING)
    is_first = jobs.c.partition >= first
    found = select(first_key(here, is_first).label("key")).cte("found", recursive=True)
    following = first_key(here, jobs.c.partition > found.c.key)
    of_client = func.substr(found.c.key, 1, func.length(first)) == first
    each = found.union_all(select(following).where(of_client))
    keys = select(each.c.key).where(func.substr(each.c.key, 1, func.length(first)) == first)
    some = keys.limit(bindparam("most", type_=Integer)).subquery()
    return select(func.count().label("number")).select_from(some)


_COUNT = Prepared(
    _count(func.json_agg, func.json_build_array), _read, on_sqlite=_count(func.json_group_array, func.json_array)
)
_NUMBER = _number()
