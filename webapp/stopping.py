"""Learns that the process is asked to stop, beside the server whose signal handlers those are."""

import os
import signal
import threading
from collections.abc import Callable

_STOPS = {signal.SIGTERM, signal.SIGINT}


def when_asked_to_stop(stop: Callable[[], None]) -> None:
    """Calls `stop`, once, from a thread of its own, when SIGTERM or SIGINT comes. To be called in the main thread.

    The server waits for the requests that it has; those that are held would let it wait for long. Its handlers come
    after ours and replace them, but whichever runs, Python writes the signal's number here first.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reader, stop), name="stop", daemon=True).start()


def _wait(reader: int, stop: Callable[[], None]) -> None:
    while number := os.read(reader, 1):
        if number[0] in _STOPS:
            stop()
            return
