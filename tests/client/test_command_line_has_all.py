"""The command line beside the API: a command for each operation; events, deliveries, webhook secrets, deleting."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click
import pytest

from tests.support import sqlite
from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import REPOSITORY
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tests.support.webhooks import make_secret, send_due
from tidegate.database.connection import Database
from tidegate.stores import Store
from tidegate_client.command.group import tidegate as group

COMMANDS = {
    "cancelJob": "cancel", "cancelJobs": "cancel", "changeDownstream": "downstreams set",
    "changePartition": "partitions set", "deleteJob": "delete",
    "endWebhookSecret": "webhook-secrets end", "listDeliveries": "deliveries list",
    "listDownstreams": "downstreams list", "listJobs": "list", "listOperations": "operations",
    "listPartitions": "partitions list", "listWebhookSecrets": "webhook-secrets list",
    "readDelivery": "deliveries show",
    "readDownstream": "downstreams show", "readEvents": "events", "readJob": "status", "readOperation": "operations",
    "readResult": "result", "readScale": "scale", "retryJob": "retry", "retryJobs": "retry",
    "rotateWebhookSecret": "webhook-secrets new",
    "sendDeliveries": "deliveries send", "sendDelivery": "deliveries send", "submit": "submit",
    "submitBulk": "submit",
}  # fmt: skip
ON_PURPOSE_NONE = {"isLive": "/health/live", "isReady": "/health/ready", "readMetrics": "/metrics"}
README = (REPOSITORY / "client" / "README.md").read_text("utf-8")


def described() -> set[str]:
    """Every operation of the API that is not deprecated; a submit has one for each kind of job."""
    paths = json.loads((REPOSITORY / "docs" / "openapi.json").read_text("utf-8"))["paths"].values()
    operations = [each for path in paths for each in path.values() if isinstance(each, dict)]
    ids = {each["operationId"] for each in operations if not each.get("deprecated")}
    return {each.partition(".")[0] for each in ids}


def test_each_operation_of_the_api_has_a_command_or_the_readme_says_why_not() -> None:
    assert described() == COMMANDS.keys() | ON_PURPOSE_NONE.keys()
    for command in COMMANDS.values():
        found: click.Command = group
        for part in command.split():
            assert isinstance(found, click.Group)
            found = found.commands[part]
    (without,) = re.findall(r"\nNo command on purpose: (.*?)\n\n", README, re.DOTALL)
    assert set(re.findall(r"`(/[a-z/.]*)`", without)) == {*ON_PURPOSE_NONE.values(), "/openapi.json", "/docs", "/"}


def test_each_command_stands_in_the_readme() -> None:
    for name in group.commands:
        assert f"tidegate {name}" in README, name


@dataclass(frozen=True)
class Place:
    """A web server beside which nothing runs, and a hand that sends webhooks."""

    web: WebServer
    store: Store

    def tidegate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the command as a script does."""
        command = [sys.executable, "-m", "tidegate_client", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    @property
    def environment(self) -> dict[str, str]:
        """Of a shell in which a user works."""
        path = str(REPOSITORY / "client")
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "TIDEGATE_URL": self.web.url, "TERM": "xterm"}

    def send(self, number: int) -> None:
        """Sends so many webhooks; a receiver that nobody knows yet gets one at a time."""
        sent = 0

        def is_sent() -> bool:
            nonlocal sent
            sent += send_due(self.store)
            return sent == number

        wait_until(is_sent, description=f"{number} are sent")

    def cancelled(self, hook: str) -> str:
        """A job that has ended and is to be told there."""
        job_id = self.web.submit(Webhook_Url=hook)
        assert self.web.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        return job_id


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("web")
    url = sqlite.fresh_database(folder)
    database = Database(url)
    key = base64.b64encode(b"k" * 32).decode()  # the one that the tests' sender has
    web = WebServer(folder, url, WEBHOOK_NETWORKS="127.0.0.0/8", WEBHOOK_KEY=key)
    web.start()
    make_secret(Store(database))
    yield Place(web, Store(database))
    web.close()
    database.close()


@pytest.fixture
def receiver() -> Iterator[HttpServer]:
    with serving() as server:
        yield server


def documents(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_deliveries_are_listed_shown_and_sent_again(place: Place, receiver: HttpServer) -> None:
    receiver.answer = respond(410)
    gone = [place.cancelled(receiver.url) for _ in range(2)]
    place.send(2)
    listed = place.tidegate("deliveries", "list", "--state", "failed", "--event", "job.cancelled")
    assert [line.split("\t") for line in listed.stdout.splitlines()] == [
        [job_id, "failed", "job.cancelled", receiver.url] for job_id in reversed(gone)
    ]
    assert place.tidegate("deliveries").stdout.splitlines() == listed.stdout.splitlines()
    assert [each["id"] for each in documents(place.tidegate("deliveries", "list", "--limit", "1", "--json"))] == gone[
        1:
    ]
    shown = place.tidegate("deliveries", "show", gone[0]).stdout
    assert "410" in shown
    assert "the receiver wants no more of this" in shown
    (sent,) = documents(place.tidegate("deliveries", "send", gone[0], "--json"))
    assert (sent["id"], sent["state"]) == (gone[0], "pending")
    many = ("deliveries", "send", "--state", "failed", "--created-after", "1h", "--event", "job.cancelled")
    assert place.tidegate(*many, "--client", "nobody").stdout == "0 sent again\n"
    assert place.tidegate(*many).stdout == "1 sent again\n"
    receiver.answer = respond(204)
    place.send(2)
    assert [each.headers["webhook-id"] for each in receiver.received].count(gone[0]) == 2
    assert documents(place.tidegate(*many, "--json")) == [{"sent_again": 0}]
    with Terminal([sys.executable, "-m", "tidegate_client", "deliveries"], environment=place.environment) as terminal:
        terminal.wait_for("delivered")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["deliveries", "send"], 2, "say which"),
        (["deliveries", "send", "--event", "job.failed"], 2, "say which"),
        (["deliveries", "send", "01a20aee-db78-76b3-af2a-71a2695c0567", "--state", "failed"], 2, "give one of them"),
        (["deliveries", "send", "--state", "waiting"], 2, "Invalid value"),
        (["deliveries", "show", "01a20aee-db78-76b3-af2a-71a2695c0567"], 5, "there is no webhook of a job"),
        (["events", "01a20aee-db78-76b3-af2a-71a2695c0567"], 5, "there is no job"),
        (["delete", "01a20aee-db78-76b3-af2a-71a2695c0567"], 5, "there is no job"),
        (["webhook-secrets", "new", "--overlap", "99d"], 5, "/overlap"),
    ],
    ids=str,
)
def test_what_can_not_be_done_is_told(place: Place, arguments: list[str], code: int, told: str) -> None:
    done = place.tidegate(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_secrets_are_made_listed_and_ended(place: Place) -> None:
    made = place.tidegate("webhook-secrets", "new", "--overlap", "1h")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=\n", made.stdout), "its text alone, for a script"
    (secret_id,) = re.findall(r"[0-9a-f-]{36}", made.stderr)
    listed = [line.split("\t") for line in place.tidegate("webhook-secrets").stdout.splitlines()]
    assert listed[0][0] == secret_id
    assert made.stdout.strip() not in str(listed)
    assert place.tidegate("webhook-secrets", "end", secret_id).returncode == 0
    known = [each["id"] for each in documents(place.tidegate("webhook-secrets", "list", "--json"))]
    assert known
    assert secret_id not in known


def test_events_are_written_as_they_happen_and_the_exit_code_tells_the_end(place: Place) -> None:
    job_id = place.web.submit()
    command = [sys.executable, "-m", "tidegate_client", "events", job_id]
    with subprocess.Popen(command, env=place.environment, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout
        assert listening.stdout.readline().split("\t")[::2] == ["state", "queued"]
        place.web.client.post(f"/v1/jobs/{job_id}/cancel")
        assert listening.stdout.readline().split("\t")[::2] == ["state", "cancelled"]
        assert listening.stdout.read() == ""
    assert listening.returncode == 4
    done = place.tidegate("events", job_id, "--json")
    assert done.returncode == 4
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (event["event"], event["job"]["id"], event["job"]["state"]) == ("state", job_id, "cancelled")


def test_events_in_a_terminal_say_what_happens(place: Place) -> None:
    job_id = place.web.submit()
    command = [sys.executable, "-m", "tidegate_client", "events", job_id]
    with Terminal(command, environment=place.environment) as terminal:
        terminal.wait_for("queued 0 %")
        place.web.client.post(f"/v1/jobs/{job_id}/cancel")
        terminal.wait_for("cancelled 0 %")


def test_a_job_is_erased_once_it_has_ended(place: Place) -> None:
    job_id = place.web.submit()
    assert place.tidegate("delete", job_id).returncode == 5
    place.web.client.post(f"/v1/jobs/{job_id}/cancel")
    assert place.tidegate("delete", job_id).returncode == 0
    assert place.web.client.get(f"/v1/jobs/{job_id}").status_code == 404


def test_the_workers_that_are_wanted_are_listed_and_told_as_a_number_for_a_script(place: Place) -> None:
    place.store.heartbeats.beat("io-1", queue="io", size=8, until=timedelta(minutes=1))
    listed = [line.split("\t") for line in place.tidegate("scale").stdout.splitlines()]
    assert ["io", "1", "0", "nothing waits and nothing runs"] in listed
    assert place.tidegate("scale", "io").stdout == "0\n"
    (document,) = documents(place.tidegate("scale", "--json"))
    assert document["queues"]["io"]["places"] == 8
    assert place.tidegate("scale", "gpu").returncode == 2
    with Terminal([sys.executable, "-m", "tidegate_client", "scale"], environment=place.environment) as terminal:
        terminal.wait_for("wanted")
