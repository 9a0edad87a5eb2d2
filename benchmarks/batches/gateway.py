"""A whole gateway whose operations take many jobs in a call, beside ones that do not, and its callers."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.backlog.rows import fresh
from benchmarks.chaos.checks import open_jobs
from benchmarks.pacing.stack import Shape, Stack
from tests.support.waiting import wait_until
from tidegate.database.connection import Database

BATCH = 10
_MOST_AT_ONCE = 1000
_LEASE_SECONDS = 5


def operation(name: str, limits: str, milliseconds: str, *, is_batch: bool = True, more: str = "") -> str:
    """Its part of the operations file, with a downstream of its own."""
    batch = f'[operations.{name}.batch]\nmax = {BATCH}\nformat = "results"\n' if is_batch else ""
    return (
        f"[downstreams.{name}]\n{limits}\n[operations.{name}]\n"
        f'url = "http://127.0.0.1:{{port}}/{name}/{milliseconds}"\ntimeout = "1h"\nattempt_timeout = "2s"\n'
        f"{more}\n{batch}"
    )


@contextmanager
def running(database: str, operations: Sequence[str], *, schedulers: int = 1, threads: int = 8) -> Iterator[Stack]:
    """Web, schedulers, three workers, Valkey, the downstream, and a fresh database; ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-benchmark-"))
    shape = Shape(
        schedulers=schedulers,
        threads=threads,
        downstream="benchmarks.batches.downstream",
        settings={"TIDEGATE_MAX_BACKLOG": "1000000", "TIDEGATE_LEASE_SECONDS": str(_LEASE_SECONDS)},
    )
    with fresh(database) as url:
        stack = Stack(folder / "stack", url, "\n".join(operations), shape)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


def submit(stack: Stack, name: str, inputs: Sequence[Any]) -> list[str]:
    """A job for each, by bulk submits; their ids."""
    made = []
    for first in range(0, len(inputs), _MOST_AT_ONCE):
        items = [{"input": each} for each in inputs[first : first + _MOST_AT_ONCE]]
        answer = stack.request("POST", f"/v1/operations/{name}/jobs/bulk", items)
        if answer.status != 202:
            raise RuntimeError(f"the bulk submit was answered {answer.status}: {answer.document}")
        made += [str(each["job"]["id"]) for each in answer.document["jobs"]]
    return made


def await_end(url: str, *, longest_seconds: float) -> None:
    """Waits until every job is final."""
    database = Database(url)
    try:
        wait_until(lambda: open_jobs(database) == 0, description="every job is final", timeout_seconds=longest_seconds)
    finally:
        database.close()
