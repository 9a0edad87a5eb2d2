"""A limit on the bytes of one client's open inputs, so that no client fills the disk. Counted mostly in memory.

The disk that is left is shared: nobody has more waiting than there is left for others. So the fuller it gets, the less
one client may have, and those who have most are refused first (dynamic thresholds, Choudhury and Hahne 1998).

No submit asks the database for it. A process adds up what it took; when that may be too much for somebody, a thread
counts what really waits, at most a hundredth of the time. What other processes took is known from that count on.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import ShareUsed

log = logging.getLogger(__name__)

_RETRY = timedelta(seconds=30)
_REST_SECONDS = 5.0
# After this long an input that was taken is committed, or was refused.
_SETTLED_SECONDS = 2.0
_SHARE_OF_TIME = 0.01
# Above this part of its share a client's bytes are counted anew.
_COUNT_FROM = 0.25


class WaitingBytes:
    """Keeps each client's bytes below `most`, and below what is left of the disk.

    `count` reads from the database how many bytes are open, by client; `left` tells how many more the disk takes, None
    where nobody knows.
    """

    def __init__(
        self, count: Callable[[], Mapping[str, int]], most: int, left: Callable[[], int | None] = lambda: None
    ) -> None:
        self._count = count
        self._most = most
        self._left = left
        self._counted: Mapping[str, int] = {}
        # Taken since then, in three ages: what was taken a moment ago may not have been committed when it was counted.
        self._ages: list[Counter[str]] = [Counter(), Counter(), Counter()]
        self._aged_at = clock.monotonic()
        self._lock = threading.Lock()
        self._is_asked = threading.Event()
        self._thread: threading.Thread | None = None

    def admit(self, client_id: str, size: int) -> None:
        """Adds an input's bytes; raises ShareUsed when the client would have too many."""
        left = self._left()
        most = self._most if left is None else min(self._most, left)
        with self._lock:
            self._age()
            waiting = self._counted.get(client_id, 0) + sum(each[client_id] for each in self._ages) + size
            is_within = waiting <= most
            if is_within:
                self._ages[0][client_id] += size
        if waiting > most * _COUNT_FROM:
            self._ask()
        if not is_within:
            raise ShareUsed(f"of your jobs' inputs {most} bytes may wait now, more are not taken", _RETRY)

    def count(self) -> None:
        """Reads the open bytes anew. Raises one of UNREACHABLE."""
        with self._lock:
            self._age()
            settled = self._ages[2].copy()
        counted = self._count()
        with self._lock:
            self._counted = counted
            self._ages[2] -= settled

    def _age(self) -> None:
        if clock.monotonic() - self._aged_at >= _SETTLED_SECONDS:
            fresh, settling, settled = self._ages
            self._ages = [Counter(), fresh, settled + settling]
            self._aged_at = clock.monotonic()

    def _ask(self) -> None:
        self._is_asked.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._count_on, name="waiting-bytes", daemon=True)
                    self._thread.start()

    def _count_on(self) -> None:
        while self._is_asked.wait():
            self._is_asked.clear()
            began = clock.monotonic()
            try:
                self.count()
            except UNREACHABLE as error:
                log.warning("what waits of each client can't be counted, the database can't be reached: %s", error)
            except Exception:  # else nothing would ever be counted again
                log.exception("what waits of each client could not be counted")
            clock.sleep(max(_REST_SECONDS, (clock.monotonic() - began) / _SHARE_OF_TIME))
