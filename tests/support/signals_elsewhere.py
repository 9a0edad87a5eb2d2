"""A module of operations whose server gets no signal to stop in its main thread: another one takes them.

On a busy machine the kernel does so now and then by itself: whichever thread has its mask set first takes the signal.
"""

import multiprocessing
import signal
import threading

from tidegate.operations.python_operation import operation

if multiprocessing.parent_process():  # in a process of the server, and not in the check before it
    # This one still takes them; threads that are started later are as the main one is.
    threading.Thread(target=threading.Event().wait, name="takes signals", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


@operation(timeout="10s")
def nothing(value: int) -> int:
    """A module that declares no operation is a fault."""
    return value
