"""What one submit costs the database when several schedulers, that know of each other, are rung for it."""

import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from statistics import median

from sqlalchemy import text

from benchmarks.backlog.rows import fresh
from benchmarks.lanes.figures import Line
from tests.support.jobs import LANE, submit
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.ownership import Ownership
from tidegate.notify.messages import Wakeup
from tidegate.operations.limits import Limits
from tidegate.stores import Store

_AGAIN = 4


def schedulers(kind: str, title: str, *, count: int, submits: int) -> list[Line]:
    """One and several, as gates in threads of this process that are rung at the same moment."""
    (few, few_ms), (many, many_ms) = (_measure(kind, number, submits) for number in (1, count))
    rung = f"1 and {count} schedulers rung together"
    return [
        Line(what=f"statements a submit, {rung}", database=title, unit="", few=[few], many=[many]),
        Line(what=f"until all have looked, {rung}", database=title, unit="ms", few=[few_ms], many=[many_ms]),
    ]


def _measure(kind: str, count: int, submits: int) -> tuple[float, float]:
    with ExitStack() as stack:
        url = stack.enter_context(fresh(kind))
        main, *others = [Store(Database(url, pool_size=2)) for _ in range(count + 1)]
        for store in (main, *others):
            stack.callback(store.database.close)
        main.limits.declare([Limits(name=LANE, rates=("10000/s",))])
        main.heartbeats.beat("worker-1", queue="io", size=100_000, until=timedelta(hours=1))
        names = [f"scheduler-{number}" for number in range(count)]
        owned = [Ownership(name) for name in names]
        for each in owned:
            each.update(names)
        gates = [Gate(store.lanes, is_mine=each.is_mine) for store, each in zip(others, owned, strict=True)]
        for gate in gates:
            gate.run_once()
        start, end = threading.Barrier(count + 1), threading.Barrier(count + 1)

        def look(gate: Gate) -> None:
            for _ in range(submits):
                start.wait()
                for _ in range(_AGAIN):  # as a scheduler does when it finds the lane locked
                    if gate.run_once(Wakeup(lanes=frozenset({LANE}))).look_again_seconds > 0.03:
                        break
                end.wait()

        threads = [threading.Thread(target=look, args=(gate,)) for gate in gates]
        for thread in threads:
            thread.start()
        costs = [stack.enter_context(asked(store.database)) for store in others]
        times = []
        for _ in range(submits):
            submit(main)
            began = time.perf_counter()
            start.wait()
            end.wait()
            times.append(1e3 * (time.perf_counter() - began))
            main.database.execute(text("UPDATE attempts SET ended_at = 1 WHERE ended_at IS NULL"))
        for thread in threads:
            thread.join()
        return sum(len(cost.statements) for cost in costs) / submits, median(times)
