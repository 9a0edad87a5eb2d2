"""The courier: the scheduler's thread that releases webhook deliveries and publishes them, independent of the gate."""

import logging
import threading

from tasks.scheduler.publisher import NotSent, Publisher
from tasks.scheduler.work_signal import WorkSignal
from tidegate import clock
from tidegate.notify.listener import Listener
from tidegate.stores import SendingStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
# The interval after nothing was sent for a while.
SLOW_LOOK_SECONDS = 1.0
_QUIET_SECONDS = 10.0
_AFTER_FAILURE_SECONDS = 1.0
_UPKEEP_SECONDS = 60.0
_MOST_AT_ONCE = 500
# With thousands of receivers one look takes long: it pauses for 9 times as long, so it uses 10 % of the time.
_REST_FACTOR = 9


class Courier:
    """Releases and publishes deliveries. Any number of couriers may run. Without a `listener` it polls."""

    def __init__(
        self, store: SendingStore, publisher: Publisher, work_signal: WorkSignal, listener: Listener | None
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._work_signal = work_signal
        self._listener = listener
        self._upkeep_due = 0.0
        self._quiet_from = 0.0

    def run_once(self) -> float:
        """Releases and publishes what is due; returns the seconds until the next look unless woken."""
        started = clock.monotonic()
        if started >= self._upkeep_due:
            given_up = self._store.give_up(_MOST_AT_ONCE)
            if given_up:
                log.warning("%d webhook(s) given up: their receivers were silent for a day", given_up)
            self._upkeep_due = started + (0.0 if given_up == _MOST_AT_ONCE else _UPKEEP_SECONDS)
        released = self._store.release()
        if released:
            self._quiet_from = started + _QUIET_SECONDS
            try:
                self._publisher.send_deliveries(released)
            except NotSent as error:
                log.warning("the broker is away, %d delivery(ies) taken back: %s", len(error.unsent), error)
                self._store.take_back(error.unsent)
                return _AFTER_FAILURE_SECONDS
        look = LOOK_SECONDS if started < self._quiet_from else SLOW_LOOK_SECONDS
        return max(look, _REST_FACTOR * (clock.monotonic() - started))

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Waits until the next look is due, or a place came free; when no webhook waits, until one does."""
        if clock.monotonic() >= self._quiet_from and not self._work_signal.webhooks.is_set():
            self._work_signal.wait(self._work_signal.webhooks, _UPKEEP_SECONDS)
        elif self._listener:
            self._listener.wait(seconds)
        else:
            stopped.wait(seconds)
