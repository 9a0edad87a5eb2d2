"""A worker's heartbeat: says that it lives, renews the leases of its jobs, takes back the jobs of dead children."""

import logging
import os
import threading
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from datetime import timedelta

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.execution.heartbeat_store import HeartbeatStore
from tidegate.execution.open_attempts import OpenAttempts
from tidegate.jobs.job import Call
from tidegate.rate_limit import LATE

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
# So long it must be known too little of the database's clock to be told: a start makes its first answers slow.
_DOUBT_SECONDS = 10.0
# A child that claimed a moment ago may not be listed yet.
_SETTLED = timedelta(seconds=1)
# For so long after a child appeared or vanished, the jobs of dead children are looked for.
_SUSPICIOUS_SECONDS = 3.0


class Heartbeat:
    """The heartbeat thread, one for all jobs of a worker, in its main process.

    A child process is alive as long as its parent sees it, whatever it computes: renewing is the parent's, so
    that a child stuck in C code does not lose its job to a rescue that would run it twice.
    """

    def __init__(
        self,
        store: HeartbeatStore,
        *,
        worker: str,
        queue: str,
        size: int,
        lease: timedelta,
        children: Callable[[], AbstractSet[int]] | None = None,
        wake_all: Callable[[], None],
        write_counts: Callable[[], object],
        open_attempts: OpenAttempts | None = None,
        operations: Collection[str] | None = None,
    ) -> None:
        """Prepares the heartbeat; `start` begins it.

        `children`: the pids of child processes, where those run the attempts; `open_attempts`: the attempts of this
        process's threads, where they do. `operations`: those that it runs; None: it does not say. `wake_all`: called
        when jobs were taken back, or this worker has places again.
        """
        self._store = store
        self._worker = worker
        self._queue = queue
        self._size = size
        self._lease = lease
        self._children = children
        self._wake_all = wake_all
        self._write_counts = write_counts
        self._open_attempts = open_attempts or OpenAttempts()
        self._unsaid = operations
        self._seen_children: AbstractSet[int] = frozenset()
        self._passed_over: AbstractSet[Call] = frozenset()
        self._beat_due = 0.0
        self._check_until = 0.0
        self._hears, self._has_news, self._tells = True, False, False
        self._unsure_since: float | None = None
        self._told_of_clock = False
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)
        # A fork while this thread is inside the database's client library would leave the child its locks held.
        self._in_database = threading.Lock()
        os.register_at_fork(
            before=self._in_database.acquire,
            after_in_parent=self._in_database.release,
            after_in_child=self._in_database.release,
        )

    @property
    def is_heard(self) -> bool:
        """Whether the database took a heartbeat within the last lease."""
        return clock.monotonic() < self._beat_due + self._lease.total_seconds() * 2 / 3

    def start(self) -> None:
        """Sends a first heartbeat, so that the gate counts this worker, and goes on in a thread.

        The thread starts even while the database is away.
        """
        self._turn()
        self._thread.start()

    def hears(self, *, hears: bool) -> None:
        """Sets whether messages reach this worker; the next heartbeat, which says so, follows at once.

        A worker that gets no messages keeps the attempts that it works on, but counts as size 0: jobs released for it
        would wait in vain. Returns at once.
        """
        self._tells = hears and not self._hears
        self._hears = hears
        self._has_news = True
        self._woken.set()

    def stop(self) -> int:
        """Stops the heartbeats and queues every job that is left again, to run elsewhere; returns their number."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with self._in_database:
            handed_back = self._store.remove(self._worker)
            self._write_counts()
        return handed_back

    def run_once(self) -> int:
        """Sends a heartbeat and renews leases if due; returns how many jobs were taken back from dead children."""
        taken_back = 0
        with self._in_database:
            if self._has_news or clock.monotonic() >= self._beat_due:
                self._has_news, self._beat_due = False, 0.0  # stays due if the database does not take it
                size = self._size if self._hears else 0
                has_calls = self._store.beat(self._worker, queue=self._queue, size=size, until=self._lease)
                if self._unsaid is not None:
                    self._store.say_operations(self._worker, self._unsaid)
                    self._unsaid = None
                self._tell_of_clock()
                self._renew(self._in_hand() if has_calls else frozenset())
                self._beat_due = clock.monotonic() + self._lease.total_seconds() / 3
                self._check_until = max(self._check_until, clock.monotonic() + _LOOK_SECONDS)
            elif self._passed_over:
                self._renew(self._passed_over & self._in_hand())
            if self._children is not None:
                taken_back = self._look_at(self._children)
            self._write_counts()
        if taken_back:
            log.warning("a child process died; %d job(s) taken back", taken_back)
        if taken_back or self._tells:
            self._tells = False
            self._wake_all()
        return taken_back

    def _tell_of_clock(self) -> None:
        """Warns once when the clock's error stays large."""
        if self._store.own_clock_error <= LATE / 2e6:
            self._unsure_since, self._told_of_clock = None, False
            return
        self._unsure_since = self._unsure_since or clock.monotonic()
        if not self._told_of_clock and clock.monotonic() >= self._unsure_since + _DOUBT_SECONDS:
            self._told_of_clock = True
            log.warning(
                "the database answers slowly, its clock is known to %.0f ms only: calls may begin too close together"
                " where no larger jitter is declared",
                1e3 * self._store.own_clock_error,
            )

    def _in_hand(self) -> AbstractSet[Call]:
        """The calls that this worker works on.

        A claim that was given up and committed later all the same is not among them: nobody works on that.
        """
        if self._children is None:
            return self._open_attempts.all()
        return self._store.calls_of(self._worker, self._children())

    def _renew(self, calls: AbstractSet[Call]) -> None:
        self._passed_over = self._store.renew(self._worker, calls, lease=self._lease) if calls else frozenset()

    def _look_at(self, children: Callable[[], AbstractSet[int]]) -> int:
        if (alive := children()) != self._seen_children:
            self._seen_children = alive
            self._check_until = clock.monotonic() + _SUSPICIOUS_SECONDS
        if clock.monotonic() > self._check_until:
            return 0
        until = self._store.now() - _SETTLED  # read before they are listed
        return self._store.child_died(self._worker, children(), claimed_until=until)

    def _loop(self) -> None:
        while True:
            self._woken.wait(self._rest_seconds())
            self._woken.clear()
            if self._stopped.is_set():
                return
            self._turn()

    def _rest_seconds(self) -> float:
        """Seconds until the next turn: without children the next heartbeat; one that failed is repeated soon."""
        left = self._beat_due - clock.monotonic()
        is_quiet = self._children is None and not self._passed_over
        return left if is_quiet and left > 0 else _LOOK_SECONDS

    def _turn(self) -> None:
        try:
            self.run_once()
        except UNREACHABLE as error:
            log.warning("heartbeat: the database can't be reached: %s", error)
        except Exception:  # without its heartbeat the worker would lose every job that it runs
            log.exception("a turn of the heartbeat failed")
