"""A downstream that announces what is left of its quota is paced by that: real calls of a real HTTP server."""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, update

from tests.support.http_server import HttpServer, respond, serving
from tests.support.jobs import (
    LANE,
    attempts_of,
    change_lane,
    claim,
    downstreams_of,
    know_call_seconds,
    lane_row,
    open_lane,
    outcomes_of,
    release,
    release_one,
    row_of,
    running,
    submit,
    submit_many,
)
from tests.support.running import run_operation, runner_of
from tidegate.database.schema import jobs
from tidegate.dispatch.gate import Gate
from tidegate.execution.outcome_recorder import OutcomeRecorder
from tidegate.jobs.job import Claim
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.outcome import Failed, Outcome, Refused, Succeeded
from tidegate.operations.quota_fields import Quota
from tidegate.operations.registry import Registry
from tidegate.operations.retry import RetryPolicy
from tidegate.states import State
from tidegate.stores import Store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running_one:
        yield running_one


def calling(url: str, **more: Any) -> HttpOperation:
    times = {"timeout": MINUTE, "attempt_timeout": timedelta(seconds=10), "retry": RetryPolicy(attempts=1)}
    return HttpOperation(name="call", url=url, downstream=LANE, **{**times, **more})


class LimitedDownstream:
    """Takes so many calls a window and announces what is left, in one of the ways that servers have.

    `refused_after`: refusals of calls that began after its first answer.
    """

    def __init__(self, calls: int, seconds: float, fields: Callable[[int, float], dict[str, str]]) -> None:
        self.calls, self.seconds, self.fields = calls, seconds, fields
        self.taken = self.refused_after = 0
        self._lock = threading.Lock()
        self._ends, self._used = 0.0, 0
        self._answered_at = math.inf

    def answer(self, connection: socket.socket) -> None:
        began = time.monotonic()
        with self._lock:
            if began >= self._ends:
                self._ends, self._used = began + self.seconds, 0
            is_full = self._used >= self.calls
            self._used += not is_full
            self.taken += not is_full
            self.refused_after += is_full and began > self._answered_at
            fields = self.fields(self.calls - self._used, self._ends - began)
        time.sleep(0.02)
        respond(429 if is_full else 200, b"", **fields)(connection)
        with self._lock:
            self._answered_at = min(self._answered_at, time.monotonic())


def _draft(left: int, seconds: float) -> dict[str, str]:
    return {"RateLimit": f'"default";r={left};t={math.ceil(seconds)}', "RateLimit_Policy": '"default";q=9;w=1'}


def _customary(left: int, seconds: float) -> dict[str, str]:
    return {"X_RateLimit_Remaining": str(left), "X_RateLimit_Reset": str(math.ceil(time.time() + seconds))}


def drain(store: Store, made: HttpOperation, count: int, *, seconds: float) -> None:
    """Submits so many jobs, the first of them alone, and releases and runs them until all have succeeded.

    Its answer is recorded then, which on a busy machine takes longer than to send it.
    """
    _drain(store, made, 1, of=1, seconds=seconds)
    _drain(store, made, count - 1, of=count, seconds=seconds)


def _drain(store: Store, made: HttpOperation, more: int, *, of: int, seconds: float) -> None:
    submit_many(store, more, operation=made.name)
    gate, runner = Gate(store.lanes), runner_of(store, made)
    is_over = select(func.count()).select_from(jobs).where(jobs.c.state == State.SUCCEEDED)
    ends = time.monotonic() + seconds
    with ThreadPoolExecutor(16) as threads:
        while store.database.fetch_one(is_over)[0] < of:  # type: ignore[index] # a count is a row
            assert time.monotonic() < ends, f"{store.database.fetch_one(is_over)} of {of} jobs succeeded"
            for each in gate.run_once().released:
                threads.submit(runner.run, each.job_id, each.fence)
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("fields", "limits"), [(_draft, {"concurrency": 6}), (_customary, {"rates": ("40/s",), "burst": 3})]
)
def test_a_downstream_that_announces_its_quota_refuses_no_call_after_its_first_answer(
    store: Store, server: HttpServer, fields: Callable[[int, float], dict[str, str]], limits: dict[str, Any]
) -> None:
    limited = LimitedDownstream(9, 1.0, fields)
    server.answer = limited.answer
    open_lane(store, **limits)

    drain(store, calling(server.url), 22, seconds=20)

    assert (limited.taken, limited.refused_after) == (22, 0)


def test_followers_are_within_what_is_left_too(store: Store, server: HttpServer) -> None:
    limited = LimitedDownstream(9, 1.0, _draft)
    server.answer = limited.answer
    open_lane(store, concurrency=2, size=16)
    know_call_seconds(store, 0.01)

    drain(store, calling(server.url), 20, seconds=20)

    assert (limited.taken, limited.refused_after) == (20, 0)


def test_a_server_that_announces_nothing_writes_nothing(store: Store, server: HttpServer) -> None:
    server.answer = respond(200)
    run_operation(store, calling(server.url))
    assert (lane_row(store).announced, lane_row(store).paused_until) == (None, None)


@pytest.mark.parametrize("status", [200, 404, 500, 429])
def test_whatever_the_answer_is_a_spent_quota_makes_the_lane_rest(
    store: Store, server: HttpServer, status: int
) -> None:
    server.answer = respond(status, b"", RateLimit='"default";r=0;t=30')

    job_id = run_operation(store, calling(server.url))

    ended_at = attempts_of(store, job_id)[0].ended_at
    rests = lane_row(store).paused_until - ended_at
    assert timedelta(seconds=29) < rests < timedelta(seconds=31)
    submit(store)
    assert release(store) == []
    assert row_of(store, job_id).attempt == (0 if status == 429 else 1)
    assert lane_row(store).failures == (status == 500)


def test_a_status_of_full_on_rests_the_lane_costs_no_attempt_and_is_no_failure(
    store: Store, server: HttpServer
) -> None:
    server.answer = respond(403, b"", X_RateLimit_Remaining="0", X_RateLimit_Reset="30")

    job_id = run_operation(store, calling(server.url, full_on=frozenset({403})))

    row, lane = row_of(store, job_id), lane_row(store)
    assert (row.state, row.attempt, outcomes_of(store, job_id)) == ("queued", 0, ["refused"])
    assert (lane.refusals, lane.failures) == (1, 0)
    assert timedelta(seconds=29) < lane.paused_until - attempts_of(store, job_id)[0].ended_at < timedelta(seconds=31)


@pytest.mark.parametrize(("rates", "rests"), [((), 300), (("1/s", "100/d"), 7200), (("1/s", "100/15m"), 900)])
@pytest.mark.parametrize("asked", [Refused(message="", retry_after=timedelta(hours=2)), None])
def test_a_rest_is_as_long_as_the_longest_window_at_most(
    store: Store, rates: tuple[str, ...], rests: int, asked: Outcome | None
) -> None:
    open_lane(store, rates=rates)
    announces = _answer(Quota(name="", left=0, resets_in=timedelta(hours=2)))

    record(store, running(store), asked or announces)

    waits = lane_row(store).paused_until - lane_now(store)
    assert abs(waits - timedelta(seconds=rests)) < timedelta(seconds=2)


def _answer(*quotas: Quota) -> Succeeded:
    return Succeeded(content=b"", content_type="", is_json=False, quotas=quotas)


def quota(left: int, seconds: float = 30) -> Quota:
    return Quota(name="default", left=left, resets_in=timedelta(seconds=seconds))


def record(store: Store, claimed: Claim, outcome: Outcome, call_seconds: float = 0.1) -> bool:
    registry = Registry.of([calling("http://127.0.0.1/")])
    return OutcomeRecorder(store.workers, registry).record(claimed, outcome, call_seconds)


def lane_now(store: Store) -> Any:
    (lane,) = downstreams_of(store)
    return lane.seen_at


def claimed_ones(store: Store, count: int) -> list[Claim]:
    for _ in range(count):
        submit(store, operation="call")
    return [claimed for each in release(store) if (claimed := claim(store, each))]


def test_no_more_are_released_than_are_left_beside_those_on_their_way(store: Store) -> None:
    open_lane(store, size=50)
    first, *others = claimed_ones(store, 4)
    submit_many(store, 20)

    record(store, first, _answer(quota(8)))

    assert len(release(store)) == 8 - len(others)
    assert release(store) == [], "what is left is used up by what was released"
    (lane,) = downstreams_of(store)
    assert [(name, left) for name, left, _ in lane.announced] == [("default", 0)]
    assert (lane.rests_because, lane.rests_until) == ("quota", lane.resets_at)


def test_answers_out_of_order_leave_what_the_last_call_was_told(store: Store) -> None:
    open_lane(store, size=50)
    claims = claimed_ones(store, 3)
    submit_many(store, 20)

    for claimed, left in zip(claims, (5, 7, 6), strict=True):
        record(store, claimed, _answer(quota(left)))

    assert len(release(store)) <= 5


def test_an_outcome_that_is_offered_twice_is_announced_once(store: Store) -> None:
    open_lane(store)
    claimed = running(store, operation="call")
    assert record(store, claimed, _answer(quota(8)))
    before = lane_row(store)
    assert record(store, claimed, _answer(quota(8)))
    assert lane_row(store) == before


def test_an_answer_that_comes_too_late_for_its_job_still_tells_what_is_left(store: Store) -> None:
    open_lane(store)
    claimed = running(store, operation="call")
    store.callers.cancel(claimed.job_id, None)
    with store.database.transaction() as connection:
        connection.execute(update(jobs).values(state=State.CANCELLED, finished_at=jobs.c.created_at, lease_until=None))

    assert not record(store, claimed, _answer(quota(0)))

    assert downstreams_of(store)[0].rests_because == "quota"


def test_after_the_reset_one_call_goes_and_its_answer_tells_the_rest(store: Store) -> None:
    open_lane(store, size=50)
    record(store, running(store, operation="call"), _answer(quota(0)))
    submit_many(store, 30, operation="call")
    assert release(store) == []

    pass_reset(store)

    probe = claim(store, release_one(store))
    assert release(store) == []
    assert probe is not None
    record(store, probe, _answer(quota(9)), 0.0)
    assert len(release(store)) == 9


def pass_reset(store: Store) -> None:
    """What the clock would do: every announced window is over."""
    budgets = downstreams_of(store)[0].budgets
    over = {name: [each.left, 0, each.used_up_at] for name, each in budgets.items()}
    change_lane(store, announced=orjson.dumps(over).decode(), paused_until=None)


def test_calls_that_take_their_own_slots_use_up_what_is_left(store: Store) -> None:
    open_lane(store, rates=("1000/s",), burst=100)
    record(store, running(store, operation="call"), _answer(quota(2)))
    with store.database.transaction() as connection:
        connection.execute(update(jobs).values(paced_by_calls=True))
    submit(store, operation="calls")
    with store.database.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.state == State.QUEUED).values(paced_by_calls=True))
    claimed = claim(store, release_one(store))
    assert claimed is not None
    assert claimed.paced_by_calls

    offers = [store.slots.reserve(claimed, within=timedelta(seconds=1)) for _ in range(3)]

    assert [offer.due is None for offer in offers] == [False, True, True]
    assert all(offer.counts for offer in offers)


def test_a_failure_that_announces_is_judged_as_before(store: Store) -> None:
    open_lane(store)
    failed = Failed(code="downstream_error", message="no", quotas=(quota(3),))  # type: ignore[arg-type] # its text
    claimed = running(store, operation="call")
    assert record(store, claimed, failed)
    assert row_of(store, claimed.job_id).state == "failed"
    assert lane_row(store).announced
