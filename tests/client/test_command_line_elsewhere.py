"""The command `tidegate` before servers that are no gateway, behind proxies, and with what other people wrote."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.support.http_server import HttpServer, respond, serving
from tests.support.processes import REPOSITORY, free_port
from tidegate_client.command.shown import MOST_LINES, card, cut, rows
from tidegate_client.snapshot import Snapshot

from .test_client_over_bad_lines import document

COMMANDS = [
    ["list"], ["status", "x"], ["operations"], ["operations", "x"], ["downstreams"], ["downstreams", "pause", "x"],
    ["watch", "--once"], ["submit", "x", "-d", "1"], ["submit", "x", "-d", "1", "--bulk"], ["cancel", "--all", "-y"],
    ["retry", "--state", "failed", "-y"], ["wait", "x"], ["result", "x"], ["events", "x"], ["delete", "x"],
    ["deliveries"], ["deliveries", "show", "x"], ["deliveries", "send", "x"], ["webhook-secrets"],
    ["deliveries", "send", "--state", "failed"], ["webhook-secrets", "new"],
]  # fmt: skip
ANSWERS = {
    "other JSON": respond(200, b'{"jobs": 1, "hello": [1]}', Content_Type="application/json"),
    "a list": respond(200, b"[1, 2]", Content_Type="application/json"),
    "null": respond(200, b"null", Content_Type="application/json"),
    "members of other kinds": respond(
        200,
        b'{"jobs": [{"id": 1}], "operations": [1], "downstreams": [{"name": 1}], "matched": [], "next": 3}',
        Content_Type="application/json",
    ),
    "HTML": respond(200, b"<html>Welcome!", Content_Type="text/html"),
    "nothing": respond(200),
    "another's 404": respond(404, b'{"error": "no such thing"}', Content_Type="application/json"),
    "a sign-in": respond(302, Location="https://sso.example/login"),
}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as started:
        yield started


def tidegate(url: str, *arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "client"), "TIDEGATE_URL": url, **environment}
    return subprocess.run(
        [sys.executable, "-m", "tidegate_client", *arguments],
        env=kept, input=typed, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_is_no_gateway_is_told_in_a_sentence_that_helps(server: HttpServer, kind: str) -> None:
    server.answer = ANSWERS[kind]
    picked = COMMANDS if kind in {"other JSON", "members of other kinds"} else COMMANDS[:1] + COMMANDS[8:9]
    for command in picked:
        done = tidegate(server.url, *command)
        assert (done.returncode, done.stdout) == (6, ""), (command, done)
        assert "and not as Tidegate does: " in done.stderr, (command, done.stderr)
        assert done.stderr.endswith("Is that the gateway's address? A proxy or another service may stand there.\n")


def test_a_proxy_of_the_environment_that_stood_between_is_named_without_its_password(server: HttpServer) -> None:
    server.answer = respond(403, b"Blocked by policy")
    place = server.url.removeprefix("http://")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        done = tidegate("http://gateway.example", "list", **{name: f"http://me:secret@{place}"})
        assert done.returncode == 6, done
        assert (
            f"Blocked by policy (by way of the proxy {place} of the environment; NO_PROXY=gateway.example"
            in done.stderr
        )
        assert "secret" not in done.stderr
    dead = f"127.0.0.1:{free_port()}"
    done = tidegate("http://gateway.example", "list", HTTP_PROXY=f"http://{dead}")
    assert (done.returncode, f"by way of the proxy {dead}" in done.stderr) == (6, True), done.stderr
    done = tidegate(server.url, "list", HTTP_PROXY=f"http://{dead}", NO_PROXY="127.0.0.1")
    assert "proxy" not in done.stderr.partition("Is that")[0], "it did not stand between"


def shown(width: int, what: object) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_a_downstreams_long_words_are_cut_and_can_not_move_the_cursor() -> None:
    trace = "Traceback\n" + "".join(f'  File "app.py", line {n}\n' for n in range(80)) + "\x1b[2J\x1b]0;owned\x07"
    error = {"code": "downstream_error", "message": trace, "downstream_body": trace}
    job = Snapshot.of(document("failed", error=error, progress={"percent": 1, "done": 1, "total": 1, "note": trace}))
    text = shown(100, card(job))
    assert text.count("File") <= 3 * MOST_LINES
    assert "characters more, in --json" in text
    assert "\x1b" not in text
    assert "\x07" not in text
    for width in (20, 40, 80):
        assert max(map(len, shown(width, card(job)).splitlines())) <= width
    assert shown(200, rows([job])).count("\n") == 2, "a line each"
    assert cut("short\ntwo") == "short\ntwo"
    assert cut("x" * 801).endswith("… 1 characters more, in --json") or cut("x" * 801) == "x" * 800


def test_a_reader_that_has_enough_ends_it_quietly_and_no_colours_go_where_none_are_wanted(server: HttpServer) -> None:
    lines = b'{"jobs": [], "next": null}'
    server.answer = respond(200, lines, Content_Type="application/json")
    done = tidegate(server.url, "list", NO_COLOR="1", TERM="dumb")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_there_for_each_shell_as_its_readme_says(shell: str) -> None:
    readme = (REPOSITORY / "client" / "README.md").read_text()
    assert f"_TIDEGATE_COMPLETE={shell}_source" in readme
    done = tidegate("http://127.0.0.1:1", _TIDEGATE_COMPLETE=f"{shell}_source")
    assert (done.returncode, "_TIDEGATE_COMPLETE" in done.stdout) == (0, True), done.stderr


def test_bulk_says_which_line_is_not_json_before_anything_is_sent(server: HttpServer) -> None:
    done = tidegate(server.url, "submit", "x", "-", "--bulk", typed='{"a": 1}\n\n{"a":\n')
    assert (done.returncode, server.received) == (2, [])
    assert "line 3 is not JSON" in done.stderr
    done = tidegate(server.url, "submit", "x", "-", "--bulk", "--wait", typed="1\n")
    assert (done.returncode, server.received) == (2, [])
