"""The sampler: the scheduler's thread that samples the lanes' queues, from which forecasts are made."""

import threading

from tasks.scheduler.work_signal import WorkSignal
from tidegate import clock
from tidegate.stores import SampleStore

_APART_SECONDS = 0.9
_LONGEST_REST_SECONDS = 60.0


class Sampler:
    """Samples the lanes once a second while jobs wait.

    In a thread of its own: with a million jobs one sample takes most of a second, in which the gate must not stand
    still.
    """

    def __init__(self, samples: SampleStore, work_signal: WorkSignal) -> None:
        self._samples = samples
        self._work_signal = work_signal
        self._has_backlog = True

    def run_once(self) -> float:
        """Samples once; returns the seconds until the next. It pauses for 9 times as long as it takes."""
        started = clock.monotonic()
        self._has_backlog = self._samples.sample() > 0
        return max(_APART_SECONDS, 9 * (clock.monotonic() - started))

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Waits until the next sample is due, and jobs wait or did at the last one."""
        if not stopped.wait(seconds) and not self._has_backlog:
            self._work_signal.wait(self._work_signal.jobs, _LONGEST_REST_SECONDS)
