"""Graceful shutdown: notices SIGTERM and SIGINT in every case, and makes granian's own signal handlers run.

Python runs handlers in the main thread only, and that one waits in a lock. On a busy machine another thread now and
then takes the signal, or it comes just before the main thread begins to wait: the handler then never runs, and the
server goes on until it is killed, with the requests that it has. What the C code writes into the wakeup descriptor is
seen in either case.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

_STOPS = (signal.SIGTERM, signal.SIGINT)
# Ignored by default; Go's runtime wakes its threads by it for the same reason.
_WAKE = signal.SIGURG
_AGAIN_SECONDS = 0.05


def when_asked_to_stop(stop: Callable[[], None]) -> None:
    """Calls `stop`, once, in a thread of its own, on SIGTERM or SIGINT. Call it in the main thread.

    The server waits for the requests that it has; those that are held would let it wait for long. Its handlers come
    after ours and replace them, but whichever runs, Python writes the signal's number to us first. Ends the process
    if it was asked to stop before, while it was loaded.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _end_until_the_server_takes_over()
    woken: SimpleQueue[None] = SimpleQueue()  # its put is reentrant, so a signal handler may call it
    signal.signal(_WAKE, lambda *_: woken.put(None))
    threading.Thread(target=_wait, args=(reader, stop, woken), name="stop", daemon=True).start()


def _end_until_the_server_takes_over() -> None:
    """Lets SIGTERM and SIGINT end the process until granian sets its handlers, as nothing is accepted yet.

    One that came before is included.
    A worker of granian is a fork of its parent and has the parent's handlers until it sets its own: they note in a copy
    of the parent's server, where nobody looks, that it is to stop, and the worker would be the only one not to know.
    Other servers' handlers stay.
    """
    for number in _STOPS:
        server: Any = getattr(signal.getsignal(number), "__self__", None)
        if hasattr(server, "interrupt_signal"):
            signal.signal(number, signal.SIG_DFL)
            if server.interrupt_signal:
                sys.exit()


def _wait(reader: int, stop: Callable[[], None], woken: "SimpleQueue[None]") -> None:
    while number := os.read(reader, 1):
        if number[0] in _STOPS:
            stop()
            _wake_main_thread(woken)
            return


def _wake_main_thread(woken: "SimpleQueue[None]") -> None:
    """Wakes the main thread so that Python runs the handlers of all signals that came, each of them once."""
    main_thread = threading.main_thread().ident
    while main_thread is not None:
        signal.pthread_kill(main_thread, _WAKE)
        try:
            woken.get(timeout=_AGAIN_SECONDS)  # no answer: it was about to wait, and missed the signal
        except Empty:
            continue
        return
