"""Who may still write about a job: the fence and the deadline guard every write of a worker."""

from datetime import timedelta

import pytest

from tests.support.jobs import (
    LEASE,
    change_job,
    claim,
    lose_lease,
    open_lane,
    outcomes_of,
    pass_deadline,
    release_one,
    result_of,
    row_of,
    running,
    time_at,
)
from tests.support.present import present
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.database.time import database_now
from tidegate.jobs.job import Claim
from tidegate.operations.operation import Progress
from tidegate.operations.outcome import Succeeded
from tidegate.states import State
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)
ERROR = {"code": "operation_error", "message": "no"}


def write_in_every_way(store: Store, claimed: Claim) -> dict[str, bool]:
    """What each write of a worker says about whether it was taken; each would end the claim."""
    workers = store.workers
    return {
        "progress": workers.progress(claimed, Progress(done=1, total=2), lease=LEASE),
        "succeed": workers.succeed(claimed, RESULT, call_seconds=0.1),
        "fail": workers.fail(claimed, ERROR, call_seconds=0.1),
        "try_again": workers.try_again(
            claimed, ERROR, after=timedelta(0), is_spent=False, blames_downstream=False, call_seconds=0.1
        ),
        "hand_back": workers.hand_back(claimed, after=timedelta(0), outcome="no slot"),
        "refused": workers.refused(claimed, ERROR, after=timedelta(seconds=1), call_seconds=0.1),
    }


NOTHING_TAKEN = dict.fromkeys(["progress", "succeed", "fail", "try_again", "hand_back", "refused"], False)


def test_a_worker_that_lost_its_lease_cannot_write(store: Store) -> None:
    open_lane(store)
    lost = running(store)
    lose_lease(store, lost.job_id)
    assert store.upkeep.rescue(10, until=time_at(store)) == 1
    newer = claim(store, release_one(store), worker="worker-2")
    assert newer is not None
    before = row_of(store, lost.job_id)

    assert write_in_every_way(store, lost) == NOTHING_TAKEN

    assert row_of(store, lost.job_id) == before
    assert result_of(store, lost.job_id) is None
    assert outcomes_of(store, lost.job_id) == ["late", None]
    assert store.workers.succeed(newer, RESULT, call_seconds=0.1)
    assert outcomes_of(store, lost.job_id) == ["late", "succeeded"]


@pytest.mark.parametrize("how", ["succeed", "fail", "progress", "refused"])
def test_a_worker_whose_job_waits_again_cannot_write(store: Store, how: str) -> None:
    open_lane(store)
    lost = running(store)
    lose_lease(store, lost.job_id)
    store.upkeep.rescue(10, until=time_at(store))

    assert write_in_every_way(store, lost)[how] is False
    assert row_of(store, lost.job_id).state == "queued"


def test_the_deadline_beats_the_result(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    pass_deadline(store, claimed.job_id)

    assert not store.workers.progress(claimed, Progress(done=1), lease=LEASE)
    assert not store.workers.succeed(claimed, RESULT, call_seconds=0.1)
    assert not store.workers.fail(claimed, ERROR, call_seconds=0.1)

    assert result_of(store, claimed.job_id) is None
    assert outcomes_of(store, claimed.job_id) == ["late"]
    assert present(store.callers.get(claimed.job_id, IMPLICIT_CLIENT)).state is State.EXPIRED


def test_a_cancelled_attempt_learns_of_it_at_its_progress(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    assert store.workers.progress(claimed, Progress(done=1), lease=LEASE)
    store.callers.cancel(claimed.job_id, IMPLICIT_CLIENT)

    assert not store.workers.progress(claimed, Progress(done=2), lease=LEASE)
    assert row_of(store, claimed.job_id).done == 1


def test_progress_never_falls_and_renews_the_lease(store: Store) -> None:
    open_lane(store)
    claimed = running(store)
    change_job(store, claimed.job_id, lease_until=database_now(timedelta(seconds=1)))

    assert store.workers.progress(claimed, Progress(done=5, total=10, note="half"), lease=LEASE)
    assert store.workers.progress(claimed, Progress(done=1, total=10), lease=LEASE)

    row = row_of(store, claimed.job_id)
    assert (row.percent, row.done, row.total, row.note, row.version) == (50, 1, 10, None, 4)
    assert row.lease_until > time_at(store) + LEASE - timedelta(seconds=5)
