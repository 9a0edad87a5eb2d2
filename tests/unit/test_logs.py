"""Log lines as JSON: one object a line, with what the line is about."""

import json
import logging
import threading

import pytest

from config.logs import JsonFormatter
from tidegate.log_context import about, current, now_about, trace_id

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line_of(message: str, *arguments: object, **extra: object) -> dict[str, object]:
    """What a line looks like."""
    record = logging.getLogger("one").makeRecord("one", logging.WARNING, "f", 1, message, arguments, None, extra=extra)
    text = JsonFormatter("io").format(record)
    assert "\n" not in text
    assert text.isascii()
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_says_when_who_and_what() -> None:
    line = line_of("%d jobs\nin two lines, \ud800 and \u00fc", 3)

    assert str(line.pop("time")).endswith("Z")
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "WARNING",
        "process": "io",
        "logger": "one",
        "message": "3 jobs\nin two lines, \ud800 and \u00fc",
    }


def test_a_line_about_a_job_carries_what_was_said_around_it() -> None:
    with about(job_id="j"):
        with about(attempt=2, downstream="d", trace_id=trace_id(TRACEPARENT), operation=None):
            line = line_of("x")
        assert "attempt" not in line_of("x")
    assert line["job_id"] == "j"
    assert (line["attempt"], line["downstream"]) == (2, "d")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "operation" not in line
    assert not current()


def test_threads_do_not_mix_their_jobs_up() -> None:
    seen = []
    with about(job_id="mine"):
        other = threading.Thread(target=lambda: seen.append(dict(current())))
        other.start()
        other.join()
    assert seen == [{}]


def test_what_is_said_anew_takes_the_place_of_all_before() -> None:
    with about(job_id="j"):
        now_about(trace_id="t")
        assert dict(current()) == {"trace_id": "t"}
        now_about()
        assert not current()


@pytest.mark.parametrize(
    ("name", "job_id"), [("tasks.run.run_job", "j"), ("tasks.run.send_delivery", None), ("other", None)]
)
def test_celerys_own_lines_about_a_job_name_it(name: str, job_id: str | None) -> None:
    assert line_of("Task received", data={"id": "j", "name": name}).get("job_id") == job_id


def test_an_exception_stands_in_the_line() -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        record = logging.LogRecord("one", logging.ERROR, "f", 1, "failed", (), (type(error), error, None))
    line = json.loads(JsonFormatter("io").format(record))
    assert "RuntimeError: boom" in line["exception"]
