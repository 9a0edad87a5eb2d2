"""Python operations for tests; a stack under test loads them by TIDEGATE_OPERATIONS=tests.support.operations."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from tidegate.errors import PermanentError
from tidegate.operations.operation import Attempt, Body
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue
from tidegate.operations.retry import RetryPolicy

_REPORT_SECONDS = 0.05


class Sleep(BaseModel):
    """How long, in seconds."""

    seconds: float = Field(ge=0, le=600)


class File(BaseModel):
    """Which one."""

    path: Path


@operation(queue=Queue.IO)
def echo(params: JsonValue) -> JsonValue:
    """Returns what it is given."""
    return params


@operation(queue=Queue.IO)
def raw_echo(body: Body) -> Body:
    """Returns the bytes and the content type that it is given."""
    return body


@operation(queue=Queue.IO)
def sleepy_io(params: Sleep, attempt: Attempt) -> int:
    """Sleeps in a thread, tells its progress each 50 ms and returns the attempt's number."""
    return _sleep(params, attempt)


@operation(queue=Queue.IO)
def until_there_io(params: File, attempt: Attempt) -> int:
    """Waits until the file is there, telling its progress each 50 ms, and returns the attempt's number."""
    while not params.path.exists():
        time.sleep(_REPORT_SECONDS)
        attempt.progress(0, 1)
    return attempt.number


@operation(queue=Queue.CPU)
def sleepy_cpu(params: Sleep, attempt: Attempt) -> int:
    """Sleeps in a process, tells its progress each 50 ms and returns the attempt's number."""
    return _sleep(params, attempt)


@operation(queue=Queue.IO, retry=RetryPolicy(attempts=2, delay=timedelta(milliseconds=50)))
def raising(params: JsonValue) -> None:
    """Fails in a way that another attempt might not, and does so both times."""
    raise RuntimeError("raised by the operation 'raising'")


@operation(queue=Queue.IO)
def permanent(params: JsonValue) -> None:
    """Fails in a way that no other attempt will better."""
    raise PermanentError("refused by the operation 'permanent'")


@operation(queue=Queue.IO)
def unserialisable(params: JsonValue) -> Any:
    """Returns what can't be written as JSON."""
    return object()


@operation(queue=Queue.CPU, attempt_timeout="1s", timeout="20s", retry=RetryPolicy(attempts=1))
def runs_for_ever_cpu(params: JsonValue) -> None:
    """Computes and never looks up."""
    while True:
        pass


@operation(queue=Queue.IO, attempt_timeout="1s", timeout="20s", retry=RetryPolicy(attempts=1))
def ignores_stop_io(params: Sleep) -> str:
    """Sleeps in one piece: nothing reaches it meanwhile."""
    time.sleep(params.seconds)
    return "slept"


_loops: set[int] = set()


@operation(queue=Queue.IO)
async def sleepy_async(params: Sleep, attempt: Attempt) -> list[int]:
    """Sleeps on the event loop and tells its progress each 50 ms; returns how many loops there were and its number."""
    _loops.add(id(asyncio.get_running_loop()))
    steps = max(1, round(params.seconds / _REPORT_SECONDS))
    for _ in attempt.track(range(steps), "sleeping"):
        await asyncio.sleep(params.seconds / steps)
    return [len(_loops), attempt.number]


@operation(queue=Queue.IO, attempt_timeout="1s", timeout="20s", retry=RetryPolicy(attempts=1))
async def ends_in_time_async(params: Sleep) -> str:
    """Sleeps in one piece, and is cancelled when its time is over."""
    await asyncio.sleep(params.seconds)
    return "slept"


@operation(queue=Queue.IO)
async def until_cancelled_async(params: File) -> None:
    """Writes the file when it begins, and another beside it when it is cancelled."""
    params.path.touch()
    try:
        await asyncio.sleep(600)
    finally:
        params.path.with_suffix(".cancelled").touch()


class Pool(BaseModel):
    """How its processes are started."""

    method: str


@operation(queue=Queue.CPU, retry=RetryPolicy(attempts=1))
def process_pool_cpu(params: Pool) -> list[int]:
    """Computes in two processes of its own."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(params.method)) as pool:
        return list(pool.map(abs, [-1, 2, -3]))


@operation(queue=Queue.CPU, retry=RetryPolicy(attempts=1))
def leaves_children_cpu(params: File) -> str:
    """Starts processes, writes their numbers into the file and returns without them."""
    _start_children(params.path)
    return "returned"


@operation(queue=Queue.CPU)
def sleeps_with_children_cpu(params: File, attempt: Attempt) -> int:
    """As `leaves_children_cpu`, and returns after a minute."""
    _start_children(params.path)
    return _sleep(Sleep(seconds=60), attempt)


@operation(queue=Queue.CPU, attempt_timeout="2s", timeout="20s", retry=RetryPolicy(attempts=1))
def runs_for_ever_with_children_cpu(params: File) -> None:
    """As `leaves_children_cpu`, and never returns."""
    _start_children(params.path)
    while True:
        pass


@operation(queue=Queue.CPU)
def kills_its_process_with_children(params: File) -> None:
    """As `leaves_children_cpu`, and ends with its process at the first attempt."""
    if not params.path.exists():
        _start_children(params.path)
        os.kill(os.getpid(), signal.SIGKILL)


@operation(queue=Queue.CPU)
def kills_its_process(params: JsonValue) -> None:
    """Takes the worker's child process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


@operation(queue=Queue.IO)
def kills_its_process_io(params: JsonValue) -> None:
    """Takes the whole worker with it, and the jobs of the threads beside it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _start_children(file: Path) -> None:
    """A plain process, one in a session of its own, and one that outlives the shell that started it."""
    plain = subprocess.Popen(["sleep", "600"])
    alone = subprocess.Popen(["sleep", "600"], start_new_session=True)
    shell = subprocess.run(
        ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True, text=True
    )
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(f"{plain.pid} {alone.pid} {shell.stdout.strip()}")
    unfinished.rename(file)


def _sleep(params: Sleep, attempt: Attempt) -> int:
    steps = max(1, round(params.seconds / _REPORT_SECONDS))
    for _ in attempt.track(range(steps), "sleeping"):
        time.sleep(params.seconds / steps)
    return attempt.number
