"""A worker that retires: it takes no more messages, ends what it has, however long that takes, and then itself."""

import logging
import os
import signal
import threading
from collections.abc import Callable

from tidegate import clock

log = logging.getLogger(__name__)

RETIRE = signal.SIGUSR2
"""The signal that asks for it. A worker that has not begun to work ends by it at once."""
_LOOK_SECONDS = 0.2
# The broker may have sent a message just before it was told to send no more.
_QUIET_LOOKS = 5


def allow_retirement(stop_taking: Callable[[], None], is_idle: Callable[[], bool]) -> None:
    """Handles the signal from now on. Call it in the main thread.

    `stop_taking`: called once, in the main thread, when it has come; it must return at once. `is_idle`: whether nothing
    is left to end; the worker then ends as by SIGTERM. What runs keeps its lease until then, as at any time. A SIGTERM
    before that bounds it by the grace.
    """
    asked = threading.Event()

    def retire(*_: object) -> None:
        if not asked.is_set():
            asked.set()
            stop_taking()
            threading.Thread(target=_end_when, args=(is_idle,), name="retirement", daemon=True).start()

    signal.signal(RETIRE, retire)


def _end_when(is_idle: Callable[[], bool]) -> None:
    log.info("takes no more work and ends when what it has is done")
    looks = 0
    while looks < _QUIET_LOOKS:
        clock.sleep(_LOOK_SECONDS)
        looks = looks + 1 if is_idle() else 0
    os.kill(os.getpid(), signal.SIGTERM)
