"""`throttle = "partition"`: what the downstream refuses makes the partition of that call rest, and no other."""

import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from tests.conformance.test_partitions import add_client, finish, submit
from tests.support.http_server import HttpServer, respond, serving
from tests.support.jobs import LANE, change_job, claim, lane_row, open_lane, outcomes_of, row_of, time_at
from tests.support.present import present
from tests.support.running import runner_of
from tests.support.waiting import wait_until
from tidegate.clock import to_microseconds
from tidegate.database.schema import IMPLICIT_CLIENT, attempts, jobs, partitions
from tidegate.database.time import database_now
from tidegate.dispatch.gate import Gate
from tidegate.dispatch.partitions.view import PartitionView
from tidegate.dispatch.partitions.writes import count_change
from tidegate.execution.outcome_recorder import OutcomeRecorder
from tidegate.jobs.job import Claim, Released
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.outcome import Outcome, Polls, Refused, Succeeded
from tidegate.operations.quota_fields import Quota
from tidegate.operations.registry import Registry
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.sharing import PartitionLimits, Sharing, named_by
from tidegate.stores import Store

MINUTE = timedelta(minutes=1)
FULL = Refused(message="the downstream answered 429", retry_after=timedelta(seconds=30))


def throttled(store: Store, *, each: PartitionLimits | None = None, by: Any = "header", **limits: Any) -> Sharing:
    sharing = Sharing(by=by, each=each or PartitionLimits(), throttle="partition")
    open_lane(store, sharing=sharing, size=limits.pop("size", 1000), **limits)
    return sharing


def calling(url: str, name: str = "echo") -> HttpOperation:
    retry, seconds = RetryPolicy(attempts=1), timedelta(seconds=10)
    return HttpOperation(name=name, url=url, downstream=LANE, timeout=MINUTE, attempt_timeout=seconds, retry=retry)


def record(store: Store, claimed: Claim, outcome: Outcome) -> bool:
    return OutcomeRecorder(store.workers, Registry.of([calling("http://127.0.0.1/")])).record(claimed, outcome, 0.01)


def answer(left: int, seconds: float = 30) -> Succeeded:
    quota = Quota(name="default", left=left, resets_in=timedelta(seconds=seconds))
    return Succeeded(content=b"1", content_type="", is_json=False, quotas=(quota,))


def of(name: str, released: Sequence[Released]) -> list[Released]:
    return [each for each in released if named_by(str(each.partition))[1] == name]


def row(store: Store, name: str) -> Any:
    return present(store.database.fetch_one(select(partitions).where(partitions.c.name == name)))


def seen(store: Store, name: str) -> PartitionView:
    return store.partitions.read_partition(LANE, IMPLICIT_CLIENT, name)


def be_over(store: Store, name: str) -> None:
    """What the clock would do."""
    with store.database.transaction() as connection:
        connection.execute(
            update(partitions).where(partitions.c.name == name).values(rests_until=database_now(-MINUTE))
        )
        connection.exec_driver_sql("UPDATE downstreams SET turns = turns + 1")


def refuse_first(store: Store, gate: Gate, name: str = "a", outcome: Outcome = FULL) -> list[Released]:
    """The first call of a partition is refused; returns the other releases."""
    released = list(gate.run_once().released)
    refused = of(name, released)[0]
    assert record(store, present(claim(store, refused)), outcome)
    return [each for each in released if each is not refused]


def test_the_partition_that_was_refused_rests_and_others_go_on(store: Store) -> None:
    sharing = throttled(store, concurrency=4)
    for name in "ab":
        submit(store, sharing, name, 20)
    gate = Gate(store.lanes)
    others = refuse_first(store, gate)
    finish(store, of("b", others))

    assert [claim(store, each) for each in of("a", others)] == [None], "what was let go before stays"
    went = [each for gate in (gate, Gate(store.lanes)) for each in gate.run_once().released]

    assert {named_by(str(each.partition))[1] for each in went} == {"b"}
    assert len(went) == 4
    assert (lane_row(store).paused_until, lane_row(store).refusals) == (None, 0)
    rests = row(store, "a").rests_until - time_at(store)
    assert timedelta(seconds=25) < rests <= timedelta(seconds=30)
    assert (row(store, "a").refusals, row(store, "b").rests_until) == (1, None)


def test_it_comes_back_by_itself_and_costs_its_job_no_attempt(store: Store) -> None:
    sharing = throttled(store)
    (job_id,) = submit(store, sharing, "a")
    gate = Gate(store.lanes)
    half_a_second = Refused(message="full", retry_after=timedelta(seconds=0.5))
    refuse_first(store, gate, outcome=half_a_second)
    assert (row_of(store, job_id).attempt, outcomes_of(store, job_id)) == (0, ["refused"])
    began, run = time.monotonic(), gate.run_once()
    assert run.released == []
    assert run.look_again_seconds <= 1.0

    went: list[Released] = []
    while not went and time.monotonic() < began + 10:
        time.sleep(min(run.look_again_seconds, 0.05))
        run = gate.run_once()
        went += run.released

    assert [each.job_id for each in went] == [job_id]
    assert went[0].slot_at >= row(store, "a").rests_until - timedelta(milliseconds=1)


def test_refusals_in_a_row_rest_longer_each_and_an_answer_ends_the_row(store: Store) -> None:
    sharing = throttled(store, concurrency=1)
    submit(store, sharing, "a", 9)
    gate, full = Gate(store.lanes), Refused(message="full")
    rests = []
    for _ in range(3):
        refuse_first(store, gate, outcome=full)
        now = time_at(store)
        rests.append(round((row(store, "a").rests_until - now).total_seconds()))
        be_over(store, "a")
        with store.database.transaction() as connection:
            connection.execute(update(jobs).values(run_at=now))
    assert rests == [1, 2, 4]

    (released,) = gate.run_once().released
    assert record(store, present(claim(store, released)), Succeeded(content=b"1", content_type="", is_json=False))

    assert row(store, "a").refusals == 0


def test_refusals_of_calls_that_were_open_together_are_one_rest(store: Store) -> None:
    sharing = throttled(store, concurrency=3)
    submit(store, sharing, "a", 3)
    claims = [present(claim(store, each)) for each in Gate(store.lanes).run_once().released]

    for claimed in claims:
        assert record(store, claimed, FULL)

    assert row(store, "a").refusals == 1


def test_a_rest_outlives_a_restart_and_is_no_longer_than_the_longest_window(store: Store) -> None:
    sharing = throttled(store, each=PartitionLimits(rates=("10/s", "100/15m")))
    submit(store, sharing, "a", 2)
    hours = Refused(message="full", retry_after=timedelta(hours=9))
    refuse_first(store, Gate(store.lanes), outcome=hours)

    assert Gate(store.lanes).run_once().released == []
    rests = row(store, "a").rests_until - time_at(store)
    assert timedelta(minutes=14) < rests <= timedelta(minutes=15)


def test_without_it_the_whole_lane_rests(store: Store) -> None:
    sharing = Sharing(by="header")
    open_lane(store, sharing=sharing, size=100)
    for name in "ab":
        submit(store, sharing, name, 3)
    gate = Gate(store.lanes)
    refuse_first(store, gate)

    assert gate.run_once().released == []
    assert lane_row(store).paused_until is not None
    assert row(store, "a").rests_until is None


def test_names_of_other_clients_rest_by_themselves(store: Store) -> None:
    sharing = throttled(store, concurrency=2)
    one, two = add_client(store, "one"), add_client(store, "two")
    for client in (one, two):
        submit(store, sharing, "a/b", 3, client=client)
    gate = Gate(store.lanes)
    released = gate.run_once().released
    refused = next(each for each in released if each.partition == "one/a/b")
    assert record(store, present(claim(store, refused)), FULL)
    finish(store, [each for each in released if each is not refused])

    assert {each.partition for each in gate.run_once().released} == {"two/a/b"}


def test_clients_are_partitions_too(store: Store) -> None:
    sharing = throttled(store, by="client", concurrency=2)
    for client in ("one", "two"):
        submit(store, sharing, "", 3, client=add_client(store, client))
    gate = Gate(store.lanes)
    released = gate.run_once().released
    refused = next(each for each in released if each.partition == "one/")
    assert record(store, present(claim(store, refused)), FULL)

    assert {each.partition for each in gate.run_once().released} == {"two/"}


def test_a_spent_quota_makes_its_partition_rest_until_the_reset(store: Store) -> None:
    sharing = throttled(store)
    for name in "ab":
        submit(store, sharing, name, 2)
    released = list(Gate(store.lanes).run_once().released)
    assert record(store, present(claim(store, of("a", released)[0])), answer(0))

    assert claim(store, of("a", released)[1]) is None
    assert claim(store, of("b", released)[0]) is not None
    assert (seen(store, "a").rests_because, seen(store, "b").rests_because) == ("quota", None)
    assert lane_row(store).announced is None


def test_no_more_of_a_partition_go_than_are_left_of_its_quota(store: Store) -> None:
    sharing = throttled(store)
    gate = Gate(store.lanes)
    submit(store, sharing, "a", 4)
    first, *others = gate.run_once().released
    for name in "ab":
        submit(store, sharing, name, 20)

    assert record(store, present(claim(store, first)), answer(8))

    gate = Gate(store.lanes)
    went = [each for _ in range(3) for each in gate.run_once().released]
    assert Counter(named_by(str(each.partition))[1] for each in went) == {"a": 8 - len(others), "b": 20}
    assert seen(store, "a").rests_because == "quota"


def test_after_the_reset_one_call_goes_first_and_its_answer_tells_the_rest(store: Store) -> None:
    sharing = throttled(store)
    gate = Gate(store.lanes)
    submit(store, sharing, "a", 1)
    assert record(store, present(claim(store, gate.run_once().released[0])), answer(0))
    submit(store, sharing, "a", 9)
    assert gate.run_once().released == []
    be_over(store, "a")
    used_up_at = row(store, "a").released
    budgets = orjson.dumps({"default": [0, 0, used_up_at]}).decode()
    store.database.execute(update(partitions).values(announced=budgets))

    (probe,) = gate.run_once().released
    assert gate.run_once().released == []
    assert record(store, present(claim(store, probe)), answer(5))

    assert len(gate.run_once().released) == 5


class CountedByCustomer:
    """A downstream that takes so many calls a second of each customer, and refuses the others with a 429."""

    def __init__(self, calls: int) -> None:
        self.calls, self.taken, self.refused = calls, 0, 0
        self._lock = threading.Lock()
        self._ends, self._used = 0.0, 0

    def answer(self, connection: socket.socket) -> None:
        with self._lock:
            now = time.monotonic()
            if now >= self._ends:
                self._ends, self._used = now + 1.0, 0
            is_full, self._used = self._used >= self.calls, self._used + 1
            self.refused += is_full
            self.taken += not is_full
        after = {"Retry_After": str(math.ceil(self._ends - now))} if is_full else {}
        respond(429 if is_full else 200, b"1", **after)(connection)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        yield running


@pytest.mark.long
def test_a_customer_who_is_refused_stalls_no_other_and_all_of_its_jobs_are_done(
    store: Store, server: HttpServer
) -> None:
    """Real calls: the one has three a second, of the others nobody wants to know."""
    limited = CountedByCustomer(3)
    sharing = throttled(store, concurrency=6, size=20)
    free_done: list[float] = []
    server.answer = limited.answer
    with serving() as free:

        def serve_free(connection: socket.socket) -> None:
            free_done.append(time.monotonic())
            respond(200, b"1")(connection)

        free.answer = serve_free
        submit(store, sharing, "slow", 9)
        free_ids = submit(store, sharing, "free", 30)
        with store.database.transaction() as connection:
            connection.execute(update(jobs).where(jobs.c.id.in_(free_ids)).values(operation="free"))
        slow = calling(server.url)
        gate, runner, began = Gate(store.lanes), runner_of(store, slow, calling(free.url, "free")), time.monotonic()
        is_over = select(jobs.c.id).where(jobs.c.state == "succeeded")
        with ThreadPoolExecutor(20) as threads:
            while len(store.database.fetch_all(is_over)) < 39:
                assert time.monotonic() < began + 40
                for each in gate.run_once().released:
                    threads.submit(runner.run, each.job_id, each.fence)
                time.sleep(0.01)

    assert limited.taken == 9
    assert free_done[-1] - began < 2.0, "they waited for no rest"


def test_calls_that_take_their_own_slots_get_none_while_their_partition_rests(store: Store) -> None:
    sharing = throttled(store, rates=("100/s",), burst=10)
    ids = submit(store, sharing, "a", 2) + submit(store, sharing, "b", 1)
    for job_id in ids:
        change_job(store, job_id, paced_by_calls=True)
    released = Gate(store.lanes).run_once().released
    (refused, beside), (other,) = of("a", released), of("b", released)
    claims = [present(claim(store, each)) for each in (refused, beside, other)]
    assert record(store, claims[0], FULL)

    offers = [store.slots.reserve(each, within=timedelta(seconds=1)) for each in claims[1:]]

    assert [(offer.due is None, offer.counts) for offer in offers] == [(True, True), (False, True)]
    assert 25 < offers[0].wait_seconds <= 30


def test_calls_that_take_their_own_slots_use_up_their_partitions_quota(store: Store) -> None:
    sharing = throttled(store, rates=("1000/s",), burst=100)
    first, second = submit(store, sharing, "a", 2)
    for job_id in (first, second):
        change_job(store, job_id, paced_by_calls=True)
    one, two = (present(claim(store, each)) for each in Gate(store.lanes).run_once().released)
    assert record(store, one, answer(3))

    offers = [store.slots.reserve(two, within=timedelta(seconds=1)) for _ in range(3)]

    assert [offer.due is None for offer in offers] == [False, False, True]


def test_a_poll_waits_while_its_partition_rests(store: Store) -> None:
    sharing = throttled(store, concurrency=3)
    submit(store, sharing, "a", 2)
    polled, refused = (present(claim(store, each)) for each in Gate(store.lanes).run_once().released)
    assert record(store, polled, Polls(url="http://127.0.0.1/1", after=timedelta(0)))
    change_job(store, polled.job_id, run_at=database_now(-timedelta(seconds=1)))
    assert record(store, refused, FULL)

    assert Gate(store.lanes).run_once().released == []

    be_over(store, "a")
    assert [each.job_id for each in Gate(store.lanes).run_once().released] == [polled.job_id]


def test_a_follower_does_not_call_while_its_partition_rests(store: Store) -> None:
    sharing = throttled(store, concurrency=2, call_seconds=0.1)
    submit(store, sharing, "a", 4)
    released = [each for _ in range(2) for each in Gate(store.lanes).run_once().released]
    claims = [present(claim(store, each)) for each in released]
    (follower, *_) = [each for each in claims if each.follows]
    followed = next(each for each in claims if (each.job_id, each.fence) == follower.follows)
    assert store.slots.turn(follower).name == "LATER"

    assert record(store, followed, FULL)

    assert store.slots.turn(follower).name == "NEVER"


def test_an_operator_who_resumes_a_partition_ends_its_rest(store: Store) -> None:
    sharing = throttled(store)
    submit(store, sharing, "a", 3)
    gate = Gate(store.lanes)
    rest = refuse_first(store, gate)
    assert [claim(store, each) for each in rest] == [None, None]
    assert seen(store, "a").rests_because == "refusals"
    assert seen(store, "a").share is None

    store.partitions.change(LANE, IMPLICIT_CLIENT, "a", {}, paused=False)

    assert (seen(store, "a").rests_until, row(store, "a").refusals) == (None, 0)
    assert len(gate.run_once().released) == 2, "the third may not run for as long as it was asked to wait"


def test_a_partition_that_rests_is_not_forgotten(store: Store) -> None:
    sharing = throttled(store)
    (job_id,) = submit(store, sharing, "a")
    refuse_first(store, Gate(store.lanes))
    store.callers.cancel(job_id, None)
    with store.database.transaction() as connection:  # no turn is owed any more
        far = str(2**80)
        connection.exec_driver_sql(f"UPDATE downstreams SET shared_clock = '{far}'")  # noqa: S608 - our own number
        connection.exec_driver_sql(f"UPDATE shared_clients SET clock = '{far}'")  # noqa: S608 - our own number

    store.upkeep._idle_partitions.forget()
    assert row(store, "a").rests_until is not None

    be_over(store, "a")
    wait_until(lambda: store.upkeep._idle_partitions.forget() == 1 or not _rows(store), description="its row goes")


def _rows(store: Store) -> Sequence[Any]:
    return store.database.fetch_all(select(partitions.c.name))


def test_many_who_are_refused_one_after_the_other_lose_no_turn_and_no_place(store: Store) -> None:
    """What is let go between a refusal and the next release is given back whole."""
    sharing = throttled(store, concurrency=8)
    for name in "abcd":
        submit(store, sharing, name, 4)
    gate = Gate(store.lanes)
    released = list(gate.run_once().released)
    for name in "abcd":
        refused, *others = of(name, released)
        assert record(store, present(claim(store, refused)), FULL)
        assert [claim(store, each) for each in others] == [None] * len(others)

    assert store.lanes.held() == {}
    open_ones = select(attempts.c.job_id).where(attempts.c.ended_at.is_(None))
    assert store.database.fetch_all(open_ones) == []
    assert [row(store, name).returned for name in "abcd"] == [1] * 4


@pytest.mark.parametrize("column", ["rests_until", "announced"])
def test_a_rest_of_a_clock_that_was_set_back_does_not_last_for_hours(store: Store, column: str) -> None:
    sharing = throttled(store, concurrency=1)
    submit(store, sharing, "a", 2)
    gate = Gate(store.lanes)
    finish(store, gate.run_once().released)
    later = time_at(store) + timedelta(hours=3)
    quota = {"": [0, to_microseconds(later), 0]}
    values = {"rests_until": later} if column == "rests_until" else {"announced": orjson.dumps(quota).decode()}
    with store.database.transaction() as connection:
        changed = count_change(connection, LANE)
        connection.execute(update(partitions).values(**values, changed=changed))
    assert gate.run_once().released == []

    store.upkeep.put_right(lease=timedelta(seconds=15), longest_wait=MINUTE, is_known=True)

    if column == "announced":
        assert wait_until(lambda: gate.run_once().released, description="it goes on")
    else:
        assert present(row(store, "a").rests_until) <= time_at(store) + timedelta(minutes=5, seconds=1)
        assert seen(store, "a").rests_until == row(store, "a").rests_until
