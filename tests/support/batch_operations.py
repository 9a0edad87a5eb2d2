"""Python operations that do many jobs in one call, for tests; TIDEGATE_OPERATIONS names this module.

Each call writes a line into the file `calls` in the folder that BATCH_CALLS names: its inputs.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from tidegate.errors import PermanentError
from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from tidegate.operations.retry import RetryPolicy

CALLS = "BATCH_CALLS"
_REPORT_SECONDS = 0.05


class Item(BaseModel):
    """One input: `n` is doubled, unless it is less than nothing; it takes so many `seconds`; `wait_for` is awaited."""

    n: int
    seconds: float = 0
    wait_for: Path | None = None


def calls_in(folder: Path) -> Sequence[list[int]]:
    """The numbers that each call was given, first to last."""
    file = folder / "calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _write(items: list[Item]) -> None:
    with (Path(os.environ[CALLS]) / "calls").open("a") as file:
        file.write(json.dumps([item.n for item in items]) + "\n")


@operation(queue=Queue.IO, batch=10)
def double_io(items: list[Item], attempt: Attempt) -> list[int | PermanentError]:
    """Doubles each number; waits as long as all of them say, and tells its progress each 50 ms."""
    _write(items)
    for _ in attempt.track(range(round(sum(item.seconds for item in items) / _REPORT_SECONDS))):
        time.sleep(_REPORT_SECONDS)
    while any(item.wait_for and not item.wait_for.exists() for item in items):
        time.sleep(_REPORT_SECONDS)
        attempt.progress(0, 1)
    return [item.n * 2 if item.n >= 0 else PermanentError("it is less than nothing") for item in items]


@operation(queue=Queue.CPU, batch=10, attempt_timeout="1s", timeout="40s", retry=RetryPolicy(attempts=1))
def for_ever_cpu(items: list[Item]) -> list[int]:
    """Doubles each number, and computes for ever where one is less than nothing: only the hard limit ends it."""
    _write(items)
    while any(item.n < 0 for item in items):
        pass
    return [item.n * 2 for item in items]


@operation(queue=Queue.CPU, batch=10, timeout="1m")
def kills_its_process_cpu(items: list[Item]) -> list[int]:
    """Doubles each number, and takes its process with it where one is less than nothing."""
    _write(items)
    if any(item.n < 0 for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    return [item.n * 2 for item in items]
