"""Batches on real workers: one Celery task for all of their jobs, whose id is the batch's, as each document says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import CeleryTestSetup

from tests.support.nodes import SchedulerNode
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.support.web import Web
from tidegate.jobs.job import InBatch

_MODULES = "tests.support.operations,tests.support.batched_operations"


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    """With an operation that takes several jobs in a call."""
    return {**default_worker_env, "TIDEGATE_OPERATIONS": _MODULES, "TIDEGATE_LOG_FORMAT": "json"}


@pytest.fixture
def face(tmp_path: Path, database_url: str, broker: Valkey) -> Iterator[Web]:
    """The HTTP face beside the workers."""
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web", database_url, broker_url=broker.url, operations=tuple(_MODULES.split(",")))
    yield web
    web.close()


def test_the_celery_task_has_the_id_of_its_batch(
    face: Web, scheduler: SchedulerNode, celery_setup: CeleryTestSetup
) -> None:
    """So Flower shows the batch under the id that the documents tell, and so does the log."""
    items = [{"input": {"n": number, "seconds": 4}} for number in range(3)]
    answer = face.client.post("/v1/operations/together/jobs/bulk", json=items)
    ids = [each["job"]["id"] for each in answer.get_json()["jobs"]]
    wait_until(lambda: face.row(ids[2]).state == "running", description="they run")

    def active() -> list[dict[str, Any]]:
        answer = celery_setup.app.control.inspect(timeout=1).active() or {}
        return [task for tasks in answer.values() for task in tasks]

    (task,) = wait_until(active, description="the worker tells its active tasks")
    documents = [face.read(job_id).get_json() for job_id in ids]
    parts = InBatch.among(ids)
    assert [each["batch"] for each in documents] == [{"id": part.id, "size": 3, "index": part.index} for part in parts]
    assert (task["id"], task["name"]) == (parts[0].id, "tasks.run.run_batch")
    assert task["args"] == [parts[0].id, [[job_id, 1] for job_id in ids]]
    wait_until(lambda: face.row(ids[2]).state == "succeeded", description="they are done")

    def told() -> list[dict[str, Any]]:
        lines = celery_setup.worker.logs().splitlines()
        return [json.loads(line) for line in lines if "3 job(s) of together" in line]

    lines = wait_until(told, description="the log tells its end")
    assert [(line["batch_id"], line["operation"]) for line in lines] == [(parts[0].id, "together")]
    assert [face.read(job_id).get_json()["result"] for job_id in ids] == [0, 1, 2]
