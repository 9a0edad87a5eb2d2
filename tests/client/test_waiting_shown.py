"""What a terminal says of a job that waits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.progress import Task

from tidegate_client import clock
from tidegate_client.command.following import Expected
from tidegate_client.command.shown import why_it_waits
from tidegate_client.snapshot import Snapshot

CREATED_AT = datetime(2026, 11, 23, 16, 46, tzinfo=UTC)


def waiting(**told: Any) -> Snapshot:
    """A job that waits, as its document says."""
    finish = clock.now() + timedelta(hours=2)
    values = {"reason": "pace", "in_time": True, "position": 3, "estimated_start": finish, "estimated_finish": finish}
    return Snapshot.of(
        {
            "id": "0199c5a0-7a5e-7cc0-8d9a-3f1c2b4d5e6f",
            "operation": "call",
            "state": "queued",
            "progress": {"percent": 0, "done": None, "total": None, "note": None},
            "attempt": 0,
            "max_attempts": 3,
            "created_at": CREATED_AT.isoformat(),
            "started_at": None,
            "finished_at": None,
            "deadline": CREATED_AT.isoformat(),
            "retry_of": None,
            "waiting": {
                name: each.isoformat() if isinstance(each, datetime) else each
                for name, each in {**values, **told}.items()
            },
            "error": None,
        }
    )


def bar_of(seen: Snapshot) -> str:
    """What stands beside the bar of a job that is followed."""
    task = Task(0, "", 100, 0, _get_time=clock.monotonic, fields={"seen": seen})  # type: ignore[arg-type]  # an id
    return Expected().render(task).plain


def test_a_job_that_will_be_too_late_is_marked() -> None:
    assert why_it_waits(waiting(in_time=False)) == "pace, 3 ahead, done in about 2 h 0 min, too late for its deadline"
    assert bar_of(waiting(in_time=False)) == "done in about 2 h 0 min, too late for its deadline"


@pytest.mark.parametrize("told", [{"in_time": True}, {}])
def test_one_that_will_not_is_not(told: dict[str, Any]) -> None:
    assert why_it_waits(waiting(**told)) == "pace, 3 ahead, done in about 2 h 0 min"
    assert bar_of(waiting(**told)) == "done in about 2 h 0 min"


def test_an_older_gateway_that_does_not_tell_marks_nothing() -> None:
    document = dict(waiting().document)
    document["waiting"] = {name: each for name, each in document["waiting"].items() if name != "in_time"}
    assert "too late" not in why_it_waits(Snapshot.of(document))


def test_a_job_for_later_is_told_with_its_instant() -> None:
    later = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    told = why_it_waits(waiting(reason="not_before", position=0, estimated_start=later, estimated_finish=None))
    assert told == f"not_before {later.astimezone():%Y-%m-%d %H:%M:%S}, next"
