"""A module of operations that has its server stopped while one of the server's processes loads it."""

import multiprocessing
import os
import select
import signal

from tidegate.operations.python_operation import operation

_LONGEST_SECONDS = 30


def _stop_the_server() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    os.kill(os.getppid(), signal.SIGTERM)
    select.select([reader], [], [], _LONGEST_SECONDS)  # until the parent has passed it on
    signal.set_wakeup_fd(before)
    os.close(writer)
    os.close(reader)


# The check before the server loads it as well, and its parent is none of the server's.
if multiprocessing.parent_process():
    _stop_the_server()


@operation(timeout="10s")
def nothing(value: int) -> int:
    """A module that declares no operation is a fault."""
    return value
