"""Batches whose call is stopped, killed, cancelled, too long or judged: every job has one outcome, and only its own."""

import signal
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from pytest_celery import CeleryTestSetup

from tests.execution.batches.conftest import Calls
from tests.support.batch_operations import calls_in
from tests.support.bulk_endpoint import PATIENCE, Bulk, batch_id_of, doubled, ended, numbers, outcomes, submit_all
from tests.support.node_fixtures import StartWorker
from tests.support.nodes import SchedulerNode, WorkerNode
from tests.support.waiting import wait_until
from tests.support.web import Web

pytestmark = pytest.mark.long  # workers are killed, leases waited out

StartScheduler = Callable[[], SchedulerNode]


def test_a_poison_is_found_in_halves_by_http_and_fails_alone(
    face: Web, bulk: Bulk, celery_setup: CeleryTestSetup, start_scheduler: StartScheduler
) -> None:
    ids = submit_all(face, "double", *numbers(0, 1, 2, 3, 4, 5, -6, 7, 8, 9))
    start_scheduler()

    assert ended(face, ids) == [*doubled(0, 1, 2, 3, 4, 5), ("failed", "downstream_error"), *doubled(7, 8, 9)]
    assert len(bulk.calls) <= 1 + 8
    assert bulk.calls[-1] == [-6] or [-6] in bulk.calls
    assert len({*bulk.keys}) == len(bulk.calls)
    assert {row[-1] for row in outcomes(face, ids)} == {"succeeded", "failed"}
    assert {outcome for row in outcomes(face, ids) for outcome in row[:-1]} == {"halved"}
    assert {face.row(job_id).attempt for job_id in ids} == {1}


@pytest.mark.both_databases("what a process that died had in hand is found by SQL")
@pytest.mark.parametrize("operation", ["double", "double_io"])
def test_a_worker_that_is_killed_in_a_call_leaves_each_job_one_outcome(
    face: Web, calls: Calls, start_worker: StartWorker, operation: str
) -> None:
    doomed = start_worker("io", name="io-doomed")
    ids = calls.begin(operation, 1, 2, 3)

    doomed.kill()
    calls.let_go()
    start_worker("io", name="io-next")

    assert ended(face, ids) == doubled(1, 2, 3)
    # An attempt that was lost is open as long as its call may go on.
    assert {ends[0] for ends in outcomes(face, ids)} <= {None, "lost"}
    assert [ends[1:] for ends in outcomes(face, ids)] == [["succeeded"]] * 3
    assert calls.made[0] == [1, 2, 3]
    assert sorted(chain(*calls.made[1:])) == [1, 2, 3]
    assert {(face.row(job_id).attempt, face.row(job_id).losses) for job_id in ids} == {(2, 1)}


@pytest.mark.parametrize("operation", ["double", "double_io"])
def test_a_stopped_worker_hands_a_batch_back_and_it_is_called_again_under_its_key(
    face: Web, calls: Calls, start_worker: StartWorker, default_worker_env: dict[str, str], operation: str
) -> None:
    default_worker_env["TIDEGATE_GRACE_SECONDS"] = "1"
    leaving = start_worker("io", name="io-leaving")
    ids = calls.begin(operation, 1, 2, 3)
    start_worker("io", name="io-next")

    leaving.kill(signal.SIGTERM)
    wait_until(
        lambda: outcomes(face, ids)[0][:1] == ["handed back"],
        description="it is handed back",
        timeout_seconds=PATIENCE,
    )
    calls.let_go()

    assert ended(face, ids) == doubled(1, 2, 3)
    assert outcomes(face, ids) == [["handed back", "succeeded"]] * 3
    assert calls.made == [[1, 2, 3]] * 2
    assert calls.bulk.keys in ([], [batch_id_of(ids)] * 2)
    assert {(face.row(job_id).attempt, face.row(job_id).losses) for job_id in ids} == {(1, 0)}


def test_a_job_that_is_cancelled_before_the_call_is_left_out_of_it(
    face: Web, bulk: Bulk, celery_setup: CeleryTestSetup, start_scheduler: StartScheduler
) -> None:
    ids = submit_all(face, "double", *numbers(1, 2, 3))
    assert face.client.post(f"/v1/jobs/{ids[1]}/cancel").status_code == 200
    start_scheduler()

    assert ended(face, ids) == [("succeeded", 2), ("cancelled", None), ("succeeded", 6)]
    assert bulk.calls == [[1, 3]]


@pytest.mark.parametrize("operation", ["double", "double_io"])
def test_a_job_that_is_cancelled_within_the_call_stops_none_of_the_others(
    face: Web, calls: Calls, celery_setup: CeleryTestSetup, operation: str
) -> None:
    ids = calls.begin(operation, 1, 2, 3)
    assert face.client.post(f"/v1/jobs/{ids[1]}/cancel").status_code == 202
    calls.let_go()

    first, second, third = ended(face, ids)
    assert [first, third] == doubled(1, 3)
    assert second == ("succeeded", 4)  # what was done stands, as where a job alone is cancelled too late
    assert calls.made == [[1, 2, 3]]


def test_a_call_of_which_everyone_is_cancelled_is_stopped(
    face: Web, calls: Calls, celery_setup: CeleryTestSetup
) -> None:
    ids = calls.begin("double_io", 1, 2)
    for job_id in ids:
        assert face.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert ended(face, ids) == [("cancelled", None)] * 2


def test_a_call_that_takes_too_long_is_made_again_whole_and_counts_for_each(
    face: Web, bulk: Bulk, celery_setup: CeleryTestSetup, start_scheduler: StartScheduler
) -> None:
    bulk.is_open.clear()
    ids = submit_all(face, "double_soon", *numbers(1, 2, 3))
    start_scheduler()
    wait_until(lambda: len(bulk.calls) >= 2, description="it is called again", timeout_seconds=PATIENCE)
    bulk.is_open.set()

    assert ended(face, ids) == doubled(1, 2, 3)
    assert {tuple(call) for call in bulk.calls} == {(1, 2, 3)}
    assert {*bulk.keys} == {batch_id_of(ids)}
    for ends in outcomes(face, ids):
        assert ends == ["error"] * (len(bulk.calls) - 1) + ["succeeded"]


def test_a_job_that_is_cancelled_within_a_call_that_fails_is_not_called_again(
    face: Web, calls: Calls, celery_setup: CeleryTestSetup
) -> None:
    ids = calls.begin("double_soon", 1, 2, 3)
    assert face.client.post(f"/v1/jobs/{ids[1]}/cancel").status_code == 202
    wait_until(lambda: len(calls.made) >= 2, description="it is called again", timeout_seconds=PATIENCE)
    calls.let_go()

    assert ended(face, ids) == [("succeeded", 2), ("cancelled", None), ("succeeded", 6)]
    assert calls.made[0] == [1, 2, 3]
    assert {tuple(call) for call in calls.made[1:]} == {(1, 3)}
    assert {*calls.bulk.keys[1:]} == {batch_id_of([ids[0], ids[2]])}


def test_the_hard_limit_ends_a_batch_and_every_job_says_so(
    face: Web, cpu_worker: WorkerNode, start_scheduler: StartScheduler, tmp_path: Path
) -> None:
    ids = submit_all(face, "for_ever_cpu", *numbers(1, -2, 3))
    start_scheduler()

    assert ended(face, ids) == [("failed", "operation_error")] * 3
    assert calls_in(tmp_path) == [[1, -2, 3]]
    assert outcomes(face, ids) == [["timed out"]] * 3
    assert {face.row(job_id).attempt for job_id in ids} == {1}
    others = submit_all(face, "for_ever_cpu", *numbers(4, 5))
    assert ended(face, others) == doubled(4, 5)


def test_a_job_that_kills_its_process_fails_alone_in_the_end(
    face: Web, cpu_worker: WorkerNode, start_scheduler: StartScheduler, tmp_path: Path
) -> None:
    ids = submit_all(face, "kills_its_process_cpu", *numbers(1, -2, 3, 4))
    start_scheduler()

    assert ended(face, ids) == [("succeeded", 2), ("failed", "attempts_exhausted"), *doubled(3, 4)]
    assert calls_in(tmp_path)[0] == [1, -2, 3, 4]
