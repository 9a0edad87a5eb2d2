"""Deliveries and webhook secrets as the Python client asks for them, of a real web server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import clients, sqlite
from tests.support.web_server import WebServer
from tidegate_client import Client, Refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A web server beside which nothing runs: nothing is sent."""
    folder = tmp_path_factory.mktemp("web")
    running = WebServer(folder, sqlite.fresh_database(folder))
    running.start()
    yield running
    running.close()


@pytest.fixture(params=clients.KINDS)
def client(server: WebServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.opened(request.param, server.url) as opened:
        yield opened


HOOK = "https://hooks.example/end"


def test_deliveries_are_listed_read_and_sent_again(client: Client) -> None:
    client.new_webhook_secret()
    begun_at = datetime.now(UTC)
    waiting = client.submit("echo", 1, webhook_url=HOOK)
    assert client.delivery(waiting.id)["state"] == "waiting"
    with pytest.raises(Refused, match="the job has not ended") as refused:
        client.send_delivery(waiting.id)
    assert refused.value.status == 409
    jobs = [client.submit("echo", number, webhook_url=HOOK).cancel() for number in range(3)]
    listed = [each["id"] for each in client.deliveries(state="pending", event="job.cancelled")][:3]
    assert listed == [job.id for job in reversed(jobs)]
    assert [each["id"] for each in client.deliveries(state="failed")] == []
    assert (client.delivery(jobs[0].id)["url"], client.delivery(jobs[0].id)["attempts"]) == (HOOK, [])
    assert client.send_delivery(jobs[0].id)["state"] == "pending"
    assert client.send_deliveries() == 0
    assert client.send_deliveries(state="pending", event="job.cancelled", created_after=begun_at) == 3
    assert client.send_deliveries(state="pending", created_after=begun_at, limit=2) == 2
    assert client.send_deliveries(state="pending", created_before=begun_at - timedelta(days=1)) == 0
    assert client.send_deliveries(state="pending", client="nobody") == 0
    with pytest.raises(ValueError, match="time zone"):
        client.send_deliveries(created_after=datetime.now())  # noqa: DTZ005 - a naive one
    with pytest.raises(Refused, match="404"):
        client.delivery(client.submit("echo", 1).id)
    with pytest.raises(Refused, match="state"):
        next(client.deliveries(state="lost"))


def test_a_webhook_that_can_not_be_used_is_refused_with_the_header_at_fault(client: Client) -> None:
    with pytest.raises(Refused, match=r"\n  Webhook-Url: ") as refused:
        client.submit("echo", 1, webhook_url="http://127.0.0.1:8080/")
    (fault,) = refused.value.faults
    assert (refused.value.status, fault.header, fault.pointer) == (422, "Webhook-Url", "")


def test_more_deliveries_than_a_page_has_are_listed(client: Client) -> None:
    client.new_webhook_secret()
    jobs = [client.submit("echo", number, webhook_url=HOOK).cancel().id for number in range(105)]
    listed = [each["id"] for each, _ in zip(client.deliveries(event="job.cancelled"), range(105), strict=False)]
    assert listed == jobs[::-1]


def test_secrets_are_made_listed_and_ended(client: Client) -> None:
    first = client.new_webhook_secret()
    second = client.new_webhook_secret(overlap=60)
    assert first["secret"].startswith("whsec_")
    assert first["secret"] != second["secret"]
    known = {each["id"]: each for each in client.webhook_secrets()}
    assert {first["id"], second["id"]} <= set(known)
    assert "secret" not in known[second["id"]]
    assert known[second["id"]]["signs_until"] is None
    assert known[first["id"]]["signs_until"]
    for _ in range(2):  # a second time, as after a lost answer
        client.end_webhook_secret(second["id"])
    assert second["id"] not in {each["id"] for each in client.webhook_secrets()}
