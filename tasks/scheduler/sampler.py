"""The sampler: the scheduler's thread that samples the lanes' queues, for forecasts and the number of workers."""

import threading

from tasks.scheduler.work_signal import WorkSignal
from tidegate import clock
from tidegate.stores import SampleStore, ScaleStore

_APART_SECONDS = 0.9
# While jobs run or webhooks are sent, and no job waits: for the wanted number of workers alone.
_BUSY_REST_SECONDS = 4.0
_LONGEST_REST_SECONDS = 60.0


class Sampler:
    """Samples the lanes once a second while jobs wait, and now and then while anything runs.

    In a thread of its own: with a million jobs one sample takes most of a second, in which the gate must not stand
    still.
    """

    def __init__(self, samples: SampleStore, scale: ScaleStore, work_signal: WorkSignal) -> None:
        self._samples = samples
        self._scale = scale
        self._work_signal = work_signal
        self._has_backlog = self._is_busy = True

    def run_once(self) -> float:
        """Samples once; returns the seconds until the next. It pauses for 9 times as long as it takes."""
        started = clock.monotonic()
        self._has_backlog = self._samples.sample() > 0
        webhooks_wait = self._work_signal.webhooks.is_set()
        self._is_busy = self._scale.measure(self._samples.due, webhooks_wait=webhooks_wait) or webhooks_wait
        return max(_APART_SECONDS, 9 * (clock.monotonic() - started))

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Waits until the next sample is due, and jobs wait or did at the last one, or anything runs."""
        if stopped.wait(seconds) or self._has_backlog:
            return
        if self._is_busy:
            self._work_signal.wait(self._work_signal.jobs, _BUSY_REST_SECONDS)
        else:
            self._work_signal.wait(self._work_signal.any, _LONGEST_REST_SECONDS)
