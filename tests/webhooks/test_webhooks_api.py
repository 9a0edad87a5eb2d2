"""Webhooks over HTTP: the header, the secrets, what is listed of deliveries, and who may see it."""

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from config.settings import Settings
from config.webhook_keyring import load_keyring
from tests.support.http_server import HttpServer, respond
from tests.support.web import Web, assert_is_problem
from tests.support.webhooks import delivery_of, make_due, open_senders
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.connection import Database
from tidegate.errors import ConfigurationError
from tidegate.notify.notifier import SilentNotifier
from tidegate.states import State
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.sender import Sender

on_both = pytest.mark.both_databases("deliveries and secrets are selected by SQL: filters, order, cursor")

HOOK = "https://hooks.example/end"
NETWORKS = "127.0.0.0/8"
SECRETS = "/v1/webhook-secrets"


@pytest.fixture
def hooked(tmp_path: Path, database_url: str) -> Iterator[Web]:
    """The application, which may send to loopback."""
    face = Web(tmp_path, database_url, webhook_networks=NETWORKS)
    yield face
    face.close()


def make_secret(web: Web, **headers: str) -> str:
    """A secret, by HTTP."""
    answer = web.client.post(SECRETS, headers=headers)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.get_json()["secret"])


def send_due(web: Web) -> int:
    """What scheduler and worker do."""
    gateway = web.app.extensions["tidegate"]
    open_senders(web.store)
    sender = Sender(
        web.store.sending,
        gateway.secrets,
        Egress(web.settings.webhook_networks),
        timeout=web.settings.webhook_timeout,
        notifier=SilentNotifier(),
    )
    return sum(sender.run(each.job_id, each.fence) for each in web.store.sending.release())


def test_from_submit_to_the_verified_webhook(hooked: Web, receiver: HttpServer) -> None:
    secret = make_secret(hooked)
    answer = hooked.submit(headers={"Webhook-Url": f"{receiver.url}/end"})
    assert answer.status_code == 202
    job_id = answer.get_json()["id"]
    before = hooked.client.get(f"/v1/deliveries/{job_id}").get_json()
    assert (before["state"], before["event"], before["attempts"]) == ("waiting", None, [])
    hooked.succeed(job_id, b'{"sum":3}', is_json=True)
    assert send_due(hooked) == 1
    payload = Verifier(secret).verify(receiver.received[0].body, dict(receiver.received[0].headers))
    shown = hooked.read(job_id).get_json()
    assert payload == {"type": "job.succeeded", "timestamp": shown["finished_at"], "data": shown}
    after = hooked.client.get(f"/v1/deliveries/{job_id}").get_json()
    (attempt,) = after["attempts"]
    assert (after["state"], after["event"], attempt["status"]) == ("delivered", "job.succeeded", 200)
    assert set(attempt) == {"number", "started_at", "seconds", "status", "error"}
    assert after["links"]["job"] == shown["links"]["self"]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://2130706433/",
        "ftp://a.example/",
        "http://a@b.example/",
        "",
    ],
)
def test_what_is_known_to_be_closed_is_refused_with_a_pointer(web: Web, url: str) -> None:
    make_secret(web)
    problem = assert_is_problem(web.submit(headers={"Webhook-Url": url}), 422, "invalid-webhook")
    (fault,) = problem["errors"]
    assert fault["header"] == "Webhook-Url"
    assert fault["detail"]
    assert web.count() == 0


def test_without_a_secret_no_webhook_is_taken(web: Web) -> None:
    problem = assert_is_problem(web.submit(headers={"Webhook-Url": HOOK}), 422, "invalid-webhook")
    assert "POST /v1/webhook-secrets" in problem["errors"][0]["detail"]
    assert web.count() == 0


def test_a_bulk_submit_is_told_job_by_job(web: Web) -> None:
    make_secret(web)
    path = "/v1/operations/echo/jobs/bulk"
    answer = web.client.post(path, json=[{"input": 1}, {"input": 2}], headers={"Webhook-Url": HOOK})
    ids = [each["job"]["id"] for each in answer.get_json()["jobs"]]
    assert [delivery_of(web.store, job_id).url for job_id in ids] == [HOOK, HOOK]
    refused = web.client.post(path, json=[{"input": 1}], headers={"Webhook-Url": "http://127.0.0.1/"})
    assert assert_is_problem(refused, 422, "invalid-webhook")["errors"][0]["header"] == "Webhook-Url"
    all_or_none = web.client.post(f"{path}?all_or_none=true", json=[{"input": 1}], headers={"Webhook-Url": "x"})
    assert_is_problem(all_or_none, 422, "invalid-webhook")


def test_a_retry_is_told_where_the_first_try_was(web: Web) -> None:
    make_secret(web)
    job_id = web.accepted(Webhook_Url=HOOK)
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    again = web.client.post(f"/v1/jobs/{job_id}/retry").get_json()["id"]
    assert (delivery_of(web.store, again).url, delivery_of(web.store, again).state) == (HOOK, "waiting")
    assert delivery_of(web.store, job_id).state == "pending"


def test_the_webhook_belongs_to_what_an_idempotency_key_stands_for(web: Web) -> None:
    make_secret(web)
    with_hook = {"Idempotency-Key": "k", "Webhook-Url": HOOK}
    first = web.submit(headers=with_hook).get_json()["id"]
    assert web.submit(headers=with_hook).get_json()["id"] == first
    for other in ({"Webhook-Url": HOOK + "2"}, {}):
        answer = web.submit(headers={"Idempotency-Key": "k", **other})
        assert_is_problem(answer, 422, "idempotency-conflict")


def test_links_are_those_of_the_public_url(tmp_path: Path, sqlite_url: str) -> None:
    web = Web(tmp_path, sqlite_url, public_url="https://jobs.example/gw")
    make_secret(web)
    assert delivery_of(web.store, web.accepted(Webhook_Url=HOOK)).base_url == "https://jobs.example/gw"
    web.close()


@on_both
def test_secrets_are_rotated_listed_without_their_text_and_ended(web: Web) -> None:
    first = make_secret(web)
    again = web.client.post(SECRETS, json={"overlap": 60})
    assert again.get_json()["secret"] != first
    newest, before = web.client.get(SECRETS).get_json()["secrets"]
    assert newest["signs_until"] is None
    assert before["signs_until"] is not None
    assert set(newest) == {"id", "client_id", "created_at", "signs_until"}
    assert web.client.delete(f"{SECRETS}/{before['id']}").status_code == 204
    assert [each["id"] for each in web.client.get(SECRETS).get_json()["secrets"]] == [newest["id"]]
    assert_is_problem(web.client.delete(f"{SECRETS}/{before['id']}"), 404, "unknown-secret")
    web.client.post(SECRETS, json={"overlap": 0})
    assert len(web.client.get(SECRETS).get_json()["secrets"]) == 1
    for wrong in ({"overlap": -1}, {"overlap": "1"}, {"more": 1}, {"overlap": 31 * 86_400}):
        assert_is_problem(web.client.post(SECRETS, json=wrong), 422, "invalid-input")


def test_nobody_can_sign_with_what_the_database_holds(web: Web) -> None:
    secret = make_secret(web)
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    with web.database.transaction() as connection:
        row = connection.exec_driver_sql("SELECT * FROM webhook_secrets").one()
    for value in row:
        assert value not in {secret, raw, secret.removeprefix("whsec_")}


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data=tmp_path / "new")
    first = load_keyring(settings)
    assert load_keyring(settings).ids == first.ids
    file = tmp_path / "new" / "webhook.key"
    assert file.stat().st_mode & 0o077 == 0
    assert list(file.parent.iterdir()) == [file]
    file.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"webhook\.key"):
        load_keyring(settings)


def test_keys_can_be_given_and_changed(tmp_path: Path, sqlite_url: str) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    before = Web(tmp_path, sqlite_url, webhook_key=old)
    make_secret(before)
    before.close()
    assert not (tmp_path / "webhook.key").exists()
    both = Web(tmp_path, sqlite_url, webhook_key=f"{new},{old}")
    assert both.submit(headers={"Webhook-Url": HOOK}).status_code == 202
    both.close()
    lost = Web(tmp_path, sqlite_url, webhook_key=new)
    assert_is_problem(lost.submit(headers={"Webhook-Url": HOOK}), 422, "invalid-webhook")
    lost.close()


def test_what_failed_is_sent_again_by_hand(hooked: Web, receiver: HttpServer) -> None:
    make_secret(hooked)
    receiver.answer = respond(410)
    job_id = hooked.accepted(Webhook_Url=receiver.url)
    assert_is_problem(hooked.client.post(f"/v1/deliveries/{job_id}/send"), 409, "delivery-not-due")
    hooked.client.post(f"/v1/jobs/{job_id}/cancel")
    send_due(hooked)
    assert hooked.client.get(f"/v1/deliveries/{job_id}").get_json()["state"] == "failed"
    receiver.answer = respond(200)
    answer = hooked.client.post(f"/v1/deliveries/{job_id}/send")
    assert (answer.status_code, answer.get_json()["state"]) == (202, "pending")
    send_due(hooked)
    after = hooked.client.get(f"/v1/deliveries/{job_id}").get_json()
    assert (after["state"], [each["status"] for each in after["attempts"]]) == ("delivered", [410, 200])
    assert hooked.client.post(f"/v1/deliveries/{job_id}/send").status_code == 202, "what was taken, too"
    send_due(hooked)
    assert len(receiver.received) == 3


@on_both
def test_many_are_sent_again_by_what_they_are(hooked: Web, receiver: HttpServer) -> None:
    make_secret(hooked)
    receiver.answer = respond(410)
    ids = [hooked.accepted(Webhook_Url=receiver.url) for _ in range(3)]
    for job_id in ids:
        hooked.client.post(f"/v1/jobs/{job_id}/cancel")
    while send_due(hooked):
        pass

    def send(**selection: Any) -> int:
        return int(hooked.client.post("/v1/deliveries/send", json=selection).get_json()["sent_again"])

    assert send(event="job.failed") == 0
    assert send(state="delivered") == 0
    assert send(created_before="2020-01-01T00:00:00Z") == 0
    assert send(limit=2, event="job.cancelled", created_after="2020-01-01T00:00:00Z") == 2
    assert send() == 1
    assert send() == 0
    of_no_period = {"created_after": "2026-11-23T12:00:00Z", "created_before": "2026-11-23T11:00:00Z"}
    for wrong in (
        *({"state": "waiting"}, {"event": "x"}, {"limit": 0}, {"limit": 1001}, {"no": 1}, {"client_id": "\0"}),
        *({"created_after": "1795435200"}, {"created_before": "2026-11-23T12:00:00"}, of_no_period),
    ):
        assert_is_problem(hooked.client.post("/v1/deliveries/send", json=wrong), 422, "invalid-input")
    assert_is_problem(hooked.client.post("/v1/deliveries/send", data=b"{}"), 415, "unsupported-media-type")


@on_both
def test_deliveries_are_listed_page_by_page(web: Web) -> None:
    make_secret(web)
    ids = [web.accepted(Webhook_Url=HOOK) for _ in range(5)]
    web.accepted()
    web.client.post(f"/v1/jobs/{ids[0]}/cancel")
    seen, url = [], "/v1/deliveries?limit=2"
    while url:
        page = web.client.get(url).get_json()
        seen += [each["id"] for each in page["deliveries"]]
        url = page["next"]
    assert seen == ids[::-1]

    def found(query: str) -> list[str]:
        return [each["id"] for each in web.client.get(f"/v1/deliveries?{query}").get_json()["deliveries"]]

    assert found("state=pending") == found("event=job.cancelled") == [ids[0]]
    assert found("state=failed") == []
    for wrong in ("state=odd", "event=odd", "limit=0", "limit=201", "cursor=1", "more=1"):
        assert_is_problem(web.client.get(f"/v1/deliveries?{wrong}"), 400, "invalid-query")


def test_a_deleted_job_takes_its_delivery_with_it(web: Web) -> None:
    make_secret(web)
    job_id = web.accepted(Webhook_Url=HOOK)
    web.client.post(f"/v1/jobs/{job_id}/cancel")
    assert web.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert_is_problem(web.client.get(f"/v1/deliveries/{job_id}"), 404, "unknown-delivery")
    assert_is_problem(web.client.post(f"/v1/deliveries/{job_id}/send"), 404, "unknown-delivery")


@on_both
def test_each_client_sees_its_own_and_an_operator_all(tmp_path: Path, database_url: str) -> None:
    web = Web(tmp_path, database_url, auth="keys")
    store = KeyStore(Database(database_url))
    keys = {
        name: {"Authorization": f"Bearer {store.create(name, name='', role=role)[1]}"}
        for name, role in (("one", Role.CLIENT), ("two", Role.CLIENT), ("boss", Role.OPERATOR))
    }
    make_secret(web, **keys["one"])
    theirs = web.submit(headers={**keys["one"], "Webhook-Url": HOOK}).get_json()["id"]
    web.client.post(f"/v1/jobs/{theirs}/cancel", headers=keys["one"])
    no_secret = web.submit(headers={**keys["two"], "Webhook-Url": HOOK})
    assert_is_problem(no_secret, 422, "invalid-webhook")
    secret_id = web.client.get(SECRETS, headers=keys["one"]).get_json()["secrets"][0]["id"]

    def listed(name: str) -> list[str]:
        found = web.client.get("/v1/deliveries", headers=keys[name]).get_json()["deliveries"]
        return [each["id"] for each in found]

    assert (listed("one"), listed("two"), listed("boss")) == ([theirs], [], [theirs])
    for path, method in ((f"/v1/deliveries/{theirs}", "GET"), (f"/v1/deliveries/{theirs}/send", "POST")):
        answer = web.client.open(path, method=method, headers=keys["two"])
        assert_is_problem(answer, 404, "unknown-delivery")
    assert web.client.get(SECRETS, headers=keys["two"]).get_json()["secrets"] == []
    stolen = web.client.delete(f"{SECRETS}/{secret_id}", headers=keys["two"])
    assert_is_problem(stolen, 404, "unknown-secret")

    def sent(name: str, **selection: str) -> int:
        chosen = {"state": "pending", **selection}
        return int(web.client.post("/v1/deliveries/send", json=chosen, headers=keys[name]).get_json()["sent_again"])

    client_id = web.row(theirs).client_id
    assert sent("two") == sent("two", client_id=client_id) == 0
    assert sent("one") == sent("boss") == sent("boss", client_id=client_id) == 1
    assert sent("boss", client_id="other") == 0
    assert len(web.client.get(SECRETS, headers=keys["boss"]).get_json()["secrets"]) == 1
    assert_is_problem(web.client.get("/v1/deliveries"), 401, "unauthorized")
    store._database.close()
    web.close()


def test_jobs_without_a_webhook_have_no_delivery(web: Web) -> None:
    job_id = web.job_in(State.SUCCEEDED)
    assert_is_problem(web.client.get(f"/v1/deliveries/{job_id}"), 404, "unknown-delivery")


@on_both
@pytest.mark.parametrize("asked", [{"Retry_After": "59.5"}, {"RateLimit": '"default";r=0;t=60'}])
def test_a_waiting_retry_shows_when_it_comes(hooked: Web, receiver: HttpServer, asked: dict[str, str]) -> None:
    make_secret(hooked)
    receiver.answer = respond(503, b"", **asked)
    job_id = hooked.accepted(Webhook_Url=receiver.url)
    hooked.client.post(f"/v1/jobs/{job_id}/cancel")
    send_due(hooked)
    shown = hooked.client.get(f"/v1/deliveries/{job_id}").get_json()
    assert (shown["state"], shown["ended_at"], shown["attempts"][0]["status"]) == ("pending", None, 503)
    begun, again = (datetime.fromisoformat(at) for at in (shown["attempts"][0]["started_at"], shown["next_attempt_at"]))
    assert timedelta(seconds=60) <= again - begun < timedelta(seconds=65)
    make_due(hooked.store, job_id)
    receiver.answer = respond(200)
    assert send_due(hooked) == 1
