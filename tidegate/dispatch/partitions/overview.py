"""Statements on the busiest partitions, and on given ones, for metrics and live page. None reads all partitions."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, Boolean, Integer, Text, bindparam, case, cast, func, literal_column, select
from sqlalchemy import type_coerce as coerced

from tidegate.database.connection import Database
from tidegate.database.schema import attempts, clients, jobs, partition_samples, samples
from tidegate.database.statement import Prepared
from tidegate.database.time import statement_now
from tidegate.dispatch.partitions.busiest import Busiest
from tidegate.dispatch.partitions.sampler import THE_BUSIEST
from tidegate.dispatch.partitions.view import Where
from tidegate.dispatch.places import has_place
from tidegate.jobs.listing import LIMIT
from tidegate.jobs.transitions import IS_WAITING, NOW
from tidegate.states import State

MOST_LANES = 100
"""Of so many shared downstreams, those with the largest backlogs, the busiest partitions are told."""
MOST_ENDED = 5_000
_ALL = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Line:
    """The waiting jobs of a partition: how many, and for how long the first could have gone (below 0: not yet).

    `number` None: not counted. `due_for` None: none waits.
    """

    number: int | None
    due_for: float | None


class PartitionOverviewStore:
    """Statements on partitions that read what is shown, and not every partition there is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def busiest(self) -> tuple[dict[str, Busiest], int]:
        """Samples of the shared downstreams with the largest backlogs; and about how many jobs wait in all others."""
        rows = self._database.fetch_all(_BUSIEST, {"most": MOST_LANES})
        others = max(0, rows[0][3] - sum(backlog for _, backlog, *_ in rows)) if rows else 0
        return {lane: Busiest.from_json(text) for lane, _, text, _ in rows}, others

    def places(self) -> dict[Where, int]:
        """How many places the partitions of all downstreams have taken: as many entries are read as calls are open."""
        return dict(self._database.fetch_all(_PLACES))

    def lines(self, partitions: Collection[Where], *, counted: bool) -> dict[Where, Line]:
        """The lines of these partitions: an index step each and, if `counted`, an entry for each of their jobs.

        Raises DatabaseTooSlowError.
        """
        given = orjson.dumps([orjson.dumps([*each]).decode() for each in sorted(partitions)]).decode()
        statement = _LINES_ON_SQLITE if self._database.is_sqlite else _LINES
        asked = statement.params(partitions=given, counted=counted)
        rows = self._database.fetch_in_order(asked, limit=LIMIT) if partitions else ()
        return dict(_read_line(row._asdict()) for row in rows)

    def ended(self, since: datetime) -> dict[str, dict[str, int]]:
        """How many calls ended with their jobs since an instant of a moment ago, by downstream and partition.

        The latest MOST_ENDED jobs are counted.
        """
        found: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for lane, key, number in self._database.fetch_all(_ENDED, {"since": since, "most": MOST_ENDED}):
            found[lane][key] = number
        return dict(found)

    def names(self, ids: Collection[str]) -> dict[str, str]:
        """The names of clients, by id."""
        named = select(clients.c.id, clients.c.name).where(clients.c.id.in_(sorted(ids)))
        return {row.id: row.name for row in self._database.fetch_all(named)} if ids else {}

    def ids_like(self, text: str, *, most: int) -> Sequence[str]:
        """The ids of clients in whose name this text stands, so many at the most."""
        named = select(clients.c.id).where(clients.c.name.icontains(text, autoescape=True)).limit(most)
        return [row.id for row in self._database.fetch_all(named)]


def _busiest() -> Any:
    of_busiest = partition_samples.c.client == literal_column(f"'{THE_BUSIEST}'")
    shared = samples.join(partition_samples, partition_samples.c.downstream == samples.c.downstream)
    every = select(func.coalesce(func.sum(samples.c.backlog), 0)).select_from(shared).where(of_busiest)
    return (
        select(
            samples.c.downstream, samples.c.backlog, partition_samples.c.crowd, every.scalar_subquery().label("every")
        )
        .select_from(shared)
        .where(of_busiest)
        .order_by(samples.c.backlog.desc(), samples.c.downstream)
        .limit(bindparam("most", type_=Integer))
    )


def _lines(given: Any, part: Callable[[Any, int], Any]) -> Any:
    lane, key = part(given.c.value, 0), part(given.c.value, 1)
    waits = (jobs.c.downstream == lane, jobs.c.partition == key, IS_WAITING)
    in_order = select(coerced(jobs.c.run_at, BigInteger)).where(*waits).order_by(jobs.c.rank_at, jobs.c.id)
    first = in_order.limit(1)
    # In order as well, though it counts all: by old statistics PostgreSQL would read every job of the lane.
    every = in_order.limit(_ALL).correlate(given).subquery()
    number = select(func.count()).select_from(every).scalar_subquery()
    return select(
        given.c.value.label("partition"),
        case((bindparam("counted", type_=Boolean), number), else_=None).label("number"),
        (NOW - first.correlate(given).scalar_subquery()).label("due_for"),
    )


def _read_line(row: Mapping[str, Any]) -> tuple[Where, Line]:
    due_for = None if row["due_for"] is None else row["due_for"] / 1e6
    return Where(*orjson.loads(row["partition"])), Line(number=row["number"], due_for=due_for)


def _ended() -> Any:
    of_calls = jobs.c.state.in_([literal_column(f"'{state}'") for state in (State.FAILED, State.SUCCEEDED)])
    lately = (
        select(jobs.c.downstream, jobs.c.partition)
        .where(jobs.c.finished_at > bindparam("since", type_=jobs.c.finished_at.type), of_calls)
        .where(jobs.c.finished_at <= statement_now())
        .order_by(jobs.c.finished_at.desc())
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )
    of_each = select(lately.c.downstream, lately.c.partition, func.count().label("number"))
    return of_each.where(lately.c.partition.is_not(None)).group_by(lately.c.downstream, lately.c.partition)


_GIVEN = cast(bindparam("partitions", type_=Text()), JSON)
_BUSIEST = Prepared(_busiest(), lambda row: (row["downstream"], row["backlog"], row["crowd"], int(row["every"])))
_PLACES = Prepared(
    select(attempts.c.downstream, attempts.c.partition, func.count().label("number"))
    .where(has_place(), attempts.c.partition.is_not(None))
    .group_by(attempts.c.downstream, attempts.c.partition),
    lambda row: (Where(row["downstream"], row["partition"]), row["number"]),
)
_LINES = _lines(
    func.json_array_elements_text(_GIVEN).table_valued("value", name="given").render_derived(),
    lambda value, at: cast(value, JSON).op("->>", return_type=Text())(literal_column(str(at))),
)
_LINES_ON_SQLITE = _lines(
    func.json_each(bindparam("partitions", type_=Text())).table_valued("value", name="given"),
    lambda value, at: func.json_extract(value, literal_column(f"'$[{at}]'"), type_=Text()),
)
_ENDED = Prepared(_ended(), lambda row: (row["downstream"], row["partition"], row["number"]))
