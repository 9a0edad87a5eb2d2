"""One look of a scheduler for all its threads: who has nothing to do waits here until there is something."""

import threading

from tidegate import clock
from tidegate.maintenance.store import Outlook

# After so long without a look nobody relies on the last one: the thread that looks may be held up.
_FRESH_SECONDS = 3.0


class Vigil:
    """What the look once a second saw."""

    def __init__(self) -> None:
        self.jobs = threading.Event()
        """Set while jobs wait for their release."""
        self.webhooks = threading.Event()
        """Set while webhooks wait for their delivery."""
        self._seen_at = clock.monotonic()

    def saw(self, outlook: Outlook) -> None:
        """To be told by who looks."""
        self._seen_at = clock.monotonic()
        for event, is_there in ((self.jobs, outlook.jobs_wait), (self.webhooks, outlook.webhooks_wait)):
            if is_there:
                event.set()
            else:
                event.clear()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Until it is set, at most so long, and not when nobody has looked for a while."""
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            if event.wait(min(left, _FRESH_SECONDS)) or clock.monotonic() - self._seen_at > _FRESH_SECONDS:
                return
