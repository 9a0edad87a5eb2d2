"""Lets the scheduler's idle threads sleep until the sweep's query, once a second, sees work for them."""

import threading

from tidegate import clock
from tidegate.maintenance.cluster_facts import Outlook

# After so long without a query a waiting thread wakes anyway: the thread that queries may be held up.
_FRESH_SECONDS = 3.0


class WorkSignal:
    """Events, set by the sweep's query: whether jobs wait for their release, webhooks for their delivery, or either."""

    def __init__(self) -> None:
        self.jobs = threading.Event()
        """Set while jobs wait for their release."""
        self.webhooks = threading.Event()
        """Set while webhooks wait for their delivery."""
        self.any = threading.Event()
        """Set while jobs or webhooks wait."""
        self._seen_at = clock.monotonic()

    def update(self, outlook: Outlook) -> None:
        """Sets or clears both events by the query's answer; called by the thread that makes the query."""
        self._seen_at = clock.monotonic()
        any_wait = outlook.jobs_wait or outlook.webhooks_wait
        waits = ((self.jobs, outlook.jobs_wait), (self.webhooks, outlook.webhooks_wait), (self.any, any_wait))
        for event, is_there in waits:
            if is_there:
                event.set()
            else:
                event.clear()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Waits until the event is set, at most so many seconds; returns early if there was no query for 3 s."""
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            if event.wait(min(left, _FRESH_SECONDS)) or clock.monotonic() - self._seen_at > _FRESH_SECONDS:
                return
