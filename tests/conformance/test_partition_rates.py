"""A partition's own rates are kept to the letter, whatever the downstream's are; on both databases."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from tests.conformance.test_partitions import finish, order, shared, submit
from tests.support.http_server import HttpServer, respond, serving
from tests.support.jobs import LANE, attempts_of, call_now, change_job, claim, outcomes_of
from tests.support.present import present
from tests.support.running import runner_of
from tidegate import clock, rate_limit
from tidegate.clock import to_microseconds
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, partitions
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.execution.slot_wait import Start
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import PythonOperation, operation
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.sharing import PartitionLimits
from tidegate.stores import Store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        running.answer = respond(200)
        yield running


def noting(called_at: list[float]) -> PythonOperation:
    @operation(name="echo", downstream=LANE, attempt_timeout="10s")
    def echo(params: Any, attempt: Attempt) -> int:
        called_at.append(time.time())
        return 1

    return echo


def own_pace(store: Store, name: str = "a") -> rate_limit.Pace:
    row = store.database.fetch_one(select(partitions.c.pace).where(partitions.c.name == name))
    return rate_limit.Pace.from_json(orjson.loads(present(row).pace))


def logged(store: Store) -> int:
    return sum(run.calls for run in own_pace(store).log)


@pytest.mark.parametrize("common", [(), ("1000/s",)])
def test_a_call_that_is_late_for_its_partitions_slot_takes_a_new_one(store: Store, common: tuple[str, ...]) -> None:
    """Also where the downstream has no rate."""
    sharing = shared(store, each=PartitionLimits(rates=("5/s",)), rates=common)
    (job_id,) = submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))
    called_at: list[float] = []

    assert runner_of(store, noting(called_at)).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    assert attempt.outcome == "succeeded"
    assert attempt.slot_at > released.slot_at
    assert -0.005 < called_at[0] - attempt.slot_at.timestamp() < 0.1
    assert logged(store) == 1, "the slot that it missed is nobody's call"


def test_a_first_byte_that_is_late_all_the_same_counts_from_then_on(
    store: Store, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process stood still between the last look at the slot and the write."""
    sharing = shared(store, each=PartitionLimits(rates=("1/s",)))
    (job_id,) = submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released
    begin = Start.begin

    def stand_still(start: Start) -> float:
        left = begin(start)
        time.sleep(0.3)
        return left

    monkeypatch.setattr(Start, "begin", stand_still)
    made = HttpOperation(
        name="echo",
        url=server.url,
        downstream=LANE,
        timeout=MINUTE,
        attempt_timeout=MINUTE,
        retry=RetryPolicy(attempts=1),
    )
    assert runner_of(store, made).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    assert own_pace(store).last >= to_microseconds(attempt.slot_at) + 300_000
    assert logged(store) == 1


def test_a_missed_slot_whose_next_is_too_far_goes_back_with_the_job(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("1/h",)), rates=("1/h",))
    (job_id,) = submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))
    call_now(store)  # of another partition
    called_at: list[float] = []

    assert runner_of(store, noting(called_at)).run(job_id, released.fence)

    assert (outcomes_of(store, job_id), called_at, logged(store)) == (["no slot"], [], 0)


def test_a_slot_that_was_missed_costs_a_slow_rate_no_period(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("1/h",)))
    (job_id,) = submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released
    change_job(store, job_id, slot_at=database_now(-timedelta(seconds=5)))
    called_at: list[float] = []

    assert runner_of(store, noting(called_at)).run(job_id, released.fence)

    assert (outcomes_of(store, job_id), len(called_at), logged(store)) == (["succeeded"], 1, 1)


@pytest.mark.parametrize("common", [(), ("1000/s",)])
def test_a_call_that_was_not_made_is_returned_to_its_partitions_windows_and_one_that_was_is_not(
    store: Store, common: tuple[str, ...]
) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("100/s", "3/d"), burst=3), rates=common, burst=10)
    submit(store, sharing, "a", 9)
    released = Gate(store.lanes).run_once().released
    assert len(released) == 3
    not_made, given_up, made = (present(claim(store, each)) for each in released)

    store.workers.hand_back(not_made, after=timedelta(0), outcome="unknown here")
    store.claims.disclaim(given_up.job_id, given_up.fence, worker="worker-1")
    store.workers.hand_back(made, after=timedelta(0), outcome="stopped", call_seconds=0.1)

    assert logged(store) == 1
    went = list(Gate(store.lanes).run_once().released)
    deadline = time.monotonic() + 5
    while len(went) < 2 and time.monotonic() < deadline:
        went += Gate(store.lanes).run_once().released
    assert len(went) == 2
    assert Gate(store.lanes).run_once().released == []


def test_an_attempt_that_was_stopped_after_its_beginning_gives_nothing_back(store: Store) -> None:
    """Its call may have gone out, whatever became of it: neither its turn nor its slot is another's."""
    sharing = shared(store, each=PartitionLimits(rates=("100/s",)))
    (job_id,) = submit(store, sharing, "a")
    (released,) = Gate(store.lanes).run_once().released

    @operation(name="echo", downstream=LANE)
    def echo(params: Any, attempt: Attempt) -> int:
        store.callers.cancel(job_id, None)
        attempt.progress(done=1, total=2)
        time.sleep(0.3)
        attempt.progress(done=2, total=2)
        return 1

    assert runner_of(store, echo).run(job_id, released.fence)

    (attempt,) = attempts_of(store, job_id)
    assert attempt.outcome == "stopped"
    assert attempt.call_started_at is not None
    assert logged(store) == 1
    row = present(store.database.fetch_one(select(partitions).where(partitions.c.name == "a")))
    assert row.returned == 0


@pytest.mark.long
def test_threads_that_stand_still_break_no_window_of_their_partitions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each third call is held up between its slot and its beginning, in a lane without a rate."""
    sharing = shared(store, each=PartitionLimits(rates=("10/s", "6/1s"), burst=2), size=30)
    for name in "ab":
        submit(store, sharing, name, 7)
    began: dict[str, float] = {}
    lock, sleeps, sleep = threading.Lock(), itertools.count(1), clock.sleep

    def oversleep(seconds: float) -> None:
        with lock:
            late = 0.12 if next(sleeps) % 3 == 0 else 0.0
        sleep(max(0.0, seconds) + late)

    monkeypatch.setattr(clock, "sleep", oversleep)

    @operation(name="echo", downstream=LANE, attempt_timeout="10s")
    def echo(params: Any, attempt: Attempt) -> int:
        began[attempt.job_id] = time.time()
        return 1

    gate, runner, ends = Gate(store.lanes), runner_of(store, echo), time.monotonic() + 120
    with ThreadPoolExecutor(30) as threads:
        while len(began) < 14 and time.monotonic() < ends:
            for each in gate.run_once().released:
                threads.submit(runner.run, each.job_id, each.fence)
            time.sleep(0.005)

    assert len(began) == 14
    late: list[float] = []
    for name in "ab":
        its = attempts.c.partition == f"{IMPLICIT_CLIENT}/{name}"
        made = store.database.fetch_all(select(attempts).where(its, attempts.c.outcome == "succeeded"))
        late += [began[row.job_id] - row.slot_at.timestamp() for row in made]
        slots = sorted(to_microseconds(row.slot_at) for row in made)
        assert all(later - slot >= 1_020_000 for slot, later in zip(slots, slots[6:], strict=False))
        assert all(later - slot >= 102_000 for slot, later in zip(slots, slots[2:], strict=False))
    assert min(late) > -0.005
    assert sum(each > 0.1 for each in late) <= 2, "of those that were held up none; the machine may stand still, too"


def test_each_of_several_rates_of_a_partition_is_kept_beneath_the_lanes(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(rates=("50/s", "4/h"), burst=3), rates=("200/s",), burst=10)
    for name in "ab":
        submit(store, sharing, name, 20)
    gate = Gate(store.lanes)
    first = gate.run_once().released
    finish(store, first)
    of_a = [each.slot_at for each in first if str(each.partition).endswith("/a")]
    assert len(of_a) == 4, "three at once and one behind, within the lead"
    assert of_a[3] - of_a[0] >= timedelta(seconds=0.02)

    time.sleep(0.15)

    assert gate.run_once().released == []
    assert Counter(order(store)) == {"a": 4, "b": 4}


def test_a_partition_with_a_window_of_the_calendar_has_its_calls_of_the_day_and_no_more(store: Store) -> None:
    zone = "UTC"
    sharing = shared(store, each=PartitionLimits(rates=("100/s", f"3/d calendar {zone}"), burst=3))
    for name in "ab":
        submit(store, sharing, name, 9)
    gate = Gate(store.lanes)
    for _ in range(3):
        finish(store, gate.run_once().released)
        time.sleep(0.05)
    assert Counter(order(store)) == {"a": 3, "b": 3}

    yesterday = to_microseconds(datetime.now(UTC) - timedelta(days=1))
    old = rate_limit.Pace(log=(), free_at=0)
    old = rate_limit.take_slots(rate_limit.Allowance(), old, now=yesterday, wanted=3, horizon=0)[1]
    with store.database.transaction() as connection:
        connection.execute(
            update(partitions).where(partitions.c.name == "a").values(pace=orjson.dumps(old.as_json()).decode())
        )

    went = Gate(store.lanes).run_once().released
    assert {str(each.partition).rpartition("/")[2] for each in went} == {"a"}, "its day is over, the other's is not"


def test_a_lost_place_counts_for_its_partitions_concurrency_until_it_has_ended(store: Store) -> None:
    sharing = shared(store, each=PartitionLimits(concurrency=2))
    for name in "ab":
        submit(store, sharing, name, 5)
    gate = Gate(store.lanes)
    released = gate.run_once().released
    assert Counter(order(store)) == {"a": 2, "b": 2}
    lost = next(each for each in released if str(each.partition).endswith("/a"))
    assert claim(store, lost, worker="dead")
    with store.database.transaction() as connection:  # its worker is dead: the sweep takes the job, not the place
        later = database_now(-timedelta(seconds=1))
        connection.execute(update(attempts).where(attempts.c.job_id == lost.job_id).values(place_until=later))
    change_job(store, lost.job_id, lease_until=database_now(-timedelta(seconds=1)))
    until = present(store.database.fetch_one(select(database_now())))[0]
    assert store.upkeep.rescue(10, until=until) == 1
    finish(store, [each for each in released if each is not lost])

    went = Gate(store.lanes).run_once().released

    assert Counter(str(each.partition).rpartition("/")[2] for each in went) == {"a": 1, "b": 2}
    finish(store, went)
    assert store.upkeep.free_places(10, until=until) == 1
    assert Counter(str(each.partition)[-1] for each in Gate(store.lanes).run_once().released) == {"a": 2, "b": 1}


def test_the_lanes_jitter_widens_a_partitions_windows_too(store: Store) -> None:
    """Its calls begin as much later than their slots as the lane's do."""
    sharing = shared(store, each=PartitionLimits(rates=("20/s",)), jitter=80_000)
    submit(store, sharing, "a", 3)

    went = Gate(store.lanes).run_once().released

    assert len(went) == 3
    assert {later.slot_at - earlier.slot_at for earlier, later in itertools.pairwise(went)} == {
        timedelta(microseconds=(50_000 * 20 + 100_000) // 20)
    }
