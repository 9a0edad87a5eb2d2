"""A job that one more death would fail: where a process runs many, it is not let go beside another such job.

So a job that kills its process takes no neighbour with it to the end: the others that died with it twice run while
it waits, or it dies while they do.
"""

import pytest

from tests.support.jobs import change_job, claim, open_lane, release, release_one, submit
from tidegate.jobs.job import MAX_LOSSES
from tidegate.operations.outcome import Succeeded
from tidegate.stores import Store

RESULT = Succeeded(content=b"[1]", content_type="application/json", is_json=True)


def lost(store: Store, times: int, *, lane: str = "lane", queue: str = "io") -> str:
    """A queued job whose process died so often."""
    job_id = submit(store, lane=lane, queue=queue)
    change_job(store, job_id, losses=times)
    return job_id


@pytest.mark.parametrize("lane", ["lane", "other"], ids=["of one lane", "of two lanes"])
def test_jobs_on_their_last_life_go_one_by_one(store: Store, lane: str) -> None:
    open_lane(store)
    open_lane(store, lane)
    jobs = {lost(store, MAX_LOSSES - 1), lost(store, MAX_LOSSES - 1, lane=lane)}

    first = release_one(store)
    assert release(store) == []
    claimed = claim(store, first)
    assert claimed is not None
    assert release(store) == []
    assert store.workers.succeed(claimed, RESULT, call_seconds=None)

    assert {first.job_id, release_one(store).job_id} == jobs


def test_they_do_not_hold_back_the_others(store: Store) -> None:
    open_lane(store)
    on_last_life = [lost(store, MAX_LOSSES - 1) for _ in range(2)]
    others = [lost(store, MAX_LOSSES - 2), submit(store)]

    assert {job.job_id for job in release(store)} == {on_last_life[0], *others}


def test_where_each_job_has_a_process_of_its_own_they_go_together(store: Store) -> None:
    open_lane(store, queue="cpu")
    jobs = {lost(store, MAX_LOSSES - 1, queue="cpu") for _ in range(2)}

    assert {job.job_id for job in release(store)} == jobs
