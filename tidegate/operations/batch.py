"""How an operation takes several jobs in one call, as it is declared. Pure."""

from dataclasses import dataclass
from datetime import timedelta

MOST_JOBS = 1000
"""All members of a batch are claimed and recorded together, and more of them make a call no cheaper."""
LONGEST_LINGER = timedelta(minutes=1)
LARGEST = 64 * 1024 * 1024
"""What may be declared of `max` and `max_bytes`; a call's inputs are in memory together, and so is its answer."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How many jobs one call may do.

    `max`: the most jobs. `linger`: how long a job waits for company where no rate paces the calls. `max_bytes`: the
    most bytes of all inputs of one call together.
    """

    max: int
    linger: timedelta = timedelta(0)
    max_bytes: int = 4 * 1024 * 1024
