"""How many workers each queue wants: asked of the database in a thread, once a second and seldom while all is quiet."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from config.database import open_database
from config.settings import Settings
from embedded.stack import Group
from embedded.worker_set import WorkerSet
from tidegate.database.connection import UNREACHABLE
from tidegate.dispatch.lane_rows import LaneRowStore
from tidegate.dispatch.scale import Wanted
from tidegate.maintenance.scale_store import ScaleStore

Answer = Mapping[str, Wanted] | None
"""What is wanted, by queue; None: it is not known."""
APART = timedelta(seconds=1)
APART_WHILE_QUIET = timedelta(seconds=5)
"""While nothing is wanted. Work that comes then finds the fewest workers, and others up to so much later."""
_PATIENCE = timedelta(seconds=5)


class WantedWorkers:
    """Asks in a thread, for an answer may take long. Call it for the latest answer."""

    def __init__(self, ask: Callable[[], Mapping[str, Wanted]]) -> None:
        self._ask = ask
        self._latest: Answer = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="wanted-workers", daemon=True)

    def __call__(self) -> Answer:
        """The latest answer; None before the first one, and while the database gives none."""
        return self._latest

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Asks no more. A question that is open is waited for a second."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def ask_once(self) -> None:
        """Asks the database now."""
        try:
            self._latest = self._ask()
        except UNREACHABLE:  # the processes that need it say so themselves
            self._latest = None

    @property
    def apart(self) -> timedelta:
        """How long after the latest answer it asks again."""
        is_quiet = self._latest is not None and not any(each.wanted for each in self._latest.values())
        return APART_WHILE_QUIET if is_quiet else APART

    def _loop(self) -> None:
        while not self._stopped.wait(self.apart.total_seconds()):
            self.ask_once()


@contextmanager
def asking(settings: Settings, groups: Iterable[Group]) -> Iterator[Callable[[], Answer]]:
    """What tells how many workers are wanted; where the number of none may change, nobody is asked."""
    sets = [each for group in groups for each in group if isinstance(each, WorkerSet)]
    if all(each.range.is_fixed for each in sets):
        yield lambda: None
        return
    database = open_database(settings, pool_size=1, patience=_PATIENCE)
    wanted = WantedWorkers(ScaleStore(database, LaneRowStore(database)).wanted)
    wanted.start()
    try:
        yield wanted
    finally:
        wanted.stop()
        database.close()
