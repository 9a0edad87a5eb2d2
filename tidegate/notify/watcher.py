"""The watcher: feeds the subscriptions of one web process's held requests, with one shared query of the changed jobs.

Which jobs changed is heard over Redis pub/sub; what was not heard is found by polling versions once a second, four
times a second without pub/sub. Deadlines need neither: each watched job is read when its own has come.
"""

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tidegate import clock
from tidegate.database.connection import UNREACHABLE
from tidegate.errors import ShareUsed
from tidegate.fairness import gives_way
from tidegate.jobs.job import Job
from tidegate.jobs.store import JobStore
from tidegate.notify.listener import listener_for
from tidegate.notify.messages import CHANGES, has_pubsub, named_in
from tidegate.notify.subscription import Subscription

log = logging.getLogger(__name__)

SLOW_LOOK_SECONDS = 1.0
_DEAF_LOOK_SECONDS = 0.25
_LISTEN_SECONDS = 1.0
# Unsubscribes from Redis when nothing was watched for so long: the channel carries every job of the cluster.
_QUIET_SECONDS = 10.0
_AFTER_FAILURE_SECONDS = 1.0
# A new subscription's job is read after this, for a change between the request's read and the subscription.
_FIRST_LOOK_SECONDS = 0.03
# A job that is past its deadline and could not be expired is read again after this.
_AGAIN_SECONDS = 0.05
# Requests that gave their place to another and whose threads have not ended yet: so many more are held at the most.
_MOST_LEAVING = 16


@dataclass
class _Watched:
    """A job with subscriptions: its newest known version, and when it is read next, by the monotonic clock."""

    version: int
    look_due: float
    watches: set[Subscription] = field(default_factory=set)

    @property
    def wants_all(self) -> bool:
        """Whether a subscription wants other changes than the job's end."""
        return not all(watch.only_end for watch in self.watches)


class Watcher:
    """Keeps at most `most` subscriptions, `most_each` of one client. Its threads start with the first.

    When there are as many, the oldest of the client with most of them ends for one that has at least two less.
    """

    def __init__(self, store: JobStore, bell_url: str, *, most: int, most_each: int | None = None) -> None:
        self._store = store
        self._bell_url = bell_url
        self._look_seconds = SLOW_LOOK_SECONDS if has_pubsub(bell_url) else _DEAF_LOOK_SECONDS
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._count = 0
        self._held: dict[str, dict[Subscription, None]] = {}  # by client, in the order in which they came
        self._leaving: set[Subscription] = set()
        self._watched: dict[str, _Watched] = {}
        self._watch_nothing: set[Subscription] = set()
        self._asked: set[str] = set()
        self._slow_look_due = 0.0
        self._quiet_since = 0.0
        self._is_stopping = False
        self._changed = threading.Condition()
        self._looker: threading.Thread | None = None
        self._listener: threading.Thread | None = None

    @property
    def count(self) -> int:
        """The number of held requests: open subscriptions."""
        return self._count

    def watch(self, job: Job, client_id: str, *, only_end: bool = False) -> Subscription | None:
        """Subscribes to a job's changes from the version that the request has read; None when there is no room.

        Raises ShareUsed when the client has its share. While the process stops the subscription is over from the start.
        """
        watch = Subscription(job, self.forget, client_id=client_id, only_end=only_end)
        with self._changed:
            if self._is_stopping:
                watch.end()
                return watch
            if not self._take_place(watch):
                return None
            watched = self._watched.setdefault(job.id, _Watched(version=job.version, look_due=_due(job)))
            watched.watches.add(watch)
            watched.look_due = min(watched.look_due, clock.monotonic() + _FIRST_LOOK_SECONDS)
            self._changed.notify_all()
            self._start_threads()
        return watch

    def hold(self, client_id: str) -> Subscription | None:
        """Reserves room for a request that waits for time to pass, not for a job; None: no room. Raises ShareUsed."""
        watch = Subscription(None, self.forget, client_id=client_id)
        with self._changed:
            if self._is_stopping:
                watch.end()
                return watch
            if not self._take_place(watch):
                return None
            self._watch_nothing.add(watch)
        return watch

    def forget(self, watch: Subscription) -> None:
        """Removes a subscription; a second time it does nothing."""
        with self._changed:
            self._leaving.discard(watch)
            self._leave(watch)

    def stop(self) -> None:
        """Ends every subscription, now and from now on: the process stops, and held requests must not delay it."""
        with self._changed:
            self._is_stopping = True
            watches = [watch for watched in self._watched.values() for watch in watched.watches]
            watches += self._watch_nothing
            self._watched.clear()
            self._watch_nothing.clear()
            self._count = 0
            self._held.clear()
            self._leaving.clear()
            self._changed.notify_all()
        for watch in watches:
            watch.end()

    def close(self) -> None:
        """Stops, and joins its threads, which close their connections to the database and Redis."""
        self.stop()
        for thread in (self._looker, self._listener):
            if thread is not None:
                thread.join()

    def _take_place(self, watch: Subscription) -> bool:
        """Whether there is a place for it, if need be that of a client which has more."""
        given_up = None
        if self._count >= self._most:
            given_up = self._given_up_for(watch.client_id)
            if given_up is None:
                return False
        if len(self._held.get(watch.client_id, ())) >= self._most_each:
            raise ShareUsed(f"{self._most_each} of your requests are held open, more are not")
        if given_up:
            self._leave(given_up)
            self._leaving.add(given_up)
            given_up.end()
        self._count += 1
        self._held.setdefault(watch.client_id, {})[watch] = None
        return True

    def _given_up_for(self, client_id: str) -> Subscription | None:
        giver = gives_way({client: len(held) for client, held in self._held.items()}, client_id)
        return None if giver is None or len(self._leaving) >= _MOST_LEAVING else next(iter(self._held[giver]))

    def _leave(self, watch: Subscription) -> None:
        own = self._held.get(watch.client_id)
        if own is None or watch not in own:
            return
        del own[watch]
        self._count -= 1
        if not own:
            del self._held[watch.client_id]
        self._watch_nothing.discard(watch)
        watched = self._watched.get(watch.job_id)
        if watched and watch in watched.watches:
            watched.watches.remove(watch)
            if not watched.watches:
                del self._watched[watch.job_id]

    def _start_threads(self) -> None:
        if self._looker is None:
            self._looker = threading.Thread(target=self._look_on, name="lookout", daemon=True)
            self._looker.start()
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="lookout-ear", daemon=True)
            self._listener.start()

    def _ask(self, job_ids: Collection[str]) -> None:
        self._asked.update(self._watched.keys() & job_ids)
        if self._asked:
            self._changed.notify_all()

    def _listen(self) -> None:
        listener = listener_for(self._bell_url, CHANGES)
        while listener and self._is_wanted():
            for message in listener.hear(_LISTEN_SECONDS):
                if job_ids := self._concerned(message):
                    self._try(self._read_and_deliver, job_ids)
        if listener:
            listener.close()

    def _concerned(self, message: bytes) -> Collection[str]:
        """The watched jobs that a message concerns."""
        ended_or_changed, begun = named_in(message)
        with self._changed:
            if not ended_or_changed and not begun:
                return [*self._watched]
            may_care = {job_id for job_id in self._watched.keys() & begun if self._watched[job_id].wants_all}
            return may_care | (self._watched.keys() & ended_or_changed)

    def _is_wanted(self) -> bool:
        with self._changed:
            if self._watched:
                self._quiet_since = clock.monotonic()
            if not self._is_stopping and clock.monotonic() - self._quiet_since <= _QUIET_SECONDS:
                return True
            self._listener = None
            return False

    def _look_on(self) -> None:
        while not self._is_stopping:
            job_ids = self._await_work()
            if not self._try(self._read_and_deliver if job_ids else self._look_slowly, job_ids):
                clock.sleep(_AFTER_FAILURE_SECONDS)

    def _try(self, look: Callable[[Collection[str]], None], job_ids: Collection[str]) -> bool:
        """Runs a look and logs its failure; whether it succeeded. The jobs of one that failed are asked for again."""
        try:
            look(job_ids)
        except UNREACHABLE as error:
            log.warning("held requests go on waiting, the database can't be reached: %s", error)
        except Exception:  # without it every held request would wait in vain
            log.exception("a look at the watched jobs failed")
        else:
            return True
        with self._changed:
            self._ask(job_ids)
        return False

    def _await_work(self) -> list[str]:
        """Waits until jobs are to be read, and returns their ids; none: poll the versions of all."""
        with self._changed:
            while not self._is_stopping:
                now = clock.monotonic()
                due = {job_id for job_id, watched in self._watched.items() if watched.look_due <= now}
                job_ids = (self._asked & self._watched.keys()) | due
                self._asked.clear()
                if job_ids:
                    return [*job_ids]
                if not self._watched:
                    self._changed.wait()
                    continue
                first = min(watched.look_due for watched in self._watched.values())
                if self._slow_look_due <= now:
                    self._slow_look_due = now + self._look_seconds
                    return []
                self._changed.wait(min(first, self._slow_look_due) - now)
            return []

    def _look_slowly(self, _: Collection[str]) -> None:
        """Polls the versions of all watched jobs, and reads those that changed without a message."""
        with self._changed:
            known = {job_id: watched.version for job_id, watched in self._watched.items()}
        if not known:
            return
        versions = self._store.versions(known)
        if moved := [job_id for job_id, version in known.items() if versions.get(job_id) != version]:
            self._read_and_deliver(moved)

    def _read_and_deliver(self, job_ids: Collection[str]) -> None:
        found = self._store.read_current(job_ids)
        with self._changed:
            for job_id in job_ids:
                watched, now = self._watched.get(job_id), found.get(job_id)
                if watched is None:
                    continue
                if now is not None:
                    job, _ = now
                    watched.version, watched.look_due = max(watched.version, job.version), _due(job)
                for watch in watched.watches:
                    watch.deliver(now)


def _due(job: Job) -> float:
    """When the job is read because of its deadline, on the monotonic clock; never, if it is final."""
    if job.state.is_final:
        return float("inf")
    return clock.monotonic() + max((job.deadline - job.seen_at).total_seconds(), _AGAIN_SECONDS)
