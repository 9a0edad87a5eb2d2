"""The checks of the chaos suite: each finds what it is for, and nothing where every promise was kept."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, update

from benchmarks.chaos.checks import (
    Violations,
    await_living,
    await_nothing_left,
    closed_lanes,
    counted_calls,
    doubled,
    left_behind,
)
from tests.support.jobs import LANE, claim, open_lane, release_one, running, submit
from tidegate.database.schema import (
    attempts,
    bodies,
    deliveries,
    downstreams,
    idempotency_keys,
    jobs,
    stewards,
    workers,
)
from tidegate.database.time import database_now
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store
from tidegate.webhooks.delivery import Webhook

pytestmark = pytest.mark.both_databases("each check is SQL, and the suite is run on each")

RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)


@pytest.fixture(autouse=True)
def lane(store: Store) -> None:
    """A lane with a rate and a quota."""
    open_lane(store, rates=("50/s", "1000/h"))


@pytest.fixture
def done(store: Store) -> str:
    """A job that succeeded, and nothing is left of it."""
    claimed = running(store)
    assert store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    return claimed.job_id


def change(store: Store, table: Table, **values: Any) -> None:
    """Sets these values in all rows, past every guard."""
    with store.database.transaction() as connection:
        connection.execute(update(table).values(**values))


def put(store: Store, table: Table, **values: Any) -> None:
    """Adds a row."""
    with store.database.transaction() as connection:
        connection.execute(insert(table).values(**values))


def drop(store: Store, table: Table) -> None:
    """Deletes all rows."""
    with store.database.transaction() as connection:
        connection.execute(delete(table))


def erased(store: Store, _: str) -> None:
    """The job, and the key that names it."""
    drop(store, idempotency_keys)
    drop(store, jobs)


def forgotten_key(store: Store, _: str) -> None:
    """Of a job that nobody knows."""
    nobody = "00000000-0000-0000-0000-000000000000"
    put(store, idempotency_keys, client_id="local", key="k", fingerprint=b"0" * 32, job_id=nobody)


def forgotten_delivery(store: Store, job_id: str) -> None:
    """The job has ended, and its webhook still waits for that."""
    url = "http://receiver.example"
    where = {"url": url, "base_url": url, "receiver": "local receiver.example"}
    put(store, deliveries, job_id=job_id, client_id="local", state="waiting", **where)


def second_attempt(store: Store, job_id: str) -> None:
    """It succeeded again, under another fence."""
    change(store, jobs, fence=2)
    now = database_now()
    times = dict.fromkeys(("released_at", "slot_at", "claimed_at", "place_until", "ended_at"), now)
    put(store, attempts, job_id=job_id, fence=2, downstream=LANE, queue="io", outcome="succeeded", **times)


def broken(violations: Violations) -> dict[str, int]:
    """How many rows break each of those promises that were not kept."""
    return {promise: len(rows) for promise, rows in violations.items() if rows}


def test_where_all_was_kept_nothing_is_found(store: Store, done: str) -> None:
    assert broken(left_behind(store.database)) == {}
    assert broken(doubled(store.database)) == {}
    assert closed_lanes(store.database) == []
    assert await_living(store.database, {"workers": 1, "stewards": 0}, timeout_seconds=0) == []


def test_a_job_on_its_way_is_open_and_holds_its_place_from_its_release_on(store: Store) -> None:
    submit(store)
    assert broken(left_behind(store.database)) == {"every job is final": 1}
    released = release_one(store)
    on_its_way = {"every job is final": 1, "no place outlives its call": 1}
    assert broken(left_behind(store.database)) == on_its_way
    assert claim(store, released)
    assert broken(left_behind(store.database)) == on_its_way
    assert broken(doubled(store.database)) == {}


LEAKS: list[tuple[str, Callable[[Store, str], object]]] = [
    ("no lease outlives its job", lambda store, _: change(store, jobs, slot_at=database_now())),
    ("no place outlives its call", lambda store, _: change(store, attempts, ended_at=None)),
    ("no attempt outlives its job", erased),
    ("no key names a job that is not there", forgotten_key),
    ("every end is told", forgotten_delivery),
    (
        "no slot is promised far ahead",
        lambda store, _: change(store, downstreams, pace='{"free_at": 99999999999999999}'),
    ),
]


@pytest.mark.parametrize(("promise", "leak"), LEAKS, ids=[promise for promise, _ in LEAKS])
def test_what_is_left_behind_is_found(
    store: Store, done: str, promise: str, leak: Callable[[Store, str], object]
) -> None:
    leak(store, done)
    assert broken(left_behind(store.database)) == {promise: 1}
    assert broken(await_nothing_left(store.database, timeout_seconds=0)) == {promise: 1}


def test_a_webhook_in_the_hands_of_nobody_is_found(store: Store) -> None:
    claimed = running(store, webhook=Webhook(url="http://receiver.example", base_url="http://here.example"))
    assert store.workers.succeed(claimed, RESULT, call_seconds=None)
    assert broken(left_behind(store.database)) == {}, "to be sent is not forgotten"
    change(store, deliveries, lease_until=database_now())
    assert broken(left_behind(store.database)) == {"every end is told": 1}


DOUBLES: list[tuple[str, Callable[[Store, str], object]]] = [
    ("two attempts", second_attempt),
    ("no attempt", lambda store, _: change(store, attempts, outcome="late")),
    ("no result", lambda store, _: drop(store, bodies)),
    ("another end", lambda store, _: change(store, jobs, state="cancelled", percent=0)),
]


@pytest.mark.parametrize("double", [double for _, double in DOUBLES], ids=[name for name, _ in DOUBLES])
def test_an_outcome_that_is_not_there_exactly_once_is_found(
    store: Store, done: str, double: Callable[[Store, str], object]
) -> None:
    double(store, done)
    assert broken(doubled(store.database)) == {"a success has one attempt and one result, any other end none": 1}


def test_a_failure_without_a_reason_and_a_release_counted_twice_are_found(store: Store) -> None:
    claimed = running(store)
    assert store.workers.fail(claimed, {"code": "operation_error", "message": "no"}, call_seconds=None)
    assert broken(doubled(store.database)) == {}
    change(store, jobs, error=None, fence=0)
    assert broken(doubled(store.database)) == {"a failure says why": 1, "a release is counted once": 1}


def test_workers_and_schedulers_that_died_are_waited_for_and_then_named(store: Store) -> None:
    store.heartbeats.beat("ghost", queue="io", size=8, until=timedelta(minutes=5))
    put(store, stewards, id="ghost", seen_until=database_now(timedelta(minutes=5)))
    named = await_living(store.database, {"workers": 1, "stewards": 0}, timeout_seconds=0.1)
    assert named == ["2 workers count, 1 run", "1 stewards count, 0 run"]
    change(store, workers, seen_until=database_now())
    assert await_living(store.database, {"workers": 0}, timeout_seconds=5) == []


@pytest.mark.parametrize(
    "values", [{"paused": True}, {"paused_until": database_now(timedelta(minutes=1))}, {"failures": 10}]
)
def test_a_lane_that_lets_nothing_go_is_named(store: Store, values: dict[str, Any]) -> None:
    change(store, downstreams, **values)
    assert [each.partition(":")[0] for each in closed_lanes(store.database)] == [LANE]


def test_the_calls_that_a_quota_counts_are_read(store: Store, done: str) -> None:
    assert counted_calls(store.database, LANE) == 1
