"""A job whose row somebody has for long holds up nobody but itself. PostgreSQL: on SQLite there is one lock for all."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from tests.support.jobs import (
    claim,
    open_lane,
    outcomes_of,
    release,
    row_of,
    submit,
    submit_many,
    time_at,
)
from tests.support.present import present
from tests.support.statements import asked
from tidegate.database.connection import Database
from tidegate.database.schema import attempts, jobs
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

_TOGETHER = 8
# Less than a lock is waited for before it is tried again.
_SOON_SECONDS = 0.7
RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    database = Database(postgresql_url, pool_size=20)
    store = Store(database)
    open_lane(store, size=100)
    for _ in range(_TOGETHER):
        submit(store)
    yield store
    database.close()


@contextmanager
def locked(store: Store, job_id: str) -> Iterator[None]:
    """Within it somebody has the job's row."""
    at = store.database.engine.url
    with psycopg.connect(host=at.host, port=at.port, user=at.username, dbname=at.database) as holder:
        holder.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (job_id,))
        yield
        holder.rollback()


def all_but_the_locked_one(store: Store, job_id: str, calls: dict[str, Callable[[], object]]) -> dict[str, object]:
    """What the calls for these jobs return, begun together; one by one they end, and that for the locked one last."""
    with ThreadPoolExecutor(len(calls)) as pool:
        with locked(store, job_id):
            first = pool.submit(calls[job_id])
            time.sleep(0.2)
            others = {each: pool.submit(call) for each, call in calls.items() if each != job_id}
            _, late = wait(others.values(), timeout=_SOON_SECONDS)
        answers = {each: answer.result(timeout=30) for each, answer in {**others, job_id: first}.items()}
    assert not late, f"{len(late)} of {len(others)} waited"
    return answers


def test_the_claims_of_others_do_not_wait_for_it(store: Store) -> None:
    released = release(store)

    claims = all_but_the_locked_one(
        store, released[0].job_id, {each.job_id: partial(claim, store, each) for each in released}
    )

    assert all(claims.values())
    assert {row_of(store, each.job_id).attempt for each in released} == {1}


def test_the_results_of_others_do_not_wait_for_it(store: Store) -> None:
    claimed = [present(claim(store, each)) for each in release(store)]

    def succeed(each: Claim) -> bool:
        return store.workers.succeed(each, RESULT, call_seconds=0.1)

    done = all_but_the_locked_one(store, claimed[0].job_id, {each.job_id: partial(succeed, each) for each in claimed})

    assert all(done.values())
    assert {row_of(store, each.job_id).state for each in claimed} == {"succeeded"}


def test_a_claim_of_a_job_that_is_cancelled_meanwhile_is_dropped(store: Store) -> None:
    released = release(store)[0]

    with ThreadPoolExecutor(1) as pool:
        with store.database.transaction() as another:
            another.execute(jobs.update().where(jobs.c.id == released.job_id).values(cancel_requested=True))
            claimed = pool.submit(claim, store, released)
        assert claimed.result(timeout=5) is None

    assert outcomes_of(store, released.job_id) == ["dropped"]


def test_what_was_not_sent_is_taken_back_but_for_the_locked_one(store: Store) -> None:
    released = release(store)

    with locked(store, released[0].job_id):
        store.lanes.take_back(released)
        assert {outcomes_of(store, each.job_id)[0] for each in released[1:]} == {"not sent"}

    assert outcomes_of(store, released[0].job_id) == [None]
    assert len(release(store)) == _TOGETHER - 1


@pytest.mark.parametrize("how", ["not sent", "unclaimed", "freed"])
def test_many_places_are_freed_in_a_few_statements(store: Store, how: str) -> None:
    submit_many(store, 100 - _TOGETHER)
    released = release(store)
    assert len(released) == 100
    if how == "freed":
        for each in released:
            claim(store, each)
    store.database.execute(attempts.update().values(place_until=database_now(-timedelta(seconds=1))))

    with asked(store.database) as cost:
        match how:
            case "not sent":
                store.lanes.take_back(released)
            case "unclaimed":
                assert store.upkeep.take_back_unclaimed(500) == 100
            case "freed":
                assert store.upkeep.free_places(500, until=time_at(store)) == 100

    assert len(cost.statements) <= 6
    assert store.lanes.held() == {}
    assert len(release(store)) == (0 if how == "freed" else 100)
