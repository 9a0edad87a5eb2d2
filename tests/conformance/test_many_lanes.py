"""What one lane costs must not grow with how many others there are, nor with how many schedulers look."""

import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta

import orjson
from sqlalchemy import insert, text

from tests.support.jobs import LANE, submit
from tests.support.statements import Asked, asked
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, downstreams, samples
from tidegate.dispatch.agenda import OTHERS_SECONDS
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.ownership import Ownership
from tidegate.notify.messages import Wakeup
from tidegate.operations.limits import Limits
from tidegate.stores import Store

_HELD = 40
_SCHEDULERS = 10
_SUBMITS = 10
_LANES = 500


def ownerships() -> list[Ownership]:
    """Of so many schedulers that know of each other."""
    ids = [f"scheduler-{number}" for number in range(_SCHEDULERS)]
    known = [Ownership(own) for own in ids]
    for each in known:
        each.update(ids)
    return known


def held_lanes(store: Store, count: int) -> Gate:
    """So many lanes whose rate has let one job go and holds the others for an hour, beside the idle lane; and the gate
    that let them go."""
    store.limits.declare(
        [Limits(name=f"held-{number}", rates=("1/h",)) for number in range(count)] + [Limits(name=LANE)]
    )
    store.heartbeats.beat("worker-1", queue="io", size=1000, until=timedelta(minutes=30))
    gate = Gate(store.lanes)
    for number in range(count):
        for _ in range(2):
            submit(store, lane=f"held-{number}", timeout=timedelta(hours=6))
    gate.run_once()
    assert gate.run_once().released == []
    return gate


def test_a_look_asks_nothing_of_lanes_that_their_rate_holds(store: Store) -> None:
    """As much with forty as with one."""
    gate = held_lanes(store, _HELD)

    with asked(store.database) as cost:
        assert gate.run_once().released == []

    assert_few(cost)


def test_a_job_of_an_idle_lane_is_released_without_a_look_at_lanes_that_their_rate_holds(store: Store) -> None:
    """Forty of them, a transaction each, would come before it."""
    gate = held_lanes(store, _HELD)
    submit(store)

    with asked(store.database) as cost:
        assert len(gate.run_once(Wakeup(lanes=frozenset({LANE}))).released) == 1

    assert_few(cost)


def test_schedulers_that_are_rung_together_ask_little_more_than_one(postgresql_url: str) -> None:
    """Each may look once, and one of them lets the job go."""
    databases = [Database(postgresql_url, pool_size=2) for _ in range(_SCHEDULERS + 1)]
    main, *others = [Store(database) for database in databases]
    main.limits.declare([Limits(name=LANE, rates=("10000/s",))])
    main.heartbeats.beat("worker-1", queue="io", size=1000, until=timedelta(minutes=30))
    gates = [Gate(store.lanes, is_mine=owned.is_mine) for store, owned in zip(others, ownerships(), strict=True)]
    for gate in gates:
        gate.run_once()
    start, end = threading.Barrier(_SCHEDULERS + 1), threading.Barrier(_SCHEDULERS + 1)
    released: list[str] = []

    def turn(gate: Gate) -> None:
        for _ in range(_SUBMITS):
            start.wait()
            for _ in range(4):  # as a scheduler does when it finds the lane locked
                done = gate.run_once(Wakeup(lanes=frozenset({LANE})))
                released.extend(job.job_id for job in done.released)
                if done.look_again_seconds > 0.03:
                    break
            end.wait()

    threads = [threading.Thread(target=turn, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    with ExitStack() as stack:
        costs = [stack.enter_context(asked(database)) for database in databases[1:]]
        for _ in range(_SUBMITS):
            submit(main)
            start.wait()
            end.wait()
            main.database.execute(text("UPDATE attempts SET ended_at = 1 WHERE ended_at IS NULL"))
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()

    assert len(released) == len(set(released)) == _SUBMITS
    assert sum(len(cost.statements) for cost in costs) <= _SUBMITS * (_SCHEDULERS + 2)


def test_each_lane_has_one_scheduler_and_one_that_starts_takes_its_part_and_no_more() -> None:
    lanes = [f"lane-{number}" for number in range(_LANES)]
    before = {lane: [each.is_mine(lane) for each in ownerships()].index(True) for lane in lanes}
    assert all(sum(each.is_mine(lane) for each in ownerships()) == 1 for lane in lanes)
    assert min(Counter(before.values()).values()) > _LANES / _SCHEDULERS / 2

    after = ownerships()
    for each in after:
        each.update([*(f"scheduler-{number}" for number in range(_SCHEDULERS)), "another"])
    moved = [lane for lane in lanes if not after[before[lane]].is_mine(lane)]

    assert 0 < len(moved) < 2 * _LANES / (_SCHEDULERS + 1)


def test_a_lane_whose_scheduler_does_nothing_is_released_by_another_soon_and_then_at_once(store: Store) -> None:
    """A scheduler that was killed is listed as alive for fifteen seconds more."""
    store.limits.declare([Limits(name=LANE)])
    store.heartbeats.beat("worker-1", queue="io", size=1000, until=timedelta(minutes=30))
    gate = Gate(store.lanes, is_mine=lambda _: False)
    gate.run_once()
    submit(store)

    turn = gate.run_once(Wakeup(lanes=frozenset({LANE})))
    assert turn.released == []
    assert turn.look_again_seconds <= OTHERS_SECONDS
    time.sleep(turn.look_again_seconds)
    assert len(gate.run_once(Wakeup(lanes=frozenset())).released) == 1

    submit(store)
    assert len(gate.run_once(Wakeup(lanes=frozenset({LANE}))).released) == 1


def test_a_web_process_reads_of_many_lanes_the_one_that_it_is_asked_for(postgresql_url: str) -> None:
    """Rows, by the server's own count."""
    store = Store(Database(postgresql_url, pool_size=1))
    _declare_many(store)
    job = store.callers.get(submit(store, lane="lane-7"), IMPLICIT_CLIENT)
    assert job is not None
    before = _rows_read(store)

    view = LaneCache(store).view(job.downstream)

    assert view is not None
    read = _rows_read(store) - before
    store.database.close()
    assert read < _LANES / 10


def assert_few(cost: Asked) -> None:
    """Which lanes are due, and a release of one of them."""
    asked_for = len(cost.statements)
    assert asked_for <= 8


def _declare_many(store: Store) -> None:
    limits = {"rates": ["10/s"], "burst": 1, "concurrency": 4, "breaker_after": 10}
    row = {
        **limits,
        "rates": '["10/s"]',
        "declared": orjson.dumps(limits).decode(),
        "pace": '{"free_at": 1, "used": {}}',
    }
    figures = {
        "backlog": 1,
        "by_client": "{}",
        "marks": "[]",
        "held": 1,
        "released": 1,
        "per_second": 1.0,
        "held_mean": 1.0,
    }
    names = [f"lane-{number}" for number in range(_LANES)]
    with store.database.transaction() as connection:
        connection.execute(insert(downstreams), [{"name": name, **row} for name in names])
        connection.execute(
            insert(samples), [{"downstream": name, "taken_at": clock.now(), **figures} for name in names]
        )


def _rows_read(store: Store) -> int:
    with store.database.transaction() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))  # at the end of this transaction
    with store.database.transaction() as connection:
        statement = text(
            "SELECT (SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables)"
            " + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes)"
        )
        return int(connection.execute(statement).scalar_one())
