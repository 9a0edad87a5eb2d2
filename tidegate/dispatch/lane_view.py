"""A lane's view: its limits, sample and workers, and what they say of positions and of when a job will start. Pure.

Estimates, never promises; they are measured against what happened (benchmarks/pacing).
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from tidegate import rate_limit
from tidegate.clock import MICROSECOND, to_microseconds
from tidegate.dispatch.downstream import Downstream
from tidegate.dispatch.lane import allowance_of
from tidegate.dispatch.sample import Mark, Sample

# A lane whose places are this full on average is held back by them and not by its rate.
_FULL = 0.9
_LEAST_FILL = 0.1
# 20 jobs of a fill that was measured as 10.000001 are two calls.
_ROUNDING = 0.01


@dataclass(frozen=True, kw_only=True)
class LaneView:
    """A lane's limits, sample and workers: what an estimate is made from.

    `sample` None: not counted yet; `sampled_at`: when a scheduler took it. `worker_sizes`: attempts that live workers
    run side by side, by queue. `held_in_all`: places taken in all lanes together. `declared_fill`: jobs in a call, as
    the operations declare it.
    """

    downstream: Downstream
    sample: Sample | None = None
    sampled_at: datetime | None = None
    worker_sizes: dict[str, int] | None = None
    held_in_all: int = 0
    declared_fill: int = 1

    def as_counted(self, count: Sample, known: Sample | None) -> "LaneView":
        """The lane once its jobs were counted; `known`: by that count, and with the figures of a sample."""
        went = replace(self.downstream, released=count.released, companions=count.companions, seen_at=count.taken_at)
        return replace(self, downstream=went, sample=known)

    @property
    def fill(self) -> float:
        """Jobs that a call takes from the backlog, as measured, else as declared; below one where most are halved."""
        measured = self.sample.fill if self.sample and not self.sample.is_old else 0.0
        return max(_LEAST_FILL, measured or self.declared_fill)

    def calls_for(self, jobs: int) -> int:
        """How many calls are full by so many jobs: the next job goes in the one after these."""
        return jobs if self.fill == 1.0 else math.floor(jobs / self.fill + _ROUNDING)

    @property
    def jobs_per_second(self) -> float | None:
        """Jobs released a second while there is a backlog; None: can't be told."""
        return None if self.per_second is None else self.per_second * self.fill

    @property
    def allowed_per_second(self) -> float | None:
        """Calls a second by the rate that spaces them; None: no limit. For quotas see `start_of`."""
        pacing_rate = self._allowance.pacing
        return 1e6 * pacing_rate.calls / self._allowance.window(pacing_rate) if pacing_rate else None

    @property
    def is_full(self) -> bool:
        """Whether concurrency, and not the rate, is the lane's bottleneck: its places were full, and the rate now in
        force would fill them as well, by Little's law."""
        concurrency, allowed = self.downstream.limits.concurrency, self.allowed_per_second
        if allowed is None:
            return True
        if self.sample is None or self.sample.is_old or concurrency is None:
            return False
        held, full = self.sample.held_mean, _FULL * concurrency
        return held >= full and allowed * held >= full * self.sample.per_second

    @property
    def per_second(self) -> float | None:
        """Calls released a second while there is a backlog; None: can't be told."""
        measured, allowed = self._measured, self.allowed_per_second
        if allowed is None or (self.is_full and measured is not None):
            return measured if allowed is None or measured is None else min(measured, allowed)
        return allowed

    @property
    def _measured(self) -> float | None:
        """Calls released a second, measured; None: never, or so long ago that the downstream may be another by now."""
        sample = self.sample
        return sample.per_second if sample and not sample.is_old and sample.per_second > 0 else None

    @property
    def run_time(self) -> timedelta:
        """The mean duration of an attempt, by Little's law on the smoothed figures; zero while they are not known."""
        if self.sample is None or self.sample.per_second <= 0:
            return timedelta(0)
        return timedelta(seconds=self.sample.held_mean / self.sample.per_second)

    def backlog_of(self, client_id: str) -> int:
        """How many jobs of the client were queued at the sample."""
        return self.sample.by_client.get(client_id, 0) if self.sample else 0

    def position_of(self, run_at: datetime, behind: int = 0) -> int:
        """How many jobs go before one with this run_at.

        By the sample's marks, plus `behind` jobs known to have come before it since, less those released since.
        """
        if self.sample is None:
            return behind
        released_since = max(0, self.downstream.released_jobs - self.sample.released_jobs)
        # Without marks nothing waited: what the sample counted was released before it could be marked.
        rank = round(self._rank(run_at)) if self.sample.marks else 0
        return max(0, rank + behind - released_since)

    def finds_free_place(self, queue: str, position: int) -> bool:
        """Whether a job behind so many would go at once: downstream and workers have places, and no rate holds it."""
        before = self.calls_for(position)
        is_first = before == 0 or self.allowed_per_second is None
        return is_first and before < self._free_places(queue)

    def start_of(
        self,
        run_at: datetime,
        now: datetime,
        *,
        queue: str | None = None,
        behind: int = 0,
        marks: Sequence[Mark] = (),
    ) -> datetime | None:
        """When a job of this run_at will be released; None: can't be told.

        `queue` None: as if no place were free. `behind` as in `position_of`. `marks`: of some of those, when each may
        run, which may be later than the lane was looked at, and its rank.
        """
        if self.downstream.paused:
            return None
        return self.start_if_resumed(run_at, now, queue=queue, behind=behind, marks=marks)

    def start_if_resumed(
        self, run_at: datetime, now: datetime, *, queue: str | None, behind: int, marks: Sequence[Mark] = ()
    ) -> datetime | None:
        """As `start_of`, were a lane that an operator has paused resumed now."""
        before, free = self.calls_for(self.position_of(run_at, behind)), self._free_places(queue)
        seconds = self._seconds_of(before, free)
        if seconds is None:
            return None
        seen_at = self.downstream.seen_at
        first = max(seen_at, self.downstream.next_slot_at, self.downstream.rests_until or seen_at)
        by_pace = first + timedelta(seconds=seconds)
        quotas = rate_limit.quota_wait(
            self._allowance, self.downstream.pace, now=to_microseconds(seen_at), behind=before
        )
        behind_those = [
            at + timedelta(seconds=self._seconds_of(self.calls_for(behind - rank), free) or 0.0) for at, rank in marks
        ]
        goes_by_places = self.allowed_per_second is None and before < free
        behind_later_ones = None if goes_by_places else self._start_behind_later_ones(run_at, behind)
        by_others = [*behind_those, behind_later_ones or by_pace]
        return max(by_pace, *by_others, seen_at + timedelta(microseconds=quotas), run_at, now)

    def _seconds_of(self, calls: int, free: int) -> float | None:
        """Seconds in which so many calls are released, the first ones to `free` places; None: can't be told."""
        measured, allowed = self._measured, self.allowed_per_second
        by_rate = calls / allowed if allowed else 0.0
        if calls <= free or not calls or not self.is_full:
            return by_rate
        if measured is None:
            return by_rate if allowed else None
        return max(by_rate, (calls - free) / measured)

    def _free_places(self, queue: str | None) -> int:
        """How many calls could begin at once beside those that are open; 0: none, or it is not known."""
        concurrency, held = self.downstream.limits.concurrency, self.sample.held if self.sample else 0
        if queue is None or self.worker_sizes is None or self.downstream.is_broken:
            return 0
        of_workers = self.worker_sizes.get(queue, 0) - self.held_in_all
        return max(0, of_workers if concurrency is None else min(of_workers, concurrency - held))

    def _start_behind_later_ones(self, run_at: datetime, behind: int) -> datetime | None:
        """When jobs before it that may not run yet will be gone; None: there are none, or can't be told."""
        per_second = self.jobs_per_second
        run_ats, _ = self._marks
        after = bisect.bisect_left(run_ats, run_at)
        if not per_second or not after or run_ats[after - 1] <= self.downstream.seen_at:
            return None
        return self._free_at_rank_0[after - 1] + timedelta(seconds=(self._rank(run_at) + behind) / per_second)

    @cached_property
    def _free_at_rank_0(self) -> list[datetime]:
        """For each mark: the latest of its instant and those before it, each less the time that its rank takes."""
        each = (
            run_at - timedelta(seconds=before / (self.jobs_per_second or 1.0))
            for run_at, before in zip(*self._marks, strict=True)
        )
        return list(itertools.accumulate(each, max))

    @cached_property
    def _allowance(self) -> rate_limit.Allowance:
        limits = self.downstream.limits
        return allowance_of(limits.rates, limits.burst, limits.jitter)

    @cached_property
    def _marks(self) -> tuple[list[datetime], list[int]]:
        """The sample's marks, and one for all that waited at its end."""
        sample = self.sample
        if sample is None or not sample.marks:
            return [], []
        marks = [*sample.marks, (max(sample.taken_at, sample.marks[-1][0] + MICROSECOND), sample.backlog)]
        return [run_at for run_at, _ in marks], [before for _, before in marks]

    def _rank(self, run_at: datetime) -> float:
        """How many of the jobs that waited at the sample go before one with this run_at: interpolated between marks."""
        run_ats, before = self._marks
        after = bisect.bisect_right(run_ats, run_at)
        if after in (0, len(run_ats)):
            return before[-1] if after else 0
        left, right = run_ats[after - 1], run_ats[after]
        if left == run_at:
            return before[after - 1]
        # + 1: the job at the mark goes before it, too.
        first = min(before[after - 1] + 1, before[after])
        return first + (run_at - left) / (right - left) * (before[after] - first)
