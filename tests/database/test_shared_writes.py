"""Threads of a process that meet share their statements, and each still has what is its own: jobs, claims, results."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pytest

from tests.support.jobs import (
    change_job,
    claim,
    open_lane,
    outcomes_of,
    pass_deadline,
    release,
    result_of,
    row_of,
    running,
    submit,
)
from tests.support.waiting import wait_until
from tidegate.database.connection import Database
from tidegate.execution.attempt import Success
from tidegate.jobs.job import Claim
from tidegate.operations.operation import Body
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

T = TypeVar("T")
LIMIT_SECONDS = 20


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    """On PostgreSQL: SQLite's threads share transactions, not statements (test_group_commit)."""
    database = Database(postgresql_url)
    yield Store(database)
    database.close()


def meet(database: Database, shared: Callable[[], Any], calls: Sequence[Callable[[], T]]) -> list[T]:
    """Their answers. The first one's statement is held until all the others wait for the next one."""
    begun: list[int] = []
    may_go = threading.Event()
    fetch_all = database.fetch_all

    def held(prepared: Any, values: Any, *, within: Any = None) -> Any:
        if within is None:
            begun.append(1)
            assert len(begun) > 1 or may_go.wait(LIMIT_SECONDS)
        return fetch_all(prepared, values, within=within)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(calls)) as pool:
        patch.setattr(database, "fetch_all", held)
        first = pool.submit(calls[0])
        wait_until(lambda: len(begun) == 1, description="the first one's statement is on its way")
        others = [pool.submit(call) for call in calls[1:]]
        wait_until(lambda: len(shared()._waiting) == len(others), description="the others wait")
        may_go.set()
        answers = [each.result(LIMIT_SECONDS) for each in (first, *others)]
    assert len(begun) == 2, "one statement for all who met"
    return answers


def test_jobs_that_meet_are_recorded_each_with_its_input(store: Store) -> None:
    def record(number: int) -> str:
        return submit(store, body=Body(content=b"%d\x00\xff" % number, content_type=f"application/{number}"))

    jobs = meet(store.database, lambda: store.submissions._new_jobs, [partial(record, each) for each in range(6)])

    for number, job_id in enumerate(jobs):
        body = store.callers.body(job_id, "input")
        assert body is not None
        assert (body.content, body.content_type) == (b"%d\x00\xff" % number, f"application/{number}")
    rows = [row_of(store, job_id) for job_id in jobs]
    assert len({row.run_at for row in rows}) == len(jobs), "each has a place of its own in the lane's order"
    assert {row.deadline - row.created_at for row in rows} == {rows[0].deadline - rows[0].created_at}


def test_claims_that_meet_each_have_their_job_and_input(store: Store) -> None:
    """The second message of a release, and that of a job which was called off, have none."""
    open_lane(store, size=10)
    jobs = [submit(store, body=Body(content=b"%d" % number)) for number in range(5)]
    released = {each.job_id: each for each in release(store)}
    store.callers.cancel(jobs[4], None)
    wanted = [released[job_id] for job_id in (*jobs, jobs[1])]

    def take(number: int) -> Claim | None:
        return claim(store, wanted[number])

    with pytest.MonkeyPatch.context() as patch:
        # What becomes of those without a job is not the statement that is looked at.
        patch.setattr("tidegate.execution.claims.take_back_release", lambda *_, **__: False)
        answers = meet(
            store.database,
            lambda: next(iter(store.claims._shared.values())),
            [partial(take, each) for each in range(6)],
        )

    assert answers[4] is None, "called off"
    assert [answers[1], answers[5]].count(None) == 1, "of two messages of one release one is the first"
    taken = [each for each in answers if each]
    assert sorted(each.job_id for each in taken) == sorted(jobs[:4])
    for each in taken:
        assert each.input is not None
        assert each.input.content == b"%d" % jobs.index(each.job_id)
        assert row_of(store, each.job_id).state == State.RUNNING


def test_results_that_meet_are_each_its_jobs_own(store: Store) -> None:
    """A claim that no longer stands has none, nor has one whose deadline has passed."""
    open_lane(store, size=10)
    claims = [running(store) for _ in range(6)]
    late, stale = claims[4:]
    pass_deadline(store, late.job_id)
    change_job(store, stale.job_id, fence=stale.fence + 1)

    def record(number: int) -> bool:
        success = Succeeded(content=b'{"n":%d}' % number, content_type="application/json", is_json=True)
        return store.workers._successes.record_at_once(Success(claim=claims[number], result=success, call_began=None))

    answers = meet(
        store.database, lambda: store.workers._successes._shared, [partial(record, each) for each in range(6)]
    )

    assert answers == [True] * 4 + [False] * 2
    for number, each in enumerate(claims[:4]):
        assert row_of(store, each.job_id).state == State.SUCCEEDED
        assert result_of(store, each.job_id) == b'{"n":%d}' % number
        assert outcomes_of(store, each.job_id) == ["succeeded"]
    for each in (late, stale):
        assert row_of(store, each.job_id).state == State.RUNNING
        assert result_of(store, each.job_id) is None
