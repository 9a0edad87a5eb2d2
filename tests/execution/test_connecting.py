"""How an HTTP operation connects: to hosts with several addresses, by TLS, when this process is short of files."""

import errno
import os
import socket
import ssl
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.execution.test_http_operation import call, make_operation
from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import free_port
from tests.support.resolver import resolve, silence
from tests.support.scarcity import no_more_files
from tests.support.tls import Certificates, speak_tls
from tidegate.operations.connecting import connect_to_any
from tidegate.operations.outcome import ErrorCode, HandedBack, Succeeded, TryAgain
from tidegate.operations.own_shortage import ShortageBackoff, own_shortage
from tidegate.operations.tls import tls_context

NAME = "many.example"


def port_of(server: HttpServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("silent", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3", "127.0.0.4"]])
def test_an_address_that_is_silent_costs_a_quarter_of_a_second(
    monkeypatch: pytest.MonkeyPatch, silent: list[str]
) -> None:
    with serving() as server:
        port = port_of(server)
        resolve(monkeypatch, NAME, [*silent, "127.0.0.1"])
        with silence("127.0.0.2", port), silence("127.0.0.3", port), silence("127.0.0.4", port):
            began = time.monotonic()
            outcome = call(make_operation(f"http://{NAME}:{port}/"), seconds=5)

    assert isinstance(outcome, Succeeded)
    assert 0.25 * len(silent) <= time.monotonic() - began < 0.25 * len(silent) + 1.5


def test_an_address_that_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        resolve(monkeypatch, NAME, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
        began = time.monotonic()
        outcome = call(make_operation(f"http://{NAME}:{port_of(server)}/"), seconds=5)

    assert isinstance(outcome, Succeeded)
    assert time.monotonic() - began < 0.25


def test_a_silent_ipv6_address_does_not_keep_the_ipv4_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        port = port_of(server)
        resolve(monkeypatch, NAME, ["::1", "127.0.0.1"])
        with silence("::1", port):
            outcome = call(make_operation(f"http://{NAME}:{port}/"), seconds=5)

    assert isinstance(outcome, Succeeded)


def test_silent_addresses_alone_are_given_up_at_the_end_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    resolve(monkeypatch, NAME, ["127.0.0.2", "127.0.0.3"])
    with silence("127.0.0.2", port), silence("127.0.0.3", port):
        files = len(os.listdir("/dev/fd"))
        began = time.monotonic()
        outcome = call(make_operation(f"http://{NAME}:{port}/"), seconds=0.6)

        assert outcome == TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="the downstream did not answer in time")
        assert 0.6 <= time.monotonic() - began < 2
        assert len(os.listdir("/dev/fd")) <= files, "what was begun is closed"


def test_addresses_that_all_refuse_are_a_failure_of_the_downstream(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, NAME, ["127.0.0.2", "::1", "127.0.0.1"])

    outcome = call(make_operation(f"http://{NAME}:{free_port()}/"))

    assert isinstance(outcome, TryAgain)
    assert "Connection refused" in outcome.message


def test_what_lost_the_race_is_closed() -> None:
    with serving() as server:
        port = port_of(server)
        with silence("127.0.0.2", port):
            files = len(os.listdir("/dev/fd"))
            closing(connect_to_any(["127.0.0.2", "127.0.0.1"], port, lambda: 5.0)).__exit__()
            assert len(os.listdir("/dev/fd")) <= files + 1  # the server's side may not be closed yet


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_process_without_files_hands_the_job_back_and_blames_nobody(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as server:
        made = make_operation(f"http://{host}:{port_of(server)}/", downstream=f"files of {host}")
        with no_more_files():
            outcomes = [call(made) for _ in range(4)]
        after = call(made)

    pauses = [outcome.after.total_seconds() for outcome in outcomes if isinstance(outcome, HandedBack)]
    assert len(pauses) == 4, outcomes
    assert 0.5 <= pauses[0] <= 1.5, "it backs off"
    assert 4 <= pauses[3] <= 12
    assert "this process is short of open files (EMFILE); handed back for" in caplog.text
    assert isinstance(after, Succeeded)


@pytest.mark.parametrize(
    "code", [socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_NODATA, socket.EAI_ADDRFAMILY, socket.EAI_FAMILY]
)
def test_whatever_the_resolver_says_without_files_is_our_own_shortage(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Which of these it is depends on what the process has looked up before."""
    resolve(monkeypatch, NAME, *[socket.gaierror(code, "no answer")] * 2)
    with no_more_files():
        assert isinstance(call(make_operation(f"http://{NAME}/")), HandedBack)
    assert isinstance(call(make_operation(f"http://{NAME}/")), TryAgain)


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY])
def test_a_look_up_that_fails_here_hands_the_job_back(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    resolve(monkeypatch, NAME, socket.gaierror(code, "no answer"))

    assert isinstance(call(make_operation(f"http://{NAME}/")), HandedBack)


def test_a_name_that_is_not_there_is_a_failure_of_the_downstream(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, NAME, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    outcome = call(make_operation(f"http://{NAME}/"))

    assert isinstance(outcome, TryAgain)
    assert outcome.code is ErrorCode.DOWNSTREAM_ERROR


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, ""), "open files (EMFILE)"),
        (OSError(errno.ENFILE, ""), "open files of the machine (ENFILE)"),
        (OSError(errno.EADDRNOTAVAIL, ""), "local ports (EADDRNOTAVAIL)"),
        (OSError(errno.ENOMEM, ""), "memory (ENOMEM)"),
        (MemoryError(), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
        (RuntimeError("no"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), None),
        (OSError(errno.ENETUNREACH, ""), None),
        (TimeoutError("timed out"), None),
        (ssl.SSLError(24, "a number of its own, and not EMFILE"), None),
    ],
)
def test_what_is_our_own_shortage(error: Exception, what: str | None) -> None:
    assert own_shortage(error) == what
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = error
    assert own_shortage(wrapped) == what


def test_each_downstream_has_a_pause_of_its_own_which_ends_with_a_call() -> None:
    backoff = ShortageBackoff()
    for _ in range(20):
        assert backoff.pause("a").total_seconds() <= 22.5
    assert backoff.pause("a").total_seconds() >= 7.5
    assert backoff.pause("b").total_seconds() <= 1.5
    backoff.end("a")
    assert backoff.pause("a").total_seconds() <= 1.5


def test_authorities_of_a_file_are_trusted_beside_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("systems", "own", "strange")]
    for folder in folders:
        folder.mkdir()
    systems, own, strange = map(Certificates, folders)
    monkeypatch.setenv("SSL_CERT_FILE", str(systems.authority))
    tls_context.cache_clear()
    outcomes: list[Any] = []
    for certificates in (systems, own, strange):
        with serving() as server:
            server.answer = respond(200, b"fine")
            speak_tls(server, certificates.of_server())
            url = server.url.replace("http:", "https:")
            outcomes.append(call(make_operation(url, ca_files=(own.authority,))))
    tls_context.cache_clear()

    assert [isinstance(outcome, Succeeded) for outcome in outcomes] == [True, True, False]
    assert "certificate" in outcomes[2].message.lower()
