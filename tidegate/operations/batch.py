"""How an operation takes several jobs in one call, as it is declared. Pure."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How many jobs one call may do.

    `max`: the most jobs. `linger`: how long a job waits for company where no rate paces the calls. `max_bytes`: the
    most bytes of all inputs of one call together; an input that is larger by itself goes alone.
    """

    max: int
    linger: timedelta = timedelta(0)
    max_bytes: int = 4 * 1024 * 1024
