"""The set of attempts that this process works on: the heartbeat renews the leases of these and no others."""

import threading
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from tidegate.jobs.job import Call


class OpenAttempts:
    """A thread-safe set of attempts. The lease of any other runs out, and the sweep takes its job back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hands: Counter[Call] = Counter()  # two messages of one release may meet here

    @contextmanager
    def holding(self, job_id: str, fence: int) -> Iterator[None]:
        """Within it the attempt is in the set: from before its claim until the database has its outcome."""
        call = job_id, fence
        with self._lock:
            self._hands[call] += 1
        try:
            yield
        finally:
            with self._lock:
                self._hands[call] -= 1
                if not self._hands[call]:
                    del self._hands[call]

    def all(self) -> AbstractSet[Call]:
        """The attempts in the set at this moment."""
        with self._lock:
            return set(self._hands)
