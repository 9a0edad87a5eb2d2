"""What one held request waits with."""

import threading
from collections.abc import Callable

from tidegate.errors import UnknownJob
from tidegate.jobs.job import Job
from tidegate.jobs.reads import JobWithResult


class Watch:
    """Of one thread, which closes it, for there are only so many.

    Of no job in particular it is told nothing, and is over when the process stops. `client_id`: who holds it.
    `only_end`: it waits for nothing but the job's end, and need not be told before, though it may.
    """

    def __init__(
        self, job: Job | None, close: "Callable[[Watch], None]", *, client_id: str = "", only_end: bool = False
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
        self._lock = threading.Lock()  # it is told of what there is: a wake without news would end a wait early

    def next(self, seconds: float) -> JobWithResult | None:
        """The job as soon as it is another than it was, with what it brought; versions in between may have been passed
        over.

        None when it is still the same after so many seconds, and at once when the process stops. Raises UnknownJob
        when it was erased.
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
        """Whether the process stops: nothing more will be told."""
        return self._is_over

    def close(self) -> None:
        """Lets the next request have the room."""
        self._close(self)

    def tell(self, found: JobWithResult | None) -> None:
        """For the lookout: the job as it is now, if that is news; None: it was erased."""
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
        """For the lookout: the process stops."""
        with self._lock:
            self._is_over = True
            self._told.set()
