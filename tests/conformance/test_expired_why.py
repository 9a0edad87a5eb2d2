"""What an expired job had waited for is in its row: downstream and workers may be others when somebody asks."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.support.jobs import (
    LONG_AGO,
    change_job,
    change_lane,
    open_lane,
    pass_deadline,
    release,
    row_of,
    running,
    submit,
)
from tidegate.database.schema import IMPLICIT_CLIENT, jobs, samples, workers
from tidegate.database.time import database_now
from tidegate.jobs.job import Wait
from tidegate.states import State
from tidegate.stores import Store

LATER = timedelta(minutes=5)


def fill_places(store: Store) -> None:
    store.database.execute(update(samples).values(held=4))


def lose_workers(store: Store) -> None:
    store.database.execute(update(workers).values(seen_until=database_now(-LATER)))


def know_others_only(store: Store) -> None:
    store.database.execute(update(workers).values(operations='["echo_of_others", "my_echo"]'))


def know_it(store: Store) -> None:
    store.database.execute(update(workers).values(operations='["echo_of_others", "echo"]'))


def be_polled(store: Store) -> None:
    """Due, with a place, among others that have all the others."""
    fill_places(store)
    store.database.execute(update(jobs).values(waits_for=Wait.POLL))


SITUATIONS: dict[Wait, list[Callable[[Store], object]]] = {
    Wait.PACE: [lambda _: None, know_it],
    Wait.CONCURRENCY: [fill_places],
    Wait.PAUSED: [
        lambda store: change_lane(store, paused=True),
        lambda store: change_lane(store, paused_until=database_now(LATER)),
    ],
    Wait.BREAKER: [lambda store: change_lane(store, breaker_after=3, failures=3, paused_until=database_now(LATER))],
    Wait.NO_WORKER: [lose_workers, know_others_only],
    Wait.DISPATCH: [release],
    Wait.POLL: [be_polled],
}


@pytest.mark.parametrize(
    ("reason", "happen"), [(reason, happen) for reason, each in SITUATIONS.items() for happen in each]
)
@pytest.mark.parametrize("finder", ["sweep", "reader"])
def test_an_expired_job_keeps_what_it_waited_for(
    store: Store, reason: Wait, happen: Callable[[Store], object], finder: str
) -> None:
    open_lane(store, rates=("4/s",), concurrency=4)
    job_id = submit(store)
    happen(store)
    change_job(store, job_id, run_at=database_now(-LONG_AGO))
    expire(store, job_id, finder)
    assert row_of(store, job_id).waits_for == reason


@pytest.mark.parametrize("reason", [Wait.RETRY, Wait.NOT_BEFORE, Wait.POLL])
def test_an_expired_job_that_could_not_go_before_its_deadline_keeps_that(store: Store, reason: Wait) -> None:
    open_lane(store)
    job_id = submit(store)
    change_lane(store, paused=True)
    change_job(store, job_id, run_at=database_now(LATER), waits_for=None if reason is Wait.NOT_BEFORE else reason)
    expire(store, job_id, "sweep")
    assert row_of(store, job_id).waits_for == reason


def test_one_that_could_have_gone_waited_for_its_downstream_and_no_longer_for_its_retry(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    change_lane(store, paused=True)
    change_job(store, job_id, run_at=database_now(-LATER), waits_for=Wait.RETRY)
    expire(store, job_id, "sweep")
    assert row_of(store, job_id).waits_for == Wait.PAUSED


@pytest.mark.parametrize("finder", ["sweep", "reader"])
def test_one_that_ran_waited_for_nothing(store: Store, finder: str) -> None:
    open_lane(store)
    job_id = running(store).job_id
    expire(store, job_id, finder)
    assert row_of(store, job_id).waits_for is None


def expire(store: Store, job_id: str, finder: str) -> None:
    """Lets the deadline pass and be seen."""
    pass_deadline(store, job_id)
    if finder == "sweep":
        store.upkeep.expire(10)
    else:
        store.callers.get(job_id, IMPLICIT_CLIENT)
    assert row_of(store, job_id).state == State.EXPIRED
