"""The Python operations of the load: one that computes, one that waits and tells its progress."""

import time

from pydantic import BaseModel, Field

from tidegate.operations.operation import Attempt
from tidegate.operations.python_operation import operation
from tidegate.operations.queues import Queue

_STEP_SECONDS = 0.05


class Spin(BaseModel):
    """How long to compute."""

    milliseconds: int = Field(ge=1, le=10_000)


class Steps(BaseModel):
    """How many steps of 50 ms to take."""

    count: int = Field(ge=1, le=100)


@operation(queue=Queue.CPU, timeout="5m", attempt_timeout="10s")
def compute(params: Spin) -> int:
    """Keeps a processor busy and returns how often it went round."""
    until, rounds = time.monotonic() + params.milliseconds / 1000, 0
    while time.monotonic() < until:
        rounds += 1
    return rounds


@operation(queue=Queue.IO, timeout="5m", attempt_timeout="10s")
def steps(params: Steps, attempt: Attempt) -> int:
    """Waits step by step, telling its progress."""
    for _ in attempt.track(range(params.count), "step by step"):
        time.sleep(_STEP_SECONDS)
    return attempt.number
