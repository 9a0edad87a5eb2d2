"""Partitions by the Python client and by the command line, at a real web server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert

from tests.support import clients, sqlite
from tests.support.processes import REPOSITORY
from tests.support.web_server import WebServer
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, partitions
from tidegate.database.time import database_now
from tidegate.operations.limits import Limits
from tidegate.operations.sharing import PartitionLimits, Sharing
from tidegate.stores import Store
from tidegate_client import Client, Refused

OPERATIONS = """
[downstreams.crm]
partition = "header"
each = { rate = "5/s" }

[operations.orders]
url = "http://127.0.0.1:1/orders"
downstream = "crm"
timeout = "1d"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "operations.toml").write_text(OPERATIONS)
    url = sqlite.fresh_database(folder)
    database = Database(url)
    sharing = Sharing(by="header", each=PartitionLimits(rates=("5/s",)))
    Store(database).limits.declare([Limits(name="crm", sharing=sharing)])  # as a scheduler's start does
    refused = {"downstream": "crm", "client": IMPLICIT_CLIENT, "name": "refused"}
    database.execute(insert(partitions).values(**refused, rests_until=database_now(timedelta(minutes=9))))
    database.close()
    running = WebServer(folder, url, OPERATIONS_FILE=str(folder / "operations.toml"))
    running.start()
    yield running
    running.close()


@pytest.fixture(params=clients.KINDS)
def client(server: WebServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.opened(request.param, server.url) as opened:
        yield opened


def tidegate(server: WebServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a script does."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "client"), "TIDEGATE_URL": server.url}
    command = [sys.executable, "-m", "tidegate_client", *arguments]
    return subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=60)


def test_the_client_submits_to_partitions_lists_and_changes_them(client: Client) -> None:
    name = f"a&{uuid4().hex}"
    job = client.submit("orders", {}, partition=name, priority=0)
    many = client.submit_many("orders", [{}, {}], partition=name, priority=5)
    alone = client.submit_many("orders", [b"{}"], partition=name)
    assert [(each.seen.partition, each.seen.priority) for each in (job, *many, *alone)] == [
        *((name, 0), (name, 5), (name, 5)),
        (name, 3),
    ]
    assert len([*client.jobs(partition=name)]) == 4
    assert client.cancel_jobs(partition=name, dry_run=True).matched == 4

    (told,) = [each for each in client.partitions("crm", sort="name") if each["name"] == name]
    assert (told["waiting"], told["weight"], told["rate"]) == (4, 1.0, ["5/s"])
    changed = client.change_partition("crm", name, weight=2.5, rate="1/s", paused=True)
    assert (changed["weight"], changed["rate"], changed["paused"], changed["changed"]) == (
        2.5,
        ["1/s"],
        True,
        ["rate", "weight"],
    )
    assert client.change_partition("crm", name, weight=None, rate=None, paused=None)["changed"] == []
    with pytest.raises(Refused, match="no client"):
        client.change_partition("crm", name, client="nobody", weight=2.0)


def test_the_client_reads_every_page(client: Client) -> None:
    name = uuid4().hex
    for number in range(103):
        client.change_partition("crm", f"{name}{number:03}", paused=False)
    found = [each["name"] for each in client.partitions("crm") if (each["name"] or "").startswith(name)]
    assert found == [f"{name}{number:03}" for number in range(103)]


def test_the_command_line_submits_lists_and_changes(server: WebServer) -> None:
    name = uuid4().hex
    job_id = tidegate(server, "submit", "orders", "-d", "{}", "--partition", name, "--priority", "1").stdout.strip()
    (listed,) = tidegate(server, "list", "--partition", name, "--json").stdout.splitlines()
    assert (json.loads(listed)["id"], json.loads(listed)["priority"]) == (job_id, 1)
    done = tidegate(server, "partitions", "set", "crm", name, "--weight", "3", "--rate", "1/s", "--json")
    told = json.loads(done.stdout)
    assert (told["weight"], told["rate"]) == (3.0, ["1/s"])
    all_told = [json.loads(line) for line in tidegate(server, "partitions", "crm", "--json").stdout.splitlines()]
    assert [each["waiting"] for each in all_told if each["name"] == name] == [1]


@pytest.mark.long
def test_the_command_line_pauses_resumes_and_says_what_is_wrong(server: WebServer) -> None:
    name = uuid4().hex
    assert tidegate(server, "submit", "orders", "-d", "{}", "--priority", "8").returncode == 2
    assert json.loads(tidegate(server, "partitions", "pause", "crm", name, "--json").stdout)["paused"]
    assert "paused" in tidegate(server, "partitions", "list", "crm", "--limit", "500").stdout
    shown = tidegate(server, "partitions", "list", "crm", "--limit", "500").stdout.splitlines()
    (line,) = [line for line in shown if line.startswith("refused")]
    assert " rests " in line
    assert not json.loads(tidegate(server, "partitions", "resume", "crm", name, "--json").stdout)["paused"]
    back = tidegate(server, "partitions", "set", "crm", name, "--weight", "declared", "--rate", "declared", "--json")
    assert json.loads(back.stdout)["changed"] == []
    for wrong in (("crm", name), ("crm", name, "--weight", "much"), ("crm", name, "--burst", "x")):
        assert tidegate(server, "partitions", "set", *wrong).returncode == 2
    assert tidegate(server, "partitions", "nothing").returncode == 5
