"""How many worker processes a queue may have: a fixed number, or a range within which the supervisor goes."""

import re
from dataclasses import dataclass

MOST = 1000
_PATTERN = re.compile(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?")


@dataclass(frozen=True, kw_only=True)
class WorkerRange:
    """So many workers at least and at most, 1 to 1,000.

    Never none: the job that comes first would have to wait until a worker has started.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        """Raises ValueError for a range that can't be."""
        if not 1 <= self.lowest <= self.highest <= MOST:
            raise ValueError(f"{self}: from 1 to {MOST:,} workers, the smaller number first")

    @classmethod
    def parse(cls, text: str) -> "WorkerRange":
        """Reads "3" (always three) and "1-4" (one, and up to four while they are wanted). ValueError for others."""
        read = _PATTERN.fullmatch(text)
        if not read:
            raise ValueError(f'{text!r} is no number of workers; write "3", or "1-4" for one to four')
        return cls(lowest=int(read[1]), highest=int(read[2] or read[1]))

    def __str__(self) -> str:
        return str(self.lowest) if self.is_fixed else f"{self.lowest}-{self.highest}"

    @property
    def is_fixed(self) -> bool:
        """Whether the number never changes."""
        return self.lowest == self.highest

    def nearest(self, wanted: int) -> int:
        """The number within the range that is nearest to this one."""
        return min(max(wanted, self.lowest), self.highest)
