"""The steward: a process of its own that runs the gate and the sweep. `python -m tasks.steward`; any number is safe."""

import logging
import signal
import sys
import threading
from datetime import timedelta

from config import logs
from config.registry import load_registry
from config.settings import settings
from tasks.publisher import NotSent, Publisher
from tidegate import clock
from tidegate.database import UNREACHABLE, Database
from tidegate.errors import ConfigurationError
from tidegate.gate import SLOW_LOOK_SECONDS, Gate
from tidegate.store import Store
from tidegate.sweep import ClockWatch, sweep
from tidegate.wake import Ear, ear_for

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
SAMPLE_SECONDS = 0.9
_PING_SECONDS = 0.5


class Steward:
    """Releases what may go, publishes it; sweeps and samples the lanes once a second."""

    def __init__(self, store: Store, publisher: Publisher, *, retention: timedelta, lease: timedelta) -> None:
        self._store = store
        self._gate = Gate(store.lanes)
        self._publisher = publisher
        self._retention = retention
        self._clock_watch = ClockWatch(lease)
        self._sweep_due = 0.0
        self._sample_due = 0.0
        self._broker_is_up = True

    def run_once(self) -> float:
        """One turn; the seconds after which the next is due unless woken."""
        if clock.monotonic() >= self._sweep_due:
            self._look_after()
        if not self._broker_is_up and not self._find_broker():
            return _PING_SECONDS
        turn = self._gate.run_once()
        if turn.released:
            try:
                self._broker_is_up = self._publisher.send(turn.released)
            except NotSent as error:
                log.warning("the broker is away, %d release(s) taken back: %s", len(turn.released), error)
                self._store.lanes.take_back(turn.released)
                self._broker_is_up = False
                return _PING_SECONDS
        return min(turn.look_again_seconds, max(0.0, self._sweep_due - clock.monotonic()))

    def _look_after(self) -> None:
        upkeep = self._store.upkeep
        swept = sweep(upkeep, retention=self._retention, may_rescue=self._clock_watch.may_rescue(upkeep.now()))
        started = clock.monotonic()
        if started >= self._sample_due:
            self._store.samples.take()
            took = clock.monotonic() - started
            # A large backlog takes long to sample; the steward has other work for nine tenths of its time.
            self._sample_due = started + max(SAMPLE_SECONDS, 10 * took)
        if swept.total:
            log.info("swept: %s", swept)
        self._sweep_due = clock.monotonic() + (0.0 if swept.is_full else SWEEP_SECONDS)

    def _find_broker(self) -> bool:
        self._broker_is_up = self._publisher.is_up()
        if self._broker_is_up:
            log.info("the broker is back")
        return self._broker_is_up


def run(steward: Steward, ear: Ear | None, stopped: threading.Event) -> None:
    """Turns until stopped. What a turn raises is logged, and the next one is tried a second later."""
    while not stopped.is_set():
        try:
            wait = steward.run_once()
        except UNREACHABLE as error:
            log.warning("the database can't be reached: %s", error)
            wait = SLOW_LOOK_SECONDS
        except Exception:
            log.exception("a turn of the steward failed")
            wait = SLOW_LOOK_SECONDS
        if wait <= 0:
            continue
        if ear is not None:
            ear.wait(wait)
        else:
            stopped.wait(wait)


def main() -> int:
    """Runs until SIGTERM or SIGINT."""
    try:
        current = settings()
        registry = load_registry(current)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not set up yet
        return 2
    logs.configure(current.log_level, "steward")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    store = Store(Database(current.database, pool_size=2))
    steward = Steward(
        store,
        Publisher(registry),
        retention=current.retention,
        lease=timedelta(seconds=current.lease_seconds),
    )
    while not stopped.is_set():
        try:
            store.limits.declare(registry.downstreams.values())
            break
        except UNREACHABLE as error:
            log.warning("the database can't be reached: %s", error)
            stopped.wait(SLOW_LOOK_SECONDS)
    log.info("steward of %d downstream(s)", len(registry.downstreams))
    run(steward, ear_for(current.broker_url), stopped)
    log.info("steward stops")
    return 0


if __name__ == "__main__":
    sys.exit(main())
