"""The types of the Python client: as a user's mypy sees them, and beside what the API's description says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import tidegate_client
from tests.support.processes import REPOSITORY

PROGRAM = """\
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_type

from tidegate_client import (
    AsyncClient, AsyncJob, Client, Counts, Delivery, Downstream, Job, JobEvent, JobFailed, NewWebhookSecret, Operation,
    Snapshot, SomeRefused, State, WebhookEvent, WebhookSecret, verify_webhook,
)


@dataclass
class Order:
    price: Decimal


def blocking(client: Client) -> None:
    job = client.submit("quote", Order(Decimal("1.10")))
    assert_type(job, Job)
    assert_type(job.wait(), Snapshot)
    assert_type(job.seen.finished_at, datetime | None)
    for event in client.events(job):
        assert_type(event, JobEvent)
        assert_type(event.job.state, State)
    assert_type(client.operation("quote"), Operation)
    assert_type(client.operation("quote")["retry"]["attempts"], int)
    assert_type(client.operations()[0]["downstream"]["concurrency"], int | None)
    assert_type(client.downstreams(), list[Downstream])
    assert_type(client.change_downstream("sample", rate=["10/s"], paused=False)["declared"]["rate"], list[str])
    client.change_downstream("sample", speed=3)  # wrong
    client.operation("quote")["no_such"]  # wrong
    assert_type(client.cancel_jobs(state="queued"), Counts)
    client.cancel_jobs(status="queued")  # wrong
    for delivery in client.deliveries(event="job.failed"):
        assert_type(delivery, Delivery)
        assert_type(delivery["attempts"][0]["status"], int | None)
    client.deliveries(event="failed")  # wrong
    assert_type(client.send_deliveries(), int)
    assert_type(client.webhook_secrets(), list[WebhookSecret])
    assert_type(client.new_webhook_secret(), NewWebhookSecret)
    assert_type(client.scale()["io"]["wanted"], int)
    try:
        client.submit_many("quote", [1])
    except SomeRefused as some:
        print(some.refusals[0].faults[0].pointer)
    except JobFailed as failed:
        print(failed.error.code)  # wrong
    assert_type(verify_webhook({"webhook-id": "1"}, b"", ["a", "b"]), WebhookEvent)
    verify_webhook({"webhook-id": "1"}, "text", "a")  # wrong


async def asynchronous(client: AsyncClient) -> None:
    jobs = await client.submit_many("quote", [1, 2])
    assert_type(jobs, list[AsyncJob])
    assert_type(await asyncio.gather(*(job.wait() for job in jobs)), list[Snapshot])
    async for job in client.jobs(state=State.FAILED):
        assert_type(await job.retry(), AsyncJob)
    async for event in jobs[0].events():
        assert_type(event, JobEvent)
    client.downstream("sample")["name"]  # wrong
"""


def test_a_users_mypy_sees_every_type(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "program.py"]
    environment = {**os.environ, "MYPYPATH": str(REPOSITORY / "client")}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    found = {int(line) for line in re.findall(r"^program\.py:(\d+): error", told, re.MULTILINE)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, told


SCHEMAS = json.loads((REPOSITORY / "docs" / "openapi.json").read_text("utf-8"))["components"]["schemas"]
DOCUMENTS = {
    "Operation": "Operation", "RetryPolicy": "RetryPolicy", "OperationLimits": "Limits", "Downstream": "Downstream",
    "DeclaredLimits": "DeclaredLimits", "AnnouncedQuota": "AnnouncedQuota", "DownstreamWarning": "DownstreamWarning",
    "Change": "Changes", "CalendarRate": "CalendarRate", "Delivery": "Delivery", "DeliveryAttempt": "DeliveryAttempt",
    "WebhookSecret": "WebhookSecret", "NewWebhookSecret": "NewWebhookSecret",
    "QueueScale": "QueueScale", "Partition": "Partition", "DeclaredPartition": "DeclaredPartition",
    "PartitionChange": "PartitionChanges",
}  # fmt: skip


def test_all_that_the_api_describes_has_a_type() -> None:
    typed = {
        "Operation",
        "Downstream",
        "Delivery",
        "WebhookSecret",
        "NewWebhookSecret",
        "Change",
        "QueueScale",
        "Partition",
    }
    assert typed <= set(DOCUMENTS)
    assert (REPOSITORY / "client" / "tidegate_client" / "py.typed").is_file()


@pytest.mark.parametrize("described", DOCUMENTS)
def test_a_document_has_the_members_that_the_api_describes(described: str) -> None:
    schema, hints = SCHEMAS[described], get_type_hints(getattr(tidegate_client, DOCUMENTS[described]))
    assert set(hints) == set(schema["properties"])
    for name, member in schema["properties"].items():
        may_be_null = any(each.get("type") == "null" for each in member.get("anyOf", ()))
        assert may_be_null == (type(None) in _parts(hints[name])), name
        kinds = {each.get("type") for each in (member, *member.get("anyOf", ()))}
        ours = {"integer": int, "boolean": bool, "number": float}
        assert {each for kind, each in ours.items() if kind in kinds} <= set(_parts(hints[name])), name


def _parts(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", None) or (hint,)
