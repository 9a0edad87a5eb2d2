"""A dump of the stack's database, taken to a new machine: the commands of docs/operating.md."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.stack.jobs import accepted, final, pause
from tests.support.compose import IMAGE, PROJECT, Compose, docker, frozen
from tests.support.http_server import Received
from tests.support.operating import commands
from tests.support.waiting import wait_until
from tests.support.webhooks import verified

# Writes each request as a line of JSON, which `docker logs` shows.
RECEIVER = """
import base64, http.server, json, os
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"line": self.requestline, "headers": headers, "body": base64.b64encode(body).decode()}
        os.write(1, (json.dumps(told) + "\\n").encode())  # at once: several threads do
        self.send_response(204)
        self.end_headers()
server = http.server.ThreadingHTTPServer(("", 9000), Receiver)
print("listens")
server.serve_forever()
"""
CSV = b"a,b\n" + b"1,x\n" * 4_900_000


class Receiver:
    """A container beside the stack that takes webhooks."""

    name = f"{PROJECT}-receiver"
    url = f"http://{name}:9000/hook"

    def start(self) -> None:
        """On the network by which workers go out; the stack has to be up."""
        network = f"--network={PROJECT}_outside"
        docker("run", "--detach", f"--name={self.name}", network, IMAGE, "python", "-u", "-c", RECEIVER)
        wait_until(lambda: "listens" in docker("logs", self.name), description="it listens", timeout_seconds=60)

    def stop(self) -> None:
        docker("rm", "--force", self.name)

    def received(self) -> list[Received]:
        """What came so far."""
        lines = [json.loads(line) for line in docker("logs", self.name).splitlines() if line.startswith("{")]
        return [Received(**{**line, "body": base64.b64decode(line["body"])}) for line in lines]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Not started yet."""
    beside = Receiver()
    beside.stop()
    yield beside
    beside.stop()


def follow(heading: str, stack: Compose, backups: Path) -> None:
    """Types what the page says under a heading, with these folders."""
    for command in commands(heading, secrets=stack.secrets, backups=backups):
        stack.shell(command)


def test_from_a_dump_on_a_new_machine_every_job_that_is_in_it_goes_on(
    running: Compose, operator: httpx2.Client, receiver: Receiver, tmp_path: Path
) -> None:
    secret = operator.post("/v1/webhook-secrets").json()["secret"]
    done = accepted(operator, "D-1")
    assert final(operator, done).status_code == 200
    pause(operator, paused=True)
    queued = [accepted(operator, f"D-{number}", **{"Webhook-Url": receiver.url}) for number in range(2, 7)]
    at_work = running.containers("worker-cpu", "scheduler")
    answer = operator.post("/v1/operations/csv_profile/jobs", content=CSV, headers={"Content-Type": "text/csv"})
    computing = answer.headers["Location"]
    wait_until(lambda: operator.get(computing).json()["state"] == "running", description="it runs", timeout_seconds=30)
    with frozen(at_work):  # it stays as it is: nobody works on it, and nobody finds that out
        assert operator.get(computing).json()["state"] == "running"
        follow("Back up the stack", running, tmp_path)
    assert final(operator, computing).status_code == 200
    late = accepted(operator, "D-late")
    running.down(volumes=True)
    shutil.rmtree(running.secrets)

    follow("Restore the stack", running, tmp_path)
    receiver.start()

    assert final(operator, done).json()["result"]["sku"] == "D-1"
    assert {operator.get(each).status_code for each in queued} == {202}
    assert operator.get(late).status_code == 404, "what came after the dump is lost"
    pause(operator, paused=False)
    assert {final(operator, each).status_code for each in (*queued, computing)} == {200}
    assert running.sql("SELECT losses FROM jobs WHERE operation = 'csv_profile';") == ["1"], "it was run again"
    wait_until(
        lambda: len(receiver.received()) == len(queued), description="the webhooks have come", timeout_seconds=90
    )
    told = {verified(each, secret)["data"]["id"] for each in receiver.received()}
    assert told == {each.rpartition("/")[2] for each in queued}
