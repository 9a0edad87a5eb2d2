"""Lanes that have a backlog beside one that is idle, or each with a pace of its own."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta

from sqlalchemy import text

from benchmarks.backlog.rows import fresh
from benchmarks.lanes.figures import Line, in_turns
from tests.support.jobs import submit, submit_many
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.dispatch.gate import Gate
from tidegate.notify.messages import Wakeup
from tidegate.operations.limits import Limits
from tidegate.stores import Store

_IDLE = "idle"
_RATE = 10
_LOOK_SECONDS = 0.05
_END = (
    "UPDATE attempts SET ended_at = released_at, outcome = 'succeeded' WHERE ended_at IS NULL",
    (
        "UPDATE jobs SET state = 'succeeded', percent = 100, finished_at = created_at, slot_at = NULL"
        " WHERE state = 'queued' AND slot_at IS NOT NULL"
    ),
)


class HeldLanes:
    """So many lanes of one job an hour, each with two jobs that wait for it, beside an idle lane; and a gate."""

    def __init__(self, url: str, count: int) -> None:
        self.store = Store(Database(url))
        held = [f"held-{number}" for number in range(count)]
        self.store.limits.declare([*(Limits(name=name, rates=("1/h",)) for name in held), Limits(name=_IDLE)])
        self.store.heartbeats.beat("worker-1", queue="io", size=100_000, until=timedelta(hours=1))
        for name in held:
            submit_many(self.store, 3, lane=name)
        self._gate = Gate(self.store.lanes)
        self._gate.run_once()

    def release_seconds(self) -> float:
        """From the ring for a job of the idle lane to its release."""
        submit(self.store, lane=_IDLE)
        began = time.perf_counter()
        released = self._gate.run_once(Wakeup(lanes=frozenset({_IDLE}))).released
        taken = time.perf_counter() - began
        assert len(released) == 1, released
        return 1e3 * taken

    def look_statements(self) -> float:
        """Of a look at all lanes that finds nothing."""
        with asked(self.store.database) as cost:
            self._gate.run_once()
        return len(cost.statements)


def held(kind: str, title: str, *, lanes: int, rounds: int) -> list[Line]:
    """One lane that its rate holds, and many."""
    with ExitStack() as stack:
        few, many = (HeldLanes(stack.enter_context(fresh(kind)), count) for count in (1, lanes))
        seconds = in_turns(few.release_seconds, many.release_seconds, rounds)
        statements = in_turns(few.look_statements, many.look_statements, 1)
        for side in (few, many):
            side.store.database.close()
    beside = f"beside 1 and {lanes} lanes that their rate holds"
    return [
        Line(
            what=f"release of an idle lane's job {beside}", database=title, unit="ms", few=seconds[0], many=seconds[1]
        ),
        Line(what=f"statements of a look {beside}", database=title, unit="", few=statements[0], many=statements[1]),
    ]


def paced(kind: str, title: str, *, lanes: Sequence[int], seconds: float) -> list[Line]:
    """What is left of the pace of lanes that all have a backlog, by one scheduler."""
    few, many = (_share(kind, count, seconds) for count in lanes)
    what = f"share of its pace that a lane of {_RATE}/s reaches, {lanes[0]} and {lanes[1]} lanes"
    return [Line(what=what, database=title, unit="%", few=[few], many=[many])]


def _share(kind: str, lanes: int, seconds: float) -> float:
    with fresh(kind) as url:
        store = Store(Database(url))
        names = [f"lane-{number}" for number in range(lanes)]
        store.limits.declare([Limits(name=name, rates=(f"{_RATE}/s",)) for name in names])
        store.heartbeats.beat("worker-1", queue="io", size=100_000, until=timedelta(hours=1))
        for name in names:
            submit_many(store, int(1.3 * _RATE * seconds) + 10, lane=name)
        stopped = threading.Event()
        ending = threading.Thread(target=_end_calls, args=(store, stopped))
        ending.start()
        gate, released = Gate(store.lanes), 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            turn = gate.run_once()
            released += len(turn.released)
            time.sleep(min(turn.look_again_seconds, _LOOK_SECONDS))
        stopped.set()
        ending.join()
        store.database.close()
    return 100 * released / (lanes * _RATE * seconds)


def _end_calls(store: Store, stopped: threading.Event) -> None:
    """As if calls took no time: what was released is over at once."""
    while not stopped.wait(0.1):
        with store.database.transaction() as connection:
            for statement in _END:
                connection.execute(text(statement))
