"""Batches on real workers: one message and one call for many jobs, each with its own end, ETag and webhook.

All jobs are submitted before the scheduler starts, which puts them into one batch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import CeleryTestSetup

from tests.execution.batches.conftest import Calls
from tests.support.batch_operations import calls_in
from tests.support.bulk_endpoint import PATIENCE, batch_id_of, doubled, ended, numbers, outcomes, submit_all
from tests.support.http_server import HttpServer
from tests.support.node_fixtures import StartWorker
from tests.support.nodes import SchedulerNode
from tests.support.waiting import wait_until
from tests.support.web import Web
from tests.support.webhooks import verified

StartScheduler = Callable[[], SchedulerNode]


def test_jobs_of_one_call_have_one_message_and_each_its_own_end_and_etag(
    face: Web, calls: Calls, celery_setup: CeleryTestSetup
) -> None:
    ids = calls.begin("double", 1, 2, 3)

    def active() -> list[dict[str, Any]]:
        answer = celery_setup.app.control.inspect(timeout=1).active() or {}
        return [task for tasks in answer.values() for task in tasks]

    (task,) = wait_until(active, description="the worker tells its active tasks")
    assert (task["id"], task["name"]) == (batch_id_of(ids), "tasks.run.run_batch")
    assert {face.row(job_id).state for job_id in ids} == {"running"}
    before = [face.read(job_id).headers["ETag"] for job_id in ids]
    calls.let_go()

    assert ended(face, ids) == doubled(1, 2, 3)
    assert (calls.made, calls.bulk.keys) == ([[1, 2, 3]], [batch_id_of(ids)])
    assert outcomes(face, ids) == [["succeeded"]] * 3
    for job_id, old in zip(ids, before, strict=True):
        now = face.read(job_id).headers["ETag"]
        asked = [face.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}) for tag in (old, now)]
        assert [answer.status_code for answer in asked] == [200, 304]


def test_a_python_call_for_many_jobs_fails_one_of_them_alone(
    face: Web, celery_setup: CeleryTestSetup, start_scheduler: StartScheduler, tmp_path: Path
) -> None:
    ids = submit_all(face, "double_io", *numbers(1, -2, 3))
    start_scheduler()

    assert ended(face, ids) == [("succeeded", 2), ("failed", "operation_error"), ("succeeded", 6)]
    assert calls_in(tmp_path) == [[1, -2, 3]]
    assert outcomes(face, ids) == [["succeeded"], ["failed"], ["succeeded"]]


@pytest.mark.long
def test_jobs_of_one_call_are_told_one_by_one(
    face: Web, calls: Calls, start_worker: StartWorker, receiver: HttpServer, secret: str
) -> None:
    start_worker("io")
    start_worker("webhooks", concurrency=2)
    ids = calls.begin("double", 1, -2, 3, Webhook_Url=receiver.url)
    calls.let_go()

    wait_until(lambda: len(receiver.received) >= len(ids), description="each is told", timeout_seconds=PATIENCE)
    told = {each["data"]["id"]: each["type"] for each in (verified(one, secret) for one in receiver.received)}
    assert [told[job_id] for job_id in ids] == ["job.succeeded", "job.failed", "job.succeeded"]
