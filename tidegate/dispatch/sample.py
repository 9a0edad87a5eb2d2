"""A sample: one measurement of a lane's queue, by which web processes forecast and admit. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

Mark: TypeAlias = tuple[datetime, int]
"""An instant, and how many jobs may run before it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement of a lane's queue. `marks`: (run_at, jobs queued before it), rising.

    `released`, `companions`: as of its Downstream. `per_second`: calls released while jobs
    waited that could go, smoothed; `held_mean`: places taken meanwhile; `fill`: jobs in a call while there were more.
    Zero: not known yet. `is_old`: these three are of a time long ago, and nothing waited since. `settled`: an instant
    before which all that could run was sure to be seen, and how many those were; None: count them all.
    """

    downstream: str
    taken_at: datetime
    backlog: int
    by_client: dict[str, int]
    marks: tuple[Mark, ...]
    held: int = 0
    released: int
    companions: int = 0
    per_second: float = 0.0
    held_mean: float = 0.0
    fill: float = 0.0
    is_old: bool = False
    settled: Mark | None = None

    @property
    def released_jobs(self) -> int:
        """How many jobs were released ever."""
        return self.released + self.companions

    def with_figures_of(self, other: "Sample") -> "Sample":
        """This count, with what only samples know, smoothed over time."""
        names = ("held", "per_second", "held_mean", "fill", "is_old")
        return replace(self, **{name: getattr(other, name) for name in names})

    @property
    def has_due(self) -> bool:
        """Whether the first of the jobs could go by its own run_at."""
        # The mark of `settled` has rank 0 as well where nothing was settled, and lies before any job then.
        first = max((run_at for run_at, rank in self.marks if rank == 0), default=None)
        return first is not None and first <= self.taken_at
