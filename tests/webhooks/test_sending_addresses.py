"""Where a webhook is connected to: addresses that were checked, hosts that prove who they are."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from tests.support.http_server import HttpServer, serving
from tests.support.resolver import resolve, silence
from tests.support.tls import Certificates, speak_tls
from tests.support.webhooks import (
    attempts_at,
    delivery_of,
    ended_job,
    receivers_of,
    send_due,
    verified,
)
from tidegate.operations.tls import tls_context
from tidegate.stores import Store
from tidegate.webhooks.egress import Egress


def test_a_name_that_leads_inside_is_refused(store: Store, receiver: HttpServer, secret: str) -> None:
    """By the system's own resolver: this machine's name is in its hosts file."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, 80)
    except OSError:
        pytest.skip("this machine's name leads nowhere")
    port = receiver.url.rpartition(":")[2]
    job_id = ended_job(store, f"http://{name.lower()}:{port}/")
    send_due(store, egress=Egress())
    assert receiver.received == []
    (attempt,) = attempts_at(store, job_id)
    assert attempt.error == "it leads to an address that is not public", "and says not which"
    assert delivery_of(store, job_id).state == "pending"


@pytest.mark.parametrize(
    "answers",
    [
        [["127.0.0.1"]],
        [["93.184.216.34", "127.0.0.1"]],
        [["127.0.0.1", "93.184.216.34"]],
        [["::ffff:127.0.0.1"]],
        [["169.254.169.254"]],
        [["fe80::1%lo"]],
    ],
    ids=str,
)
def test_one_address_inside_refuses_them_all(
    store: Store,
    receiver: HttpServer,
    secret: str,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[list[str]],
) -> None:
    port = int(receiver.url.rpartition(":")[2])
    asked = resolve(monkeypatch, "evil.example", *answers)
    job_id = ended_job(store, f"http://evil.example:{port}/")
    send_due(store, egress=Egress())
    assert len(asked) == 1
    assert receiver.received == []
    assert attempts_at(store, job_id)[0].error == "it leads to an address that is not public"


def test_a_name_is_looked_up_once_and_that_answer_connected_to(
    store: Store, receiver: HttpServer, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer would be another one, and is never asked for."""
    port = int(receiver.url.rpartition(":")[2])
    asked = resolve(monkeypatch, "evil.example", ["127.0.0.1"], ["169.254.169.254"])
    ended_job(store, f"http://evil.example:{port}/")
    send_due(store)
    assert len(asked) == 1
    assert receiver.received[0].headers["host"] == f"evil.example:{port}"
    verified(receiver.received[0], secret)


def test_a_setting_that_closed_meanwhile_holds(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    send_due(store, egress=Egress([ip_network("10.0.0.0/8")]))
    assert receiver.received == []
    assert "TIDEGATE_WEBHOOK_NETWORKS" in attempts_at(store, job_id)[0].error


def test_a_resolver_that_says_nothing_holds_nobody(store: Store, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: silent.wait(30) and [])
    job_id = ended_job(store, "http://slow.example/")
    began = time.monotonic()
    send_due(store, timeout=0.3)
    assert time.monotonic() - began < 10
    silent.set()
    assert attempts_at(store, job_id)[0].error == "no answer in time"


def test_a_silent_address_of_a_receiver_does_not_keep_its_other_one_waiting(
    store: Store, receiver: HttpServer, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.rpartition(":")[2])
    resolve(monkeypatch, "two.example", ["127.0.0.2", "127.0.0.1"])
    job_id = ended_job(store, f"http://two.example:{port}/")
    with silence("127.0.0.2", port):
        send_due(store, timeout=3)
    assert delivery_of(store, job_id).state == "delivered"


def test_what_the_gateway_is_short_of_is_not_the_receivers_fault(
    store: Store, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolve(monkeypatch, "a.example", socket.gaierror(socket.EAI_AGAIN, "no answer"))
    job_id = ended_job(store, "http://a.example/")
    send_due(store)
    (attempt,) = attempts_at(store, job_id)
    assert attempt.error == "it could not be sent: the gateway is short of resources"
    assert delivery_of(store, job_id).state == "pending"
    assert all(not row.failures and row.rests_until is None for row in receivers_of(store).values())
    assert "short of an answer of its name server (EAI_AGAIN)" in caplog.text


@pytest.mark.parametrize("is_named", [True, False])
def test_an_authority_of_the_settings_is_trusted(store: Store, secret: str, tmp_path: Path, is_named: bool) -> None:
    certificates = Certificates(tmp_path)
    with serving() as receiver:
        speak_tls(receiver, certificates.of_server())
        job_id = ended_job(store, receiver.url.replace("http:", "https:"))
        send_due(store, ca_file=certificates.authority if is_named else None)
    assert (delivery_of(store, job_id).state == "delivered") is is_named


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """One that the sender trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls_context.cache_clear()
    yield made
    tls_context.cache_clear()


@pytest.mark.parametrize(("name", "is_taken"), [("127.0.0.1", True), ("other.example", False)])
def test_the_receivers_certificate_must_be_its_own(
    store: Store, secret: str, authority: trustme.CA, name: str, is_taken: bool
) -> None:
    with serving() as receiver:
        speak_tls(receiver, _of_server(authority, name))
        job_id = ended_job(store, receiver.url.replace("http:", "https:"))
        send_due(store)
        assert [verified(each, secret)["type"] for each in receiver.received] == ["job.succeeded"] * is_taken
    (attempt,) = attempts_at(store, job_id)
    if not is_taken:
        assert attempt.status is None
        assert "certificate" in attempt.error


def _of_server(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context
