"""Jobs that this process submitted to a lane since its last count, and jobs that are about to be recorded."""

import bisect
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from tidegate.clock import EPOCH, MICROSECOND
from tidegate.dispatch.sample import Mark
from tidegate.jobs.job import TOGETHER, Job

# An estimate needs no more.
_MARKS = 8


class _Noted(NamedTuple):
    run_at: datetime
    number: int
    created_at: datetime
    client_id: str


class Submitted:
    """The jobs that no count has seen yet, by run_at. Not thread-safe: its owner has a lock.

    `expected`: how many jobs were let in and are not recorded yet. A count that begins now may miss them, and no other
    request may take their room.
    """

    def __init__(self) -> None:
        self._jobs: list[_Noted] = []
        self._number = 0
        self._by_client: Counter[str] = Counter()
        self._expected_of: Counter[str] = Counter()
        self.expected = 0
        self._latest = EPOCH

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Adds a job that is recorded."""
        self._number += 1
        bisect.insort(self._jobs, _Noted(job.run_at, self._number, job.created_at, job.client_id))
        self._by_client[job.client_id] += 1
        if job.run_at - job.created_at < TOGETHER:
            self._latest = max(self._latest, job.run_at + MICROSECOND)

    def expect(self, client_id: str, number: int) -> None:
        """Counts admitted jobs of this client that are not recorded yet; a negative number ends their wait.

        By then they are recorded, or will not be.
        """
        self._expected_of[client_id] += number
        self.expected += number

    def of_client(self, client_id: str) -> int:
        """The number of the client's jobs, expected ones included."""
        return self._by_client[client_id] + self._expected_of[client_id]

    def before(self, run_at: datetime) -> int:
        """How many jobs have a run_at before this instant."""
        return bisect.bisect_left(self._jobs, run_at, key=itemgetter(0))

    def marks(self, number: int) -> Sequence[Mark]:
        """Some of the first so many jobs: when each may run, and how many of these jobs go before it."""
        ranks = {number * each // _MARKS for each in range(_MARKS)} | {number - 1} if number else set[int]()
        return [(self._jobs[rank].run_at, rank) for rank in ranks]

    def before_next(self, now: datetime) -> int:
        """How many jobs go before one that is submitted now and may run at once.

        `now`: no later than it is; what was submitted since is before it all the same.
        """
        return self.before(max(now, self._latest))

    @property
    def newest(self) -> int:
        """The sequence number of the last job that was added."""
        return self._number

    def forget_until(self, number: int) -> None:
        """Removes the jobs added up to this number: a count that began afterwards has seen them."""
        self._keep([noted for noted in self._jobs if noted.number > number])

    def forget_seen(self, run_ats: Collection[datetime]) -> None:
        """Removes the jobs that were recorded together with one of these run_at, which a count has seen.

        No two jobs of a lane that one statement recorded have the same run_at.
        """
        seen = {noted.created_at for noted in self._jobs if noted.run_at in run_ats}
        if seen:
            self._keep([noted for noted in self._jobs if noted.created_at not in seen])

    def forget_created_until(self, instant: datetime) -> None:
        """Removes the jobs created up to this instant, which a sample of it has seen."""
        if self._jobs:
            self._keep([noted for noted in self._jobs if noted.created_at > instant])

    def _keep(self, kept: list[_Noted]) -> None:
        self._jobs = kept
        self._by_client = Counter(noted.client_id for noted in kept)
