"""The output of `make run`: lines of all processes in one format."""

import io
import json
import logging

import pytest

from embedded.broker import read_line
from embedded.output import Output
from embedded.processes import Event


def test_as_json_every_line_is_an_object_and_what_is_one_stays_as_it_is() -> None:
    written = io.StringIO()
    output = Output(["web"], written, is_json=True)
    output.line("web", '{"message": "mine"}')
    for text in ("plain", "[1]", "{broken", "", "  "):
        output.line("web", text)
    output.say("\nready\n\n  page\n")
    output.complain("bad")
    output.event("web", logging.WARNING, "full")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line.get("process"), line.get("level"), line["message"]) for line in lines] == [
        (None, None, "mine"),
        ("web", "INFO", "plain"),
        ("web", "INFO", "[1]"),
        ("web", "INFO", "{broken"),
        ("tidegate", "INFO", "ready"),
        ("tidegate", "INFO", "page"),
        ("tidegate", "ERROR", "bad"),
        ("web", "WARNING", "full"),
    ]


def test_as_text_lines_stand_behind_the_name_and_blank_ones_of_processes_are_left_out() -> None:
    written = io.StringIO()
    output = Output(["web"], written)
    for text in ("Traceback", "", "  line 1"):
        output.line("web", text)
    assert written.getvalue() == "web      | Traceback\nweb      |   line 1\n"


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (
            "25601:M 01 Dec 2026 00:45:49.531 # WARNING Memory overcommit must be enabled! Without it, a save may",
            None,
        ),
        ("25601:signal-handler (1796085959) Received SIGTERM scheduling shutdown...", None),
        ("25601:M 01 Dec 2026 00:45:49.531 # Redis is now ready to exit, bye bye...", None),
        (
            "25601:M 01 Dec 2026 00:45:49.531 # Can't open or create append-only dir: No space left on device",
            Event(logging.WARNING, "Can't open or create append-only dir: No space left on device"),
        ),
        ("25601:C 01 Dec 2026 00:45:49.531 * Loading", Event(logging.INFO, "Loading")),
        ("*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***", "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"),
    ],
)
def test_the_brokers_lines_are_read_and_ordinary_ones_left_out(line: str, read: str | Event | None) -> None:
    assert read_line(line) == read
