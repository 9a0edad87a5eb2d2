"""docs/from-sqs.md and docs/models.md as they stand there: the handler, the server, the model and the operations."""

import json
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest

from tests.support.gateway import Gateway
from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import REPOSITORY, ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


HANDLER, SERVER = blocks("from-sqs", "python")
(ORDERS,) = blocks("from-sqs", "toml")
(SUBMITS,) = blocks("from-sqs", "sh")
(MODEL,) = blocks("models", "python")
PARTNER, CLASSIFIER = blocks("models", "toml")


def put(text: str, old: str, new: str) -> str:
    """The page's words, with this in place of that, which stands there once."""
    assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
    return text.replace(old, new)


class Partner:
    """The endpoints of docs/models.md. The bulk one knows no customer 13, and takes no call in which one is null."""

    def __init__(self, server: HttpServer) -> None:
        self.calls: list[Any] = []
        self.url = server.url
        self._server = server
        server.answer = self._answer

    def _answer(self, connection: socket.socket) -> None:
        request = self._server.received[-1]  # one call at a time, for a test has one downstream
        asked = json.loads(request.body)
        self.calls.append(asked)
        if "/predict" in request.line:
            told: Any = [{"error": "empty"} if not each["text"] else {"label": each["text"][0]} for each in asked]
            respond(200, json.dumps(told).encode(), content_type="application/json")(connection)
            return
        customers = [(each["id"], each["body"]["customer"]) for each in asked["requests"]]
        if any(customer is None for _, customer in customers):
            respond(400, b"a customer is null")(connection)
            return
        told = [
            {"id": job_id, "status": 404 if customer == 13 else 200, "body": {"name": f"customer {customer}"}}
            for job_id, customer in customers
        ]
        respond(200, json.dumps({"results": told}).encode(), content_type="application/json")(connection)


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildProcess]:
    """The page's handler behind the page's server, started as the page says."""
    folder = tmp_path_factory.mktemp("handler")
    (folder / "orders.py").write_text(HANDLER)
    (folder / "serve.py").write_text(SERVER)
    port = free_port()
    command = [sys.executable, str(folder / "serve.py"), "orders.handler", f"127.0.0.1:{port}"]
    with ChildProcess(command, log=folder / "serve.log") as process:
        wait_until(lambda: is_listening(port), description="the handler's server listens", timeout_seconds=60)
        yield process


@pytest.fixture(scope="module")
def partner() -> Iterator[Partner]:
    with serving() as server:
        yield Partner(server)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, handler: ChildProcess, partner: Partner) -> Iterator[Gateway]:
    """One gateway with the operations of both pages."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "embedding.py").write_text(MODEL)
    operations = "\n".join(
        [
            put(put(ORDERS, "127.0.0.1:9000", handler.command[-1]), '"1s"', '"20ms"'),
            put(PARTNER, "http://partner.internal", partner.url),
            put(CLASSIFIER, "http://classifier.internal", partner.url),
        ]
    )
    made = Gateway(folder, operations=operations, settings={"OPERATIONS": "embedding"})
    made.process.environment["PYTHONPATH"] = str(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def submitted(gateway: Gateway, operation: str, *inputs: Any) -> list[str]:
    """The URLs of jobs that were submitted in one request."""
    answer = gateway.client.post(f"/v1/operations/{operation}/jobs/bulk", json=[{"input": each} for each in inputs])
    assert answer.status_code == 202, answer.text
    return [f"/v1/jobs/{each['job']['id']}" for each in answer.json()["jobs"]]


def ended(gateway: Gateway, jobs: Sequence[str]) -> list[httpx2.Response]:
    return [gateway.wait_final(job, timeout_seconds=60) for job in jobs]


def test_an_unmodified_handler_does_orders_and_reports_one(gateway: Gateway, handler: ChildProcess) -> None:
    inputs = re.findall(r"-d '(.*?)'", SUBMITS)
    good, bad = [job for text in inputs for job in submitted(gateway, "order", json.loads(text))]

    done, failed = ended(gateway, [good, bad])
    assert (done.status_code, done.json()["state"], done.json()["result"]) == (200, "succeeded", None)
    assert (failed.status_code, failed.json()["state"]) == (502, "failed")
    assert failed.json()["error"]["code"] == "attempts_exhausted"
    assert failed.json()["attempt"] == 5
    assert handler.logs().count("nothing to ship") == 5


def test_many_orders_of_one_call_and_one_that_is_no_order(gateway: Gateway, handler: ChildProcess) -> None:
    jobs = submitted(gateway, "order", *({"quantity": number} for number in (1, 2, 0, 3)), {"no": "order"})

    states = [each.json()["state"] for each in ended(gateway, jobs)]
    assert states == ["succeeded", "succeeded", "failed", "succeeded", "failed"]
    assert "KeyError('quantity')" in handler.logs()


def test_the_model_makes_a_vector_of_each_text(gateway: Gateway) -> None:
    jobs = submitted(gateway, "embed", *({"text": text} for text in ("to be", "x" * 513, "or not to be")))

    first, long, last = [each.json() for each in ended(gateway, jobs)]
    assert (first["result"], last["result"]) == ({"values": [5.0, 1.0]}, {"values": [12.0, 3.0]})
    assert (long["state"], long["error"]["message"]) == ("failed", "the text is too long")


def test_a_bulk_endpoint_has_a_result_for_each_and_a_poison_is_found(gateway: Gateway, partner: Partner) -> None:
    partner.calls.clear()
    jobs = submitted(gateway, "enrich", *({"customer": number} for number in (1, 13, None, 4)))

    found = [each.json() for each in ended(gateway, jobs)]
    assert [each["state"] for each in found] == ["succeeded", "failed", "failed", "succeeded"]
    assert [each["result"] for each in found if each["state"] == "succeeded"] == [
        {"name": "customer 1"},
        {"name": "customer 4"},
    ]
    assert [each["error"]["downstream_status"] for each in found[1:3]] == [404, 400]
    assert len(partner.calls) < 10


def test_a_model_server_that_takes_a_list(gateway: Gateway, partner: Partner) -> None:
    partner.calls.clear()
    jobs = submitted(gateway, "classify", *({"text": text} for text in ("a", "", "b")))

    first, empty, last = [each.json() for each in ended(gateway, jobs)]
    assert (first["result"], last["result"]) == ({"label": "a"}, {"label": "b"})
    assert (empty["state"], empty["error"]["code"]) == ("failed", "downstream_error")
    assert sum(len(call) for call in partner.calls) == 3
