"""What an expired job had waited for is in its row: downstream and workers may be others when somebody asks."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.conformance.test_partitions import finish, shared
from tests.conformance.test_partitions import submit as submit_to
from tests.support.jobs import (
    LANE,
    LONG_AGO,
    change_job,
    change_lane,
    claim,
    open_lane,
    pass_deadline,
    release,
    row_of,
    running,
    submit,
)
from tests.support.present import present
from tidegate.database.schema import IMPLICIT_CLIENT, jobs, partitions, samples, workers
from tidegate.database.time import database_now
from tidegate.jobs.job import Wait
from tidegate.operations.sharing import PartitionLimits
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


def in_partitions(store: Store, *, each: PartitionLimits | None = None, **limits: Any) -> str:
    """A job of a partition, and one of another before it; both wait."""
    sharing = shared(store, each=each, **limits)
    submit_to(store, sharing, "other", 2)
    (job_id,) = submit_to(store, sharing, "own")
    return job_id


def of_a_share(store: Store) -> str:
    return in_partitions(store, rates=("1/h",))


def alone(store: Store) -> str:
    (job_id,) = submit_to(store, shared(store, rates=("1/h",)), "own")
    return job_id


def behind_its_own(store: Store) -> str:
    sharing = shared(store, rates=("1/h",))
    submit_to(store, sharing, "own", 3)
    submit_to(store, sharing, "other", 2)
    return submit_to(store, sharing, "own")[0]


def paused_by_itself(store: Store) -> str:
    job_id = in_partitions(store)
    store.partitions.change(LANE, IMPLICIT_CLIENT, "own", {}, paused=True)
    return job_id


def resting_by_itself(store: Store) -> str:
    job_id = in_partitions(store)
    store.database.execute(insert(partitions).values(**OWN, rests_until=database_now(LATER)))
    return job_id


def at_its_own_rate(store: Store) -> str:
    sharing = shared(store, each=PartitionLimits(rates=("1/h",)))
    (job_id, _) = submit_to(store, sharing, "own", 2)
    finish(store, release(store))
    return submit_to(store, sharing, "own")[0] if row_of(store, job_id).state == State.SUCCEEDED else job_id


def at_its_own_concurrency(store: Store) -> str:
    sharing = shared(store, each=PartitionLimits(concurrency=1))
    submit_to(store, sharing, "own")
    assert claim(store, release(store)[0])
    return submit_to(store, sharing, "own")[0]


def in_its_order(store: Store) -> str:
    sharing = shared(store, each=PartitionLimits(is_strict=True))
    submit_to(store, sharing, "own")
    return submit_to(store, sharing, "own")[0]


OWN = {"downstream": LANE, "client": IMPLICIT_CLIENT, "name": "own"}
OF_PARTITIONS: list[tuple[Wait, Callable[[Store], str]]] = [
    (Wait.SHARE, of_a_share),
    (Wait.PACE, alone),
    (Wait.PACE, behind_its_own),
    (Wait.PAUSED, paused_by_itself),
    (Wait.PAUSED, resting_by_itself),
    (Wait.PARTITION_PACE, at_its_own_rate),
    (Wait.PARTITION_CONCURRENCY, at_its_own_concurrency),
    (Wait.PARTITION_ORDER, in_its_order),
]


@pytest.mark.parametrize(("reason", "happen"), OF_PARTITIONS, ids=[happen.__name__ for _, happen in OF_PARTITIONS])
@pytest.mark.parametrize("finder", ["sweep", "reader"])
def test_an_expired_job_of_a_partition_keeps_what_that_waited_for(
    store: Store, reason: Wait, happen: Callable[[Store], str], finder: str
) -> None:
    job_id = happen(store)
    change_job(store, job_id, run_at=database_now(-LONG_AGO))
    expire(store, job_id, finder)
    assert present(store.callers.get(job_id, IMPLICIT_CLIENT)).waits_for is reason
