"""When to try again after an attempt that failed."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random, SystemRandom

_RANDOM = SystemRandom()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently an operation is tried.

    `attempts` counts the first one. `on` are the statuses of a downstream that are worth another attempt.
    """

    attempts: int = 3
    delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(seconds=30)
    on: frozenset[int] = frozenset({408, 425, 429, 500, 502, 503, 504})

    def delay_after(self, attempt: int, random: Random = _RANDOM) -> timedelta:
        """How long to wait after this failed attempt (1 is the first): exponential, with full jitter.

        Anything between nothing and the exponential bound, so that jobs that failed together do not come back
        together. Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        doublings: int = 2 ** min(attempt - 1, 30)
        # Divided, for multiplied it could exceed what a timedelta holds.
        is_beyond = self.delay >= self.max_delay / doublings
        return (self.max_delay if is_beyond else self.delay * doublings) * random.random()
