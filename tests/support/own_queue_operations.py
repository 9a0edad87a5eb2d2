"""Python operations on a queue of one's own, for a stack that declares it: `[queues.gpu]`, with processes."""

import os
import time

from tidegate.operations import operation
from tidegate.operations.retry import RetryPolicy


@operation(queue="gpu")
def own_place(params: int) -> list[int]:
    """The process that runs it, and that one's parent."""
    return [os.getpid(), os.getppid()]


@operation(queue="gpu", attempt_timeout="1s", retry=RetryPolicy(attempts=1))
def own_endless(params: int) -> None:
    """Never returns by itself."""
    while True:
        time.sleep(1)
