"""What a web process spends, twice a second, on its copy of all lanes."""

import time
from contextlib import ExitStack

import orjson
from sqlalchemy import insert

from benchmarks.backlog.rows import fresh
from benchmarks.lanes.figures import Line, in_turns
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import downstreams, samples
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.operations.operation import Limits
from tidegate.stores import Store

_CLIENTS = 10
_MARKS = 50


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
        self._lanes = LaneCache(self.store)

    def milliseconds(self) -> float:
        """Of processor time for one look."""
        began = time.thread_time()
        self._lanes.views(fresh=True)
        return 1e3 * (time.thread_time() - began)


def web(kind: str, title: str, *, lanes: int, rounds: int) -> list[Line]:
    """Ten lanes and many."""
    with ExitStack() as stack:
        few, many = (ManyLanes(stack.enter_context(fresh(kind)), count) for count in (10, lanes))
        times = in_turns(few.milliseconds, many.milliseconds, rounds)
        for side in (few, many):
            side.store.database.close()
    what = f"processor time of a web process for its look at 10 and {lanes} lanes"
    return [Line(what=what, database=title, unit="ms", few=times[0], many=times[1])]
