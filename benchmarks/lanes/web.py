"""What a web process spends on its copies of lanes."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import orjson
from sqlalchemy import insert, update

from benchmarks.backlog.rows import fresh
from benchmarks.lanes.figures import Line, in_turns
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, samples
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.operations.limits import Limits
from tidegate.stores import Store

_CLIENTS = 10
_MARKS = 50
_CHANGED = 50
_FRESH_SECONDS = 2.0


class ManyLanes:
    """So many lanes with a sample each, as a scheduler leaves them behind."""

    def __init__(self, url: str, count: int) -> None:
        self.store = Store(Database(url))
        self.store.limits.declare([Limits(name="first", rates=("10/s",))])
        with self.store.database.transaction() as connection:
            like = connection.execute(downstreams.select()).one()._asdict()
            now = clock.to_microseconds(clock.now())
            figures = {
                "taken_at": clock.now(),
                "backlog": 1000,
                "by_client": orjson.dumps({f"client-{number}": 100 for number in range(_CLIENTS)}).decode(),
                "marks": orjson.dumps([(now + number, number) for number in range(_MARKS)]).decode(),
                "held": 1,
                "released": 1,
                "per_second": 1.0,
                "held_mean": 1.0,
            }
            names = [f"lane-{number}" for number in range(count)]
            connection.execute(insert(downstreams), [{**like, "name": name} for name in names])
            connection.execute(insert(samples), [{"downstream": name, **figures} for name in names])
        self._names = names
        self._lanes = LaneCache(self.store)
        self._lanes.views(fresh=True)

    def milliseconds_of_a_look(self) -> float:
        """Of processor time for a look, twice a second, when jobs of every lane are polled and a few changed."""
        for name in self._names:
            self._lanes.view(name)
        changed = self._names[:_CHANGED]
        with self.store.database.transaction() as connection:
            for table, key in ((downstreams, downstreams.c.name), (samples, samples.c.downstream)):
                connection.execute(update(table).where(key.in_(changed)).values(released=table.c.released + 1))
        time.sleep(_FRESH_SECONDS)
        return _milliseconds(lambda: self._lanes.view(self._names[0]))

    def milliseconds_of_answers(self) -> float:
        """Of processor time until each lane's first poll after a look has been answered."""
        time.sleep(_FRESH_SECONDS)
        self._lanes.view(self._names[0])
        return _milliseconds(lambda: [self._lanes.view(name) for name in self._names])

    def milliseconds_of_a_list(self) -> float:
        """Of processor time to have all lanes as they are now, as the page and the list of downstreams want them."""
        return _milliseconds(lambda: self._lanes.views(fresh=True))


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.thread_time()
    act()
    return 1e3 * (time.thread_time() - began)


def web(kind: str, title: str, *, lanes: int, rounds: int) -> list[Line]:
    """Ten lanes and many."""
    parts = {
        "a web process's look, twice a second while all lanes are polled": ManyLanes.milliseconds_of_a_look,
        "first polls of every lane after a look": ManyLanes.milliseconds_of_answers,
        "all lanes as they are now": ManyLanes.milliseconds_of_a_list,
    }
    with ExitStack() as stack:
        few, many = (ManyLanes(stack.enter_context(fresh(kind)), count) for count in (10, lanes))
        lines = []
        for name, part in parts.items():
            times = in_turns(partial(part, few), partial(part, many), rounds)
            what = f"processor time, {name}: 10 and {lanes} lanes"
            lines.append(Line(what=what, database=title, unit="ms", few=times[0], many=times[1]))
        for side in (few, many):
            side.store.database.close()
    return lines
