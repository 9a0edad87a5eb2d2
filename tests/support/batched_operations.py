"""A Python operation that takes many jobs in one call, loaded beside those of tests.support.operations."""

import time

from pydantic import BaseModel

from tidegate.operations import Attempt, operation
from tidegate.operations.queues import Queue


class Wish(BaseModel):
    """What a job wants back, and how long its call may take."""

    n: int
    seconds: float = 0.0


@operation(queue=Queue.IO, downstream="together", batch=10)
def together(items: list[Wish], attempt: Attempt) -> list[int]:
    """Returns each job's own number after the longest of the times that they ask for."""
    ends = time.monotonic() + max(each.seconds for each in items)
    while time.monotonic() < ends:
        attempt.progress(0, 1)
        time.sleep(0.05)
    return [each.n for each in items]
