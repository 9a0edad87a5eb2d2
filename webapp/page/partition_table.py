"""The data of a downstream's table of partitions: a page of them, read anew by itself while it is looked at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated
from urllib.parse import urlencode

from jinja2 import Environment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate import clock, rate_limit
from tidegate.clock import to_microseconds
from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.partitions.overview import Line
from tidegate.dispatch.partitions.partition import own_allowance
from tidegate.dispatch.partitions.view import CURSOR_PATTERN, Name, PartitionView, Sort, Where
from tidegate.errors import InvalidQuery, UnknownDownstream
from tidegate.operations.sharing import key_of
from tidegate.rate import Rate
from webapp.context import Context
from webapp.page.partition_names import ClientNames, PartitionName
from webapp.page.parts import Parts, written

SHOWN = 50
PARTS = ("table",)
_MOST_CLIENTS = 1_000
# All partitions are looked at again, for what they share, after so long or so many times as long as that took.
_LIST_SECONDS, _LIST_REST = 10.0, 50


class PartitionSearch(BaseModel):
    """What a table of partitions shows: those in whose name, or client's name, `q` stands; from `cursor` on."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    q: Annotated[str, Field(max_length=100)] = ""
    sort: Sort = "waiting"
    cursor: Annotated[str, Field(pattern=CURSOR_PATTERN)] | None = None

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "PartitionSearch":
        """Reads a query; raises InvalidQuery. What is left empty is not asked for."""
        try:
            return cls.model_validate({name: value.strip() for name, value in given.items() if value.strip()})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise InvalidQuery(f"{fault['loc'][0]}: {fault['msg']}") from None

    def query(self, **other: str | None) -> str:
        """The query of a URL for the same, but for these."""
        given = {**self.model_dump(), **other}
        return "?" + urlencode({name: value for name, value in given.items() if value and (name, value) != _USUAL})


_USUAL = ("sort", "waiting")


@dataclass(frozen=True, kw_only=True)
class PartitionRow:
    """A partition in the table. `used`: of each of its own rates, and how many calls of it count now."""

    view: PartitionView
    name: PartitionName
    share: float | None
    used: Sequence[tuple[str, int]]
    why: str

    @property
    def key(self) -> str:
        """What tells it from all others of the downstream."""
        return key_of(self.view.client, self.view.name)


@dataclass(frozen=True, kw_only=True)
class PartitionTable:
    """A page of a downstream's partitions, which stays the same ones in the same order while it is shown."""

    lane: str
    search: PartitionSearch
    pairs: Sequence[Name]
    shares: Mapping[Name, float | None]
    cursor: str | None
    listed_at: float
    took: float
    names: ClientNames = field(compare=False)

    @classmethod
    def read(cls, own: Context, lane: str, search: PartitionSearch) -> "PartitionTable":
        """Looks at all partitions, once; raises UnknownDownstream, NotShared, DatabaseTooSlowError, InvalidQuery."""
        if "\0" in lane:  # PostgreSQL refuses a parameter with a NUL
            raise UnknownDownstream(f"there is no downstream {lane!r}")
        began = clock.monotonic()
        text = search.q.casefold()
        like: Collection[str] = ()
        if own.authenticator is not None and text and "\0" not in text:
            like = {*own.store.partition_overview.ids_like(search.q, most=_MOST_CLIENTS), search.q}

        def fits(pair: Name) -> bool:
            return text in pair[1].casefold() or pair[0] in like

        page = own.store.partitions.list_partitions(
            lane, sort=search.sort, limit=SHOWN, cursor=search.cursor, fits=fits if text else None
        )
        return cls(
            lane=lane,
            search=search,
            pairs=[(each.client, each.name) for each in page.partitions],
            shares={(each.client, each.name): each.share for each in page.partitions},
            cursor=page.cursor,
            listed_at=began,
            took=clock.monotonic() - began,
            names=ClientNames(own.store.partition_overview),
        )

    def moved_on(self, own: Context) -> "PartitionTable":
        """With what they share now, if that is worth another look at all; they stay in their order."""
        if clock.monotonic() - self.listed_at < max(_LIST_SECONDS, _LIST_REST * self.took):
            return self
        again = self.read(own, self.lane, self.search)
        return replace(self, shares={**self.shares, **again.shares}, listed_at=again.listed_at, took=again.took)

    def rows(self, own: Context) -> list[PartitionRow]:
        """The partitions as they are now: statements on these alone."""
        lane = own.lanes.view(self.lane, fresh=True)
        if lane is None:
            raise UnknownDownstream(f"there is no downstream {self.lane!r}")
        wheres = {pair: Where(self.lane, key_of(*pair)) for pair in self.pairs}
        lines = own.store.partition_overview.lines(wheres.values(), counted=True)
        waiting = {pair: lines[where].number or 0 for pair, where in wheres.items()}
        views = own.store.partitions.read_partitions(self.lane, waiting)
        names = self.names.of(self.pairs)
        return [
            _row(view, lane, names[pair], lines.get(wheres[pair]), self.shares.get(pair))
            for pair, view in zip(self.pairs, views, strict=True)
        ]

    def parts(self, own: Context, environment: Environment) -> Parts:
        """Renders what changes on the page."""
        values = {"table": self, "rows": self.rows(own), "has_keys": own.authenticator is not None}
        return written(environment, "partitions", PARTS, values)


def _row(
    view: PartitionView, lane: LaneView, name: PartitionName, line: Line | None, share: float | None
) -> PartitionRow:
    now = to_microseconds(lane.downstream.seen_at)
    share = share if view.waiting and not view.paused and view.rests_until is None else None
    allowance = own_allowance(view.limits, lane.downstream.limits.jitter)
    used = [(str(rate), view.pace.calls_since(_begin(rate, allowance, now))) for rate in allowance.rates]
    is_held = bool(used) and rate_limit.next_slot(allowance, view.pace, now=now) > now
    why = _why(view, lane, line, share, is_held=is_held) if view.waiting else ""
    return PartitionRow(view=view, name=name, share=share, used=used, why=why)


def _begin(rate: Rate, allowance: rate_limit.Allowance, now: int) -> int:
    """From when on calls count for a rate now."""
    return rate.calendar_window(now)[0] if rate.zone else now - allowance.window(rate)


def _why(view: PartitionView, lane: LaneView, line: Line | None, share: float | None, *, is_held: bool) -> str:
    """What holds its first job, in a few words: the first of these that holds."""
    downstream, most = lane.downstream, view.limits.most_open
    is_full = most is not None and view.open >= most
    others_first = share is not None and share < 0.5
    reasons = (
        (view.paused, "paused"),
        (downstream.paused, "its downstream is paused"),
        (downstream.is_broken, "its downstream's breaker is open"),
        (downstream.rests_until is not None, "its downstream rests"),
        (view.rests_until is not None, "its downstream refused its calls"),
        (line is not None and (line.due_for or 0) < 0, "may not run yet"),
        (is_full and view.limits.is_strict, "one at a time, in order"),
        (is_full, "its own places are taken"),
        (is_held, "its own rate"),
        (others_first, "others have their turns"),
        (lane.is_full and downstream.limits.concurrency is not None, "its downstream's places are taken"),
        (bool(downstream.limits.rates), "its downstream's rate"),
    )
    return next((text for holds, text in reasons if holds), "goes at once")
