"""A subscription: how a long poll or event stream waits for changes of one job."""

import threading
from collections.abc import Callable

from tidegate.errors import UnknownJob
from tidegate.jobs.job import Job, JobWithResult


class Subscription:
    """A subscription to one job's changes, held by one thread, which must close it: their number is limited.

    One without a job is told nothing. It is over when the process stops, or another client needs its place.
    `client_id`: who holds it. `only_end`: it waits for the job's end alone; other changes need not be told to it.
    """

    def __init__(
        self, job: Job | None, close: "Callable[[Subscription], None]", *, client_id: str = "", only_end: bool = False
    ) -> None:
        self.job_id = job.id if job else ""
        self.client_id = client_id
        self.only_end = only_end
        self._close = close
        self._known = (job.version, job.state) if job else None
        self._news: JobWithResult | None = None
        self._is_erased = False
        self._is_over = False
        self._told = threading.Event()
        self._lock = threading.Lock()  # between setting news and event: a wake without news would end a wait early

    def next(self, seconds: float) -> JobWithResult | None:
        """Waits for a change and returns the job and its result as they are now; versions in between may be skipped.

        None when nothing changed in so many seconds, and at once when it is over. Raises UnknownJob when it was erased.
        """
        if not self._told.wait(max(0.0, seconds)):
            return None
        with self._lock:
            if not self._is_over:
                self._told.clear()
            if self._is_erased:
                raise UnknownJob(f"there is no job {self.job_id}")
            news, self._news = self._news, None
            return news

    @property
    def is_over(self) -> bool:
        """Whether the process stops, or another client needed its place: no further change will come."""
        return self._is_over

    def close(self) -> None:
        """Unsubscribes, which makes room for another request."""
        self._close(self)

    def deliver(self, found: JobWithResult | None) -> None:
        """Called by the Watcher: delivers the job if it has changed; None: it was erased."""
        with self._lock:
            if found is None:
                self._is_erased = True
            else:
                now = found[0].version, found[0].state
                if now == self._known or (self._known and now[0] < self._known[0]):
                    return
                self._known, self._news = now, found
            self._told.set()

    def end(self) -> None:
        """Called by the Watcher: wakes the waiting thread for good."""
        with self._lock:
            self._is_over = True
            self._told.set()
