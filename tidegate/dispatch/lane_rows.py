"""Reads the rows of lanes, each a downstream with its last sample: some or all, and of them only what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ColumnElement,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.types import UserDefinedType

from tidegate import rate_limit
from tidegate.clock import EPOCH, from_microseconds, to_microseconds
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, downstreams, samples
from tidegate.database.statement import Prepared, required
from tidegate.database.time import database_now
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.lane import allowance_of
from tidegate.dispatch.limits import downstream_of
from tidegate.dispatch.places import has_place
from tidegate.dispatch.sample import Sample
from tidegate.dispatch.samples import sample_at, sample_of

_OF_DOWNSTREAM = (
    *("name", "rates", "burst", "concurrency", "breaker_after", "jitter", "declared", "changes", "pace", "released"),
    *("paused", "paused_until", "refusals", "failures", "announced", "companions"),
)
_OF_SAMPLE = (
    *("taken_at", "backlog", "by_client", "marks", "held", "released", "companions", "per_second", "held_mean", "fill"),
)
_TAKEN_AT = len(_OF_DOWNSTREAM)
_MOST_BY_NAME, _MOST_BY_NAME_ON_SQLITE = 500, 100_000
_BACKLOG, _VERSION_AT = _TAKEN_AT + 1, _TAKEN_AT + len(_OF_SAMPLE)


class LaneRow:
    """One lane as its rows were. They are parsed when somebody asks, and once."""

    def __init__(self, columns: Sequence[Any]) -> None:
        self.columns = columns

    @property
    def version(self) -> str | None:
        """Changes with every write, on SQLite; None: see the version of `LaneRows`."""
        return self.columns[_VERSION_AT]  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The downstream's name."""
        return str(self.columns[0])

    @property
    def backlog(self) -> int:
        """How many jobs were queued at the last sample."""
        return self.columns[_BACKLOG] or 0

    def is_like(self, other: "LaneRow") -> bool:
        """Whether the rows are the same."""
        return self.columns == other.columns

    def downstream(self, now: datetime) -> Downstream:
        """The downstream as it is at this instant of the database's clock if nothing wrote its row."""
        row, allowance = self._downstream
        slot = rate_limit.next_slot(allowance, row.pace, now=to_microseconds(now))
        return replace(row, seen_at=now, next_slot_at=from_microseconds(slot))

    def sample(self, now: datetime) -> Sample | None:
        """What the last sample says by then; None: there is none."""
        return sample_at(self._sample, now) if self._sample else None

    @cached_property
    def _downstream(self) -> tuple[Downstream, rate_limit.Allowance]:
        values = dict(zip(_OF_DOWNSTREAM, self.columns, strict=False))
        until = values["paused_until"]
        paused = {"paused": bool(values["paused"]), "paused_until": None if until is None else from_microseconds(until)}
        row = SimpleNamespace(**{**values, **paused})
        return downstream_of(row, EPOCH), allowance_of(orjson.loads(row.rates), row.burst, row.jitter)

    @cached_property
    def _sample(self) -> Sample | None:
        if self.columns[_TAKEN_AT] is None:
            return None
        values = dict(zip(_OF_SAMPLE, self.columns[_TAKEN_AT:], strict=False))
        taken_at = from_microseconds(values["taken_at"])
        return sample_of(SimpleNamespace(**{**values, "taken_at": taken_at, "downstream": self.name}))


@dataclass(frozen=True, kw_only=True)
class LaneRows:
    """The answer to one read. `now`: the database's clock. `rows`: those asked for that may have changed.

    `version`: the state of the database that was read; None: each row has its own. `number`: how many of the lanes that
    were asked for there are, changed or not. `held`: places taken in all lanes.
    """

    now: datetime
    version: str | None
    number: int
    held: int
    rows: Sequence[LaneRow]


class LaneRowStore:
    """The statement that reads lanes for forecasts and admission."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.most_by_name = _MOST_BY_NAME_ON_SQLITE if database.is_sqlite else _MOST_BY_NAME
        """Of more lanes it is cheaper to read all that changed."""

    def read(self, known: Mapping[str, LaneRow | None], *, since: str | None) -> LaneRows:
        """Reads those of these lanes that were written after they were read; those without a row in any case.

        `since`: a `version` that none of the rows is older than.
        """
        if self._database.is_sqlite:
            versions = {name: row and row.version for name, row in known.items()}
            return required(self._database.fetch_one(_SOME, {"names": orjson.dumps(versions).decode()}))
        anew = [name for name, row in known.items() if row is None]
        names, anew_names = orjson.dumps(list(known)).decode(), orjson.dumps(anew).decode()
        return required(self._database.fetch_one(_SOME, {"names": names, "anew": anew_names, "since": since}))

    def read_all(self, *, since: str | None) -> LaneRows:
        """Reads every lane that was written after this state of the database was read; None: every lane."""
        return required(self._database.fetch_one(_ALL, {} if self._database.is_sqlite else {"since": since}))


def _read(row: Mapping[str, Any]) -> LaneRows:
    return LaneRows(
        now=row["now"],
        version=row["version"],
        number=row["number"],
        held=row["held"],
        rows=[LaneRow(columns) for columns in orjson.loads(row["rows"] or "[]")],
    )


class _Xid(UserDefinedType[str]):
    """PostgreSQL's number of a transaction, 32 bits."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Returns its name in SQL."""
        return "xid"


_COLUMNS = [
    type_coerce(column, BigInteger) if name in {"paused_until", "taken_at"} else column
    for table, names in ((downstreams, _OF_DOWNSTREAM), (samples, _OF_SAMPLE))
    for name, column in ((name, table.c[name]) for name in names)
]
_LANES = downstreams.outerjoin(samples, samples.c.downstream == downstreams.c.name)


def _statement(rows: ColumnElement[Any], *, number: ColumnElement[int], version: ColumnElement[Any]) -> Select[Any]:
    """The SELECT of LaneRows. The rows come as one JSON text: as rows of the driver they take several times as long."""
    return select(
        database_now().label("now"),
        version.label("version"),
        number.label("number"),
        select(func.count()).select_from(attempts).where(has_place()).scalar_subquery().label("held"),
        cast(rows, Text).label("rows"),
    )


def _array(of: Select[Any]) -> ColumnElement[Any]:
    """A list as an array: with the keys in its hand PostgreSQL looks them up, whatever it believes of the table."""
    return func.array(of.scalar_subquery(), type_=ARRAY(Text))


def _given(parameter: str) -> Select[Any]:
    """The names of a JSON list."""
    names = func.json_array_elements_text(cast(bindparam(parameter, type_=Text()), JSON)).table_valued("value")
    return select(names.c.value)


def _is_since(table: str) -> ColumnElement[bool]:
    """Whether a row version was perhaps not seen by a look of this state.

    It was written by a transaction that ran then or began later: its number is not below the lowest that ran.
    """
    since: ColumnElement[int] = func.age(cast(bindparam("since", type_=Text()), _Xid()), type_=BigInteger)
    return func.age(literal_column(f"{table}.xmin"), type_=BigInteger) <= func.coalesce(since, 2**31)


def _on_postgresql(*, is_some: bool) -> Select[Any]:
    # In order: by the index where the table is nearly empty, which is after somebody held on to old row versions.
    changed = [
        select(downstreams.c.name).where(_is_since("downstreams")).order_by(downstreams.c.name),
        select(samples.c.downstream).where(_is_since("samples")).order_by(samples.c.downstream),
    ]
    number = select(func.count()).select_from(downstreams)
    if is_some:
        names = _array(_given("names"))
        changed = [
            changed[0].where(downstreams.c.name == any_(names)),
            changed[1].where(samples.c.downstream == any_(names)),
            _given("anew"),
        ]
        number = number.where(downstreams.c.name == any_(names))
    rows = select(func.json_agg(func.json_build_array(*_COLUMNS, null())))
    wanted = select(union_all(*changed).subquery().c[0])
    rows = rows.select_from(_LANES).where(downstreams.c.name == any_(_array(wanted)))
    version = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), _Xid()), Text)
    return _statement(rows.scalar_subquery(), number=number.scalar_subquery(), version=version)


def _on_sqlite(*, is_some: bool) -> Select[Any]:
    version: ColumnElement[str] = func.coalesce(type_coerce(samples.c.taken_at, Text), "")
    for name in _OF_DOWNSTREAM:
        if name not in {"name", "declared"}:  # what is declared is in force, or an operator's change is
            version = version.concat("/").concat(_text(downstreams.c[name]))
    rows: Any = func.json_group_array(func.json_array(*_COLUMNS, version))
    if not is_some:
        lanes = select(rows.label("rows"), func.count().label("number")).select_from(_LANES).subquery()
        return _statement(lanes.c.rows, number=lanes.c.number, version=null())
    given = func.json_each(bindparam("names", type_=Text())).table_valued("key", "value")
    of_given = given.join(downstreams, downstreams.c.name == given.c.key).outerjoin(
        samples, samples.c.downstream == downstreams.c.name
    )
    rows = rows.filter(version.is_distinct_from(given.c.value))
    lanes = select(rows.label("rows"), func.count().label("number")).select_from(of_given).subquery()
    return _statement(lanes.c.rows, number=lanes.c.number, version=null())


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    text = type_coerce(column, Text)
    return func.coalesce(text, "") if column.nullable else text


_SOME = Prepared(_on_postgresql(is_some=True), _read, on_sqlite=_on_sqlite(is_some=True))
_ALL = Prepared(_on_postgresql(is_some=False), _read, on_sqlite=_on_sqlite(is_some=False))
