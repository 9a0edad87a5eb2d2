"""The declared limits of a downstream: what it can take, and how its calls are shared."""

from dataclasses import dataclass

from tidegate.operations.sharing import Sharing


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The declared limits of one downstream. No rates: calls go as fast as workers are.

    `breaker_after`: failures in a row that open its breaker; 0: it has none. `jitter`: microseconds by which the time
    that a call takes to reach it varies. `sharing`: how its calls are shared by partitions; None: they are not.
    """

    name: str
    rates: tuple[str, ...] = ()
    burst: int = 1
    concurrency: int | None = None
    breaker_after: int = 10
    jitter: int = 0
    sharing: Sharing | None = None
