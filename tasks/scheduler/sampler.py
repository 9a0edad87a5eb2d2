"""The sampler: a thread of the scheduler that keeps what the forecasts go by."""

import threading

from tasks.scheduler.look import Vigil
from tidegate import clock
from tidegate.stores import SampleStore

_APART_SECONDS = 0.9
_LONGEST_REST_SECONDS = 60.0


class Sampler:
    """Samples the lanes once a second while jobs wait. In a thread of its own: with a million of them one look takes
    most of a second, in which the gate must not stand still."""

    def __init__(self, samples: SampleStore, vigil: Vigil) -> None:
        self._samples = samples
        self._vigil = vigil
        self._has_backlog = True

    def run_once(self) -> float:
        """One look; the seconds after which the next is due. The database is left alone for nine tenths of the time."""
        started = clock.monotonic()
        self._has_backlog = self._samples.take() > 0
        return max(_APART_SECONDS, 9 * (clock.monotonic() - started))

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Until the next look is due, and jobs wait or did at the last one."""
        if not stopped.wait(seconds) and not self._has_backlog:
            self._vigil.wait(self._vigil.jobs, _LONGEST_REST_SECONDS)
