"""The command line of a Celery worker of one queue."""

import sys

from tidegate.operations.queues import Pool

POOLS = {Pool.THREADS: "threads", Pool.PROCESSES: "prefork"}
"""What Celery calls them."""


def worker_command(name: str, queue: str, pool: Pool, *, concurrency: int, log_level: str) -> tuple[str, ...]:
    """The command that starts it. `name`: of the worker, for logs and Flower: `io-1@tidegate`."""
    return (
        *(sys.executable, "-m", "celery", "--quiet", "-A", "tasks.app", "worker", "--pool", POOLS[pool]),
        *("--concurrency", str(concurrency), "-Q", queue, "-n", name),
        *("--without-gossip", "--without-mingle", "--loglevel", log_level),
    )
