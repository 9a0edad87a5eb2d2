"""The retry policy: how often an attempt is repeated, and after which delay (exponential backoff with jitter)."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random, SystemRandom

_RANDOM = SystemRandom()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often an operation is tried, and how long to wait in between.

    `attempts` counts the first one. `on` are the statuses of a downstream that are worth another attempt.
    """

    attempts: int = 3
    delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(seconds=30)
    on: frozenset[int] = frozenset({408, 425, 429, 500, 502, 503, 504})

    def delay_after(self, attempt: int, random: Random = _RANDOM) -> timedelta:
        """The delay after this failed attempt (1 is the first): exponential backoff with full jitter.

        Anything between nothing and the exponential bound, so that jobs that failed together do not come back
        together. Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        doublings: int = 2 ** min(attempt - 1, 30)
        # max_delay is divided: delay multiplied could overflow a timedelta.
        is_beyond = self.delay >= self.max_delay / doublings
        return (self.max_delay if is_beyond else self.delay * doublings) * random.random()
