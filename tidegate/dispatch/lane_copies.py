"""Copies of lanes' rows in this process: of many lanes only those that were asked for lately are kept up to date."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from tidegate import clock
from tidegate.dispatch.known_operations import Known, Workers
from tidegate.dispatch.lane_rows import LaneRow, LaneRows, LaneRowStore
from tidegate.dispatch.lane_view import LaneView

_LATELY_SECONDS = 10.0
# Everything is read anew after so long: behind its name there may be another server, whose state is another.
_ANEW_SECONDS = 30.0
# Two looks are half a second apart, or so many times as long as the shorter of the last two took this process.
_APART_SECONDS = 0.5
_REST = 25


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What was read together with rows. `at`: when, by this process's clock; `now`: by the database's; `number` rises.

    `held`: places taken in all lanes. `known`: the operations of the live workers, by queue. `version` as in LaneRows.
    """

    number: int
    at: float
    now: datetime
    version: str | None
    held: int
    known: Mapping[str, Known]


@dataclass(eq=False)
class Copy:
    """One lane's copy. `row` None: there was no such lane. `look`: the last one after which this was so.

    `read_at`: when its row was sent, and not only found unchanged. `view`: made of it at the look `seen`.
    """

    look: Look
    row: LaneRow | None
    read_at: float
    asked_at: float = float("-inf")
    view: LaneView | None = None
    seen: Look | None = field(default=None, repr=False)


class LaneCopies:
    """The copies by name. Not thread-safe but for `get` and `all`: who reads the database has a lock.

    `last`: the last look at all that were asked for lately.
    """

    def __init__(self, store: LaneRowStore, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._copies: dict[str, Copy] = {}
        self.last: Look | None = None
        self._took = (0.0, 0.0)
        self._all: Look | None = None
        self._all_anew_at = float("-inf")
        self._number = 0

    def get(self, name: str) -> Copy | None:
        """The copy of one lane; None: never read."""
        return self._copies.get(name)

    def all(self) -> Iterator[tuple[str, Copy]]:
        """The copies of all lanes that there are, as far as they were read."""
        return ((name, copy) for name, copy in sorted(self._copies.items()) if copy.row)

    @property
    def all_read_at(self) -> float:
        """When all lanes were read last."""
        return self._all.at if self._all else float("-inf")

    @property
    def rest_seconds(self) -> float:
        """How much longer copies are good, so that looks at very many lanes take no more than 4 % of a processor."""
        return max(0.0, _REST * min(self._took) - _APART_SECONDS)

    def read_lately_asked(self, names: Iterable[str]) -> None:
        """Reads these lanes, and what changed of all others that were asked for lately; one statement, and workers."""
        now, began = clock.monotonic(), time.thread_time()
        lately = {name for name, copy in self._copies.items() if now - copy.asked_at <= _LATELY_SECONDS}
        wanted = lately.union(names)
        if len(wanted) > self._store.most_by_name:
            self.read_all()
            return
        known = self._workers.operations()
        self.last = self._read(wanted, known=known, at=clock.monotonic())
        for name in [name for name, copy in self._copies.items() if not copy.row and name not in wanted]:
            del self._copies[name]
        self._took = self._took[1], time.thread_time() - began

    def read(self, names: Iterable[str]) -> None:
        """Reads these lanes in one statement; they are as old as the last look at the others from then on."""
        if self.last:
            self._read(set(names), known=self.last.known, at=self.last.at)
        else:
            self.read_lately_asked(names)

    def read_all(self) -> None:
        """Reads every lane that changed since they were all read, and the workers."""
        began, now, known = time.thread_time(), clock.monotonic(), self._workers.operations()
        is_anew = self._all is None or now - self._all_anew_at > _ANEW_SECONDS
        found = self._store.read_all(since=None if is_anew or not self._all else self._all.version)
        is_anew |= found.version is None
        look = self._look(found, known, clock.monotonic())
        self._take(found, look)
        there = {row.name for row in found.rows} if is_anew else self._copies.keys()
        for name, copy in self._copies.items():
            copy.row, copy.look = copy.row if name in there else None, look
        self.last = self._all = look
        if is_anew:
            self._all_anew_at = now
        self._took = self._took[1], time.thread_time() - began
        if not is_anew and found.number != sum(copy.row is not None for copy in self._copies.values()):
            self._all = None  # one of them is gone
            self.read_all()

    def _read(self, names: set[str], *, known: Mapping[str, Known], at: float) -> Look:
        copies = {name: self._copies.get(name) for name in names}
        rows = {name: _still_good(copy, at) for name, copy in copies.items()}
        older = [copy.look for name, copy in copies.items() if copy and rows[name]]
        found = self._store.read(rows, since=min(older, key=attrgetter("number")).version if older else None)
        look = self._look(found, known, at)
        expected = {row.name for row in found.rows} | {name for name, row in rows.items() if row}
        if found.number != len(expected):
            found = self._store.read(dict.fromkeys(names), since=None)
            look, expected = self._look(found, known, at), {row.name for row in found.rows}
        self._take(found, look)
        for name in names - expected:
            self._copies[name] = Copy(look=look, row=None, read_at=at)
        for name in expected:
            self._copies[name].look = look
        return look

    def _take(self, found: LaneRows, look: Look) -> None:
        for row in found.rows:
            copy = self._copies.get(row.name)
            if copy is None:
                self._copies[row.name] = Copy(look=look, row=row, read_at=look.at)
                continue
            if copy.row is None or not row.is_like(copy.row):
                copy.row = row
            copy.read_at = look.at

    def _look(self, found: LaneRows, known: Mapping[str, Known], at: float) -> Look:
        self._number += 1
        return Look(number=self._number, at=at, now=found.now, version=found.version, held=found.held, known=known)


def _still_good(copy: Copy | None, now: float) -> LaneRow | None:
    """The row, if it is enough to read it when it has changed."""
    return copy.row if copy and now - copy.read_at <= _ANEW_SECONDS else None
