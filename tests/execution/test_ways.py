"""The way to a downstream: certificates of our own, authorities of an operation, a proxy in between."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.test_http_operation import JOB_ID, call, make_operation
from tests.support.forward_proxy import forward_proxy
from tests.support.http_server import HttpServer, respond, serving
from tests.support.tls import Certificates, speak_tls
from tidegate.operations.connections import parse_proxy
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.outcome import ErrorCode, Succeeded, TryAgain


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as running:
        running.answer = respond(200, b"fine")
        yield running


@pytest.fixture
def secure(server: HttpServer, certificates: Certificates) -> str:
    """URL of the server, which speaks TLS and asks each for a certificate of the authority."""
    context = certificates.of_server()
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    speak_tls(server, context)
    return server.url.replace("http:", "https:")


def test_a_downstream_that_asks_who_calls_is_shown_the_certificate(secure: str, certificates: Certificates) -> None:
    own = certificates
    made = make_operation(secure, ca_files=(own.authority,), client_certificate=own.client, client_key=own.client_key)
    assert isinstance(call(made), Succeeded)
    assert isinstance(call(made), Succeeded), "on the connection that is open"


def test_one_file_may_have_both(secure: str, certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.client_key.read_bytes() + certificates.client.read_bytes())
    assert isinstance(
        call(make_operation(secure, ca_files=(certificates.authority,), client_certificate=both)), Succeeded
    )


def test_without_one_it_is_a_failure_of_the_call(secure: str, certificates: Certificates) -> None:
    outcome = call(make_operation(secure, ca_files=(certificates.authority,)))
    assert isinstance(outcome, TryAgain)
    assert outcome.code is ErrorCode.DOWNSTREAM_ERROR


def test_operations_do_not_share_connections_that_say_somebody_else(secure: str, certificates: Certificates) -> None:
    """One has a certificate, the other has none: an open connection of the first must not carry the other's calls."""
    own = certificates
    with_one = make_operation(
        secure, ca_files=(own.authority,), client_certificate=own.client, client_key=own.client_key
    )
    assert isinstance(call(with_one), Succeeded)
    assert isinstance(call(make_operation(secure, ca_files=(own.authority,))), TryAgain)


def test_plain_calls_go_through_the_proxy_with_their_whole_url(server: HttpServer) -> None:
    with forward_proxy() as proxy:
        made = make_operation(server.url + "/v1/{a}?b={b}", proxy=f"http://{proxy.host}")
        outcome = call(made, Body(content=b'{"a": "x y", "b": "z"}'))

    assert isinstance(outcome, Succeeded)
    assert proxy.asked == [f"POST {server.url}/v1/x%20y?b=z HTTP/1.1"]
    assert server.received[0].line == "POST /v1/x%20y?b=z HTTP/1.1"
    assert server.received[0].headers["host"] == server.url.removeprefix("http://")


def test_calls_by_tls_go_through_a_tunnel_that_sees_nothing(secure: str, certificates: Certificates) -> None:
    own = certificates
    with forward_proxy("me:p@ss word") as proxy:
        made = make_operation(
            secure,
            ca_files=(own.authority,),
            client_certificate=own.client,
            client_key=own.client_key,
            proxy="http://me:${PASSWORD}@" + proxy.host,
            expand=lambda text: text.replace("${PASSWORD}", "p%40ss%20word"),
        )
        assert isinstance(call(made), Succeeded)
        assert isinstance(call(made), Succeeded)

    assert proxy.asked == [f"CONNECT {secure.removeprefix('https://')} HTTP/1.1"], "both through one tunnel"


def test_the_slot_is_looked_at_when_the_tunnel_is_there(secure: str, certificates: Certificates) -> None:
    """What opens it are several round trips, which must not stand between the slot and the call's first byte."""
    own, told, ends = certificates, [], time.monotonic() + 10

    def begin() -> float:
        told.append("begin")
        return ends - time.monotonic()

    attempt = Attempt(
        job_id=JOB_ID,
        number=1,
        report=lambda _: None,
        seconds_left=lambda: ends - time.monotonic(),
        take_slot=lambda: None,
        begin=begin,
        sent=lambda: told.append("sent"),
    )
    with forward_proxy() as proxy:
        proxy.opened = lambda: told.append("open")
        made = make_operation(
            secure,
            ca_files=(own.authority,),
            client_certificate=own.client,
            client_key=own.client_key,
            proxy=f"http://{proxy.host}",
        )
        assert isinstance(made.run(Body(content=b"{}"), attempt), Succeeded)

    assert told == ["open", "begin", "sent"]


def test_a_proxy_that_refuses_is_told_as_that_and_without_the_password(secure: str) -> None:
    with forward_proxy("me:secret") as proxy:
        outcome = call(make_operation(secure, proxy=f"http://me:wrong@{proxy.host}"))

    assert isinstance(outcome, TryAgain)
    assert outcome.message == "the proxy answered 407 Proxy Authentication Required"


def test_a_proxy_that_is_not_there_is_a_failure_of_the_call(server: HttpServer) -> None:
    with forward_proxy() as proxy:
        pass
    outcome = call(make_operation(server.url, proxy=f"http://me:secret@{proxy.host}"))
    assert isinstance(outcome, TryAgain)
    assert "secret" not in str(outcome)


@pytest.mark.parametrize(
    "url",
    [
        *("proxy:3128", "https://proxy", "socks5://proxy", "http://", "http://proxy:99999", "http://proxy/path"),
        *("http://proxy?x=1", "http://proxy#x", "http://pro xy", "http://[::1", "", "http://prö.example"),
    ],
)
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^write http://host:port, or"):
        parse_proxy(url)
