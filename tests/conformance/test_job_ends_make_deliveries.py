"""Whoever ends a job makes its delivery due in the same transaction: every way there is, on both databases."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.jobs import (
    change_attempts,
    change_job,
    claim,
    lose_lease,
    open_lane,
    pass_deadline,
    release,
    release_one,
    row_of,
    running,
    submit,
    time_at,
)
from tests.support.statements import asked
from tests.support.webhooks import delivery_of, to
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim
from tidegate.maintenance.sweep import sweep
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

HOOK = to("https://hooks.example/end")
RESULT = Succeeded(content=b"1", content_type="application/json", is_json=True)
SOON = timedelta(0)
ERROR = {"code": "operation_error", "message": "no"}


def started(store: Store) -> Claim:
    """A job with a webhook in the hands of a worker."""
    return running(store, webhook=HOOK)


def _succeed(store: Store) -> str:
    claimed = started(store)
    assert store.workers.succeed(claimed, RESULT, call_seconds=None)
    return claimed.job_id


def _fail(store: Store) -> str:
    claimed = started(store)
    assert store.workers.fail(claimed, ERROR, call_seconds=None)
    return claimed.job_id


def _fail_in_its_last_attempt(store: Store) -> str:
    claimed = started(store)
    assert store.workers.try_again(claimed, ERROR, after=SOON, is_spent=True, blames_downstream=True, call_seconds=None)
    return claimed.job_id


def _cancel_queued(store: Store) -> str:
    job_id = submit(store, webhook=HOOK)
    store.callers.cancel(job_id, IMPLICIT_CLIENT)
    return job_id


def _hand_back_cancelled(store: Store) -> str:
    claimed = started(store)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)
    assert store.workers.hand_back(claimed, after=SOON, outcome="stopped")
    return claimed.job_id


def _refuse_cancelled(store: Store) -> str:
    claimed = started(store)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)
    assert store.workers.refused(claimed, ERROR, after=SOON, call_seconds=None)
    return claimed.job_id


def _worker_stops_with_cancelled(store: Store) -> str:
    claimed = started(store)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)
    store.heartbeats.remove("worker-1")
    return claimed.job_id


def _read_late(store: Store) -> str:
    job_id = submit(store, webhook=HOOK)
    pass_deadline(store, job_id)
    store.callers.get(job_id, IMPLICIT_CLIENT)
    return job_id


def _sweep_late(store: Store) -> str:
    job_id = submit(store, webhook=HOOK)
    pass_deadline(store, job_id)
    assert sweep(store.upkeep, retention=timedelta(days=7)).expired == 1
    return job_id


def _come_back_late(store: Store) -> str:
    claimed = started(store)
    pass_deadline(store, claimed.job_id)
    assert store.workers.hand_back(claimed, after=SOON, outcome="stopped")
    return claimed.job_id


def _disclaim_late(store: Store) -> str:
    claimed = started(store)
    pass_deadline(store, claimed.job_id)
    assert store.claims.disclaim(claimed.job_id, claimed.fence, worker="worker-1")
    return claimed.job_id


def _lose_for_the_last_time(store: Store) -> str:
    claimed = started(store)
    change_job(store, claimed.job_id, losses=2)
    lose_lease(store, claimed.job_id)
    assert sweep(store.upkeep, retention=timedelta(days=7)).rescued == 1
    return claimed.job_id


def _child_dies_for_the_last_time(store: Store) -> str:
    claimed = started(store)
    change_job(store, claimed.job_id, losses=2)
    change_attempts(store, claimed.job_id, claimed_at=database_now(-timedelta(seconds=5)))
    assert store.heartbeats.child_died("worker-1", live_pids=[99], claimed_until=time_at(store)) == 1
    return claimed.job_id


ENDS: list[tuple[Callable[[Store], str], State]] = [
    (_succeed, State.SUCCEEDED),
    (_fail, State.FAILED),
    (_fail_in_its_last_attempt, State.FAILED),
    (_lose_for_the_last_time, State.FAILED),
    (_child_dies_for_the_last_time, State.FAILED),
    (_cancel_queued, State.CANCELLED),
    (_hand_back_cancelled, State.CANCELLED),
    (_refuse_cancelled, State.CANCELLED),
    (_worker_stops_with_cancelled, State.CANCELLED),
    (_read_late, State.EXPIRED),
    (_sweep_late, State.EXPIRED),
    (_come_back_late, State.EXPIRED),
    (_disclaim_late, State.EXPIRED),
]


@pytest.mark.parametrize(("end", "state"), ENDS, ids=[end.__name__.strip("_") for end, _ in ENDS])
def test_an_end_makes_the_delivery_due(store: Store, end: Callable[[Store], str], state: State) -> None:
    open_lane(store)
    job_id = end(store)
    job, delivery = row_of(store, job_id), delivery_of(store, job_id)
    assert job.state == state
    assert (delivery.state, delivery.event) == ("pending", f"job.{state}")
    assert delivery.created_at == delivery.run_at == delivery.began_at == job.finished_at
    assert (delivery.url, delivery.receiver) == (HOOK.url, f"{IMPLICIT_CLIENT} hooks.example")


def test_many_jobs_ended_by_one_statement_are_all_told(store: Store) -> None:
    ids = [submit(store, webhook=HOOK) for _ in range(5)]
    for job_id in ids:
        pass_deadline(store, job_id)
    sweep(store.upkeep, retention=timedelta(days=7))
    assert {delivery_of(store, job_id).event for job_id in ids} == {"job.expired"}


def test_a_job_that_is_queued_again_is_not_told(store: Store) -> None:
    open_lane(store)
    claimed = started(store)
    assert store.workers.try_again(
        claimed, ERROR, after=SOON, is_spent=False, blames_downstream=True, call_seconds=None
    )
    assert row_of(store, claimed.job_id).state == State.QUEUED
    assert delivery_of(store, claimed.job_id).state == "waiting"


def test_what_rolls_the_end_back_rolls_the_delivery_back(store: Store) -> None:
    open_lane(store)
    claimed = started(store)
    unstorable = Succeeded(content=b"1", content_type=None, is_json=True)  # type: ignore[arg-type] # can't be stored
    with pytest.raises(Exception, match=r"NOT NULL|not-null|null value"):
        store.workers.succeed(claimed, unstorable, call_seconds=None)
    assert row_of(store, claimed.job_id).state == State.RUNNING
    assert delivery_of(store, claimed.job_id).state == "waiting"


def statements_of(store: Store, act: Callable[[], object]) -> list[str]:
    """The SQL that `act` sends."""
    with asked(store.database) as cost:
        act()
    return cost.statements


def test_a_job_without_a_webhook_costs_no_statement_more(store: Store) -> None:
    open_lane(store)
    recorded = statements_of(store, lambda: submit(store))
    claimed = claim(store, release_one(store))
    assert claimed is not None
    ended = statements_of(store, lambda: store.workers.succeed(claimed, RESULT, call_seconds=None))
    assert not [statement for statement in [*recorded, *ended] if "deliveries" in statement]
    with_webhook = statements_of(store, lambda: submit(store, webhook=HOOK))
    assert len([statement for statement in with_webhook if "deliveries" in statement]) == 1
    (other,) = release(store)
    taken = claim(store, other)
    assert taken is not None
    assert statements_of(store, lambda: store.workers.succeed(taken, RESULT, call_seconds=None)) == ended
